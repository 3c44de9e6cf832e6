package api

import "strings"

// nearestBytesMax is the longest word that is compared; none of ours is longer.
const nearestBytesMax = 64

// Nearest is the candidate closest to name, or "" when none is close.
func Nearest(name string, candidates []string) string {
	if len(name) > nearestBytesMax {
		return ""
	}
	best, bestAt := "", max(2, (len(name)+1)/3)+1
	for _, c := range candidates {
		if strings.HasPrefix(c, name) && len(name) > 1 {
			return c
		}
		if d := distance(name, c); d < bestAt && d < max(len(c)-1, 1) {
			best, bestAt = c, d
		}
	}
	return best
}

// distance is how many letters must be added, removed, changed or swapped with
// their neighbour to make b of a.
func distance(a, b string) int {
	prev2, prev, row := []int{}, make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], prev2[j-2]+1)
			}
		}
		prev2, prev, row = prev, row, make([]int, len(b)+1)
	}
	return prev[len(b)]
}
