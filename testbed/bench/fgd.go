package bench

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/hansa-mesh/hansa/placement"
)

// This file is the rule that the published figures are of, Fragmentation Gradient
// Descent (Weng et al., "Beware of Fragmentation", USENIX ATC 2023), so that a
// replay can be held against them. It is given what is typical of the requests
// beforehand, and sees all hosts as they are.

// typical is a kind of request and its share of all.
type typical struct {
	request Request
	share   float64
}

// Bounds of what is taken for typical: so many kinds at most, and the most frequent
// ones that together are that share of the requests.
const (
	typicalMax   = 64
	typicalShare = 0.95
)

// typicalOf is the most frequent kinds of requests. Memory is left out, as it is in
// the paper.
func typicalOf(requests []Request) []typical {
	counts := map[string]int{}
	kinds := map[string]Request{}
	for _, r := range requests {
		r.Need.Memory = 0
		key := r.Need.CPU.String() + " " + r.Need.GPU.String() + " " + strings.Join(r.Models, "|")
		counts[key]++
		kinds[key] = r
	}
	keys := make([]string, 0, len(counts))
	for key := range counts {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b string) int { return cmp.Or(counts[b]-counts[a], cmp.Compare(a, b)) })
	var out []typical
	sum := 0
	for _, key := range keys {
		if len(out) == typicalMax || float64(sum) >= typicalShare*float64(len(requests)) {
			break
		}
		sum += counts[key]
		out = append(out, typical{kinds[key], float64(counts[key])})
	}
	for i := range out {
		out[i].share /= float64(sum)
	}
	return out
}

// fragments is how many GPUs, in thousandths, of what is free on a host a request
// drawn from the typical ones can't use.
func fragments(d *placement.Digest, kinds []typical) float64 {
	var free placement.GPUShare
	for _, g := range d.GPUs {
		free += g.Free
	}
	if free == 0 {
		return 0
	}
	sum := 0.0
	for i := range kinds {
		lost := free
		if r := &kinds[i].request; r.Need.GPU.Count > 0 && r.fits(d) {
			lost = 0
			for _, g := range d.GPUs {
				if g.Free < min(r.Need.GPU.Count, wholeGPU) {
					lost += g.Free
				}
			}
		}
		sum += kinds[i].share * float64(lost)
	}
	return sum
}

// after is a digest with a request taken off, its devices chosen as a ledger does.
func after(d *placement.Digest, r Request, gpus []placement.FreeGPU) placement.Digest {
	out := *d
	out.Free = d.Free.Sub(r.Need)
	out.GPUs = append(gpus[:0], d.GPUs...)
	need := r.Need.GPU.Count
	if need > 0 && need < wholeGPU {
		best := -1
		for i, g := range out.GPUs {
			if g.Free >= need && (best < 0 || g.Free < out.GPUs[best].Free) {
				best = i
			}
		}
		out.GPUs[best].Free -= need
		return out
	}
	for i := range out.GPUs {
		if need > 0 && out.GPUs[i].Free == wholeGPU {
			out.GPUs[i].Free = 0
			need -= wholeGPU
		}
	}
	return out
}

// descent chooses the host on which the fragments grow least. As in the paper's
// program, that is told apart in a hundred steps, and of equal hosts the first is
// chosen.
func (m *mesh) descent(r Request) (grant, bool) {
	best, most := -1, 0.0
	var gpus [64]placement.FreeGPU
	for n, h := range m.hosts {
		if !r.fits(&h.now) {
			continue
		}
		if h.fragmentsOf != h.now.Sequence {
			h.fragments, h.fragmentsOf = fragments(&h.now, m.typical), h.now.Sequence
		}
		then := after(&h.now, r, gpus[:0])
		grown := (fragments(&then, m.typical) - h.fragments) / float64(wholeGPU)
		if score := math.Floor(100 / (1 + math.Exp(grown))); best < 0 || score > most {
			best, most = n, score
		}
	}
	if best < 0 {
		return grant{}, false
	}
	return m.give(best, r)
}
