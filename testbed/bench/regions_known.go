package bench

import (
	"math"
	"runtime"

	"github.com/hansa-mesh/hansa/placement"
)

// What it takes a peer to spread one change as gossip does today: it sends a notice on
// four times for each digit of the number of peers (memberlist's rule, as gossip tunes
// it), and the whole once, over a stream.
const (
	noticeBytes  = 151
	noticeCopies = 4
	streamBytes  = 200 // beside the whole: question, packets, acknowledgements
)

func spreadBytes(peers, whole int) float64 {
	return noticeCopies*math.Ceil(math.Log10(float64(peers+1)))*noticeBytes + float64(whole) + streamBytes
}

// known is the memory that so many digests, and folds, take once they were read.
func known(sites []*regionSite, n int, folds []placement.RegionDigest) float64 {
	var digests, others [][]byte
	for _, s := range sites[:n] {
		digests = append(digests, placement.Encode(s.near.digest))
	}
	for _, f := range folds {
		others = append(others, placement.Encode(f))
	}
	before := heapBytes()
	held, heldFolds := make([]placement.Digest, len(digests)), make([]placement.RegionDigest, len(others))
	for i, b := range digests {
		_ = placement.Decode(b, &held[i]) // as Encode wrote it
	}
	for i, b := range others {
		_ = placement.Decode(b, &heldFolds[i])
	}
	after := heapBytes()
	runtime.KeepAlive(held)
	runtime.KeepAlive(heldFolds)
	return float64(after - before)
}

func heapBytes() int64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}
