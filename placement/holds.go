package placement

import (
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// holdsMax bounds what is remembered of the blobs of one peer.
const holdsMax = 1 << 16

// setHolds takes what a peer says it holds.
func (m *members) setHolds(ev Holds) {
	blobs := slices.Clone(ev.Blobs[:min(len(ev.Blobs), holdsMax)])
	if !slices.IsSorted(blobs) {
		slices.Sort(blobs)
	}
	m.get(ev.Peer).holds, m.tellHolds = blobs, true
}

// holdsBlob says whether a peer said that it holds a blob.
func (p *member) holdsBlob(digest string) bool {
	prefix, ok := BlobPrefix(digest)
	if !ok {
		return false
	}
	_, found := slices.BinarySearch(p.holds, prefix)
	return found
}

// BlobPrefix is the first 32 bits of a digest, by which Holds names it.
func BlobPrefix(digest string) (uint32, bool) {
	_, digits, _ := strings.Cut(digest, ":")
	if len(digits) < 8 || hex.DecodedLen(len(digits)) < 4 {
		return 0, false
	}
	n, err := strconv.ParseUint(digits[:8], 16, 32)
	return uint32(n), err == nil
}
