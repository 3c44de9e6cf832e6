package placement

import (
	"bytes"
	"cmp"
	"fmt"
	"hash/fnv"
	"math"
	"math/bits"
	"slices"
)

// This file folds the digests of a region's peers into one of bounded size, which
// tells the other regions what it could take. docs/SCALE.md says what for; no daemon
// sends folds in this release.

// RegionDigest is what a region's peers say of themselves, folded. Sums are exact.
// What it says of the slots that fit is never more than what the digests said: where
// it has to leave something out, it leaves out room. Folds of parts that share no
// peer make the fold of the whole by Merge, in any order.
type RegionDigest struct {
	Region   string       `json:"region"`
	Peers    int          `json:"peers"` // that take work
	Out      int          `json:"out"`   // that take none: dead, cordoned, without a disk to write to
	Capacity Resources    `json:"capacity"`
	Free     Resources    `json:"free"`
	Slots    int          `json:"slots"` // held now
	Cheapest float64      `json:"cheapest"`
	Dearest  float64      `json:"dearest"`
	Oldest   int64        `json:"oldest"` // milliseconds: the age of the oldest digest when it was folded
	Kinds    []RegionKind `json:"kinds"`  // in the order of their keys; of others only the sums above are known
}

// RegionKind is the peers of a region that can run the same work and have the same
// labels, but for those labels that name one site or peer.
type RegionKind struct {
	Drivers  []string          `json:"drivers"`
	Fences   []string          `json:"fences,omitempty"`
	Arch     []string          `json:"arch"`
	Models   []string          `json:"models,omitempty"` // of GPUs; each of the peers has all of them
	Labels   map[string]string `json:"labels,omitempty"`
	Peers    int               `json:"peers"` // those of several kinds of hosts with one of these, or with none
	Capacity Resources         `json:"capacity"`
	Free     Resources         `json:"free"`
	Cheapest float64           `json:"cheapest"`
	Shapes   []ShapeFit        `json:"shapes"` // the common ones: how many slots fit at all peers
	Pieces   []Piece           `json:"pieces"` // the largest first

	key []byte
}

// Piece is peers of a kind that have about as much left: within a factor of two.
type Piece struct {
	Class [3]uint8  `json:"class"` // bits of the free CPU and memory, and of the number of free GPUs
	Peers int       `json:"peers"`
	Least Resources `json:"least"`           // each of them has that much, all at once
	Whole int       `json:"whole,omitempty"` // GPUs that are free at each, of each model
	Share GPUShare  `json:"share,omitempty"` // left of one GPU at each, of each model
}

// Bounds of a fold. What is over them is left out by an order that has nothing to do
// with what else there is, so that folds of folds are folds of all.
const (
	regionKindsMax    = 16
	regionKindMax     = 1 << 10 // bytes of what a kind has in common
	regionPiecesMax   = 24
	regionShapesMax   = 8
	regionOldestMax   = 1 << 40 // milliseconds
	regionFits        = math.MaxInt32
	regionResourceMax = math.MaxInt64 / 4
)

// FoldDigests folds what is known of a region's peers. The order of the candidates
// does not matter; one that is dead or takes no work is counted and no more.
func FoldDigests(region string, candidates []Candidate) RegionDigest {
	r := RegionDigest{Region: region}
	kinds := map[string]*RegionKind{}
	for _, c := range candidates {
		d := c.Digest.bounded()
		if !c.Alive || d.Full != "" {
			r.Out++
			continue
		}
		r.add(d, c.Age)
		for _, k := range regionKindsOf(d) {
			if have := kinds[string(k.key)]; have != nil {
				have.take(k)
			} else if len(k.key) <= regionKindMax {
				kinds[string(k.key)] = &k
			}
		}
	}
	for _, key := range sortedKeys(kinds) {
		r.Kinds = append(r.Kinds, *kinds[key])
	}
	r.trim()
	return r
}

// add counts one peer.
func (r *RegionDigest) add(d Digest, age int64) {
	if r.Peers == 0 {
		r.Cheapest, r.Dearest = d.Price, d.Price
	}
	r.Cheapest, r.Dearest = min(r.Cheapest, d.Price), max(r.Dearest, d.Price)
	r.Peers++
	r.Slots += min(max(0, d.Slots), peerSlotsMax)
	r.Capacity, r.Free = sumUp(r.Capacity, d.Capacity), sumUp(r.Free, d.Free)
	r.Oldest = max(r.Oldest, min(age, regionOldestMax))
}

// Merge is the fold of what both were folded from. They must share no peer.
func (r RegionDigest) Merge(o RegionDigest) RegionDigest {
	out := RegionDigest{
		Region: r.Region, Peers: r.Peers + o.Peers, Out: r.Out + o.Out, Slots: r.Slots + o.Slots,
		Capacity: sumUp(r.Capacity, o.Capacity), Free: sumUp(r.Free, o.Free), Oldest: max(r.Oldest, o.Oldest),
		Cheapest: min(r.Cheapest, o.Cheapest), Dearest: max(r.Dearest, o.Dearest),
	}
	if r.Peers == 0 {
		out.Cheapest, out.Dearest = o.Cheapest, o.Dearest
	} else if o.Peers == 0 {
		out.Cheapest, out.Dearest = r.Cheapest, r.Dearest
	}
	for _, k := range slices.Concat(r.Kinds, o.Kinds) {
		k.Shapes, k.Pieces, k.key = slices.Clone(k.Shapes), slices.Clone(k.Pieces), k.common()
		at, have := slices.BinarySearchFunc(out.Kinds, k.key, func(a RegionKind, key []byte) int { return bytes.Compare(a.key, key) })
		if have {
			out.Kinds[at].take(k)
		} else {
			out.Kinds = slices.Insert(out.Kinds, at, k)
		}
	}
	out.trim()
	return out
}

// trim holds a fold to its bounds.
func (r *RegionDigest) trim() {
	r.Kinds = r.Kinds[:min(len(r.Kinds), regionKindsMax)]
	for i := range r.Kinds {
		k := &r.Kinds[i]
		k.Shapes = k.Shapes[:min(len(k.Shapes), regionShapesMax)]
		k.Pieces = k.Pieces[:min(len(k.Pieces), regionPiecesMax)]
		k.key = nil
	}
}

// siteLabels are the labels of a digest that name one site or one peer: with them
// every peer would be a kind of its own.
var siteLabels = []string{"site", "peer"}

// regionKindsOf is the kinds of one peer: of many hosts those of its pools. It counts
// with the first, and with none where it does not tell all of its hosts: so there may
// be more than the kinds say.
func regionKindsOf(d Digest) []RegionKind {
	count, whole := 1, d
	if len(d.Unsaid) > 0 || slices.ContainsFunc(d.Pools, func(p Pool) bool { return p.Mixed }) {
		count = 0
	}
	if len(d.Pools) == 0 {
		k := regionKindOf(d)
		k.Peers, k.Pieces[0].Peers = count, count
		return []RegionKind{k}
	}
	var out []RegionKind
	for _, p := range d.Pools {
		if p.Mixed {
			continue
		}
		d.Labels, d.Drivers, d.Fences, d.Arch = over(p.Labels, whole.Labels), p.Drivers, p.Fences, nil
		if p.Arch != "" {
			d.Arch = []string{p.Arch}
		}
		d.Capacity, d.Free, d.Largest, d.Fits = p.Capacity, p.Free, p.Largest, p.Fits
		k, most := regionKindOf(d), 0
		for _, g := range p.GPUs {
			k.Models, most = append(k.Models, g.Model), max(most, g.Most)
		}
		k.Models = sortedSet(k.Models)
		k.Peers, k.Pieces[0].Peers, count = count, count, 0
		k.Pieces[0].Class[2] = uint8(bits.Len(uint(most)))
		k.key = k.common()
		out = append(out, k)
	}
	return out
}

// regionKindOf is the kind of one peer.
func regionKindOf(d Digest) RegionKind {
	k := RegionKind{
		Drivers: sortedSet(d.Drivers), Fences: sortedSet(d.Fences), Arch: sortedSet(d.Arch),
		Peers: 1, Capacity: d.Capacity, Free: d.Free, Cheapest: d.Price,
	}
	for name, value := range d.Labels {
		if !slices.Contains(siteLabels, name) {
			if k.Labels == nil {
				k.Labels = map[string]string{}
			}
			k.Labels[name] = value
		}
	}
	piece, largest := Piece{Peers: 1, Least: d.Free}, d.Free
	if d.Hosts > 1 { // no slot has what is free on several together
		piece.Least, largest = Resources{}, d.Largest
	}
	piece.Whole, piece.Share, k.Models = leastGPUs(d.GPUs)
	free := 0 // devices, of all models
	for _, g := range d.GPUs {
		if g.Free == wholeGPU {
			free++
		}
	}
	piece.Class = [3]uint8{uint8(bits.Len64(uint64(largest.CPU))), uint8(bits.Len64(uint64(largest.Memory))), uint8(bits.Len(uint(free)))}
	k.Pieces = []Piece{piece}
	for _, shape := range commonShapes {
		fit := ShapeFit{Shape: shape, Count: piece.Least.Fits(shape)}
		for _, told := range d.Fits {
			if told.Shape == shape {
				fit.Count = min(d.Free.Fits(shape), told.Count)
			}
		}
		k.Shapes = append(k.Shapes, fit)
	}
	k.key = k.common()
	return k
}

// common is what peers of a kind have in common, as bytes.
func (k *RegionKind) common() []byte {
	return Encode([]any{k.Drivers, k.Fences, k.Arch, k.Models, k.Labels})
}

func sortedSet(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// leastGPUs is what is left of devices of each model at least.
func leastGPUs(free []FreeGPU) (whole int, share GPUShare, models []string) {
	most, count := map[string]GPUShare{}, map[string]int{}
	for _, f := range free {
		most[f.Model] = max(most[f.Model], f.Free)
		if f.Free == wholeGPU {
			count[f.Model]++
		}
	}
	models = sortedKeys(most)
	for i, m := range models {
		if i == 0 {
			whole, share = count[m], most[m]
		}
		whole, share = min(whole, count[m]), min(share, most[m])
	}
	return whole, share, models
}

// take adds peers of the same kind.
func (k *RegionKind) take(o RegionKind) {
	k.Peers += o.Peers
	k.Capacity, k.Free = sumUp(k.Capacity, o.Capacity), sumUp(k.Free, o.Free)
	k.Cheapest = min(k.Cheapest, o.Cheapest)
	for _, f := range o.Shapes {
		at, have := slices.BinarySearchFunc(k.Shapes, f, compareShapes)
		if have {
			k.Shapes[at].Count = min(k.Shapes[at].Count+f.Count, regionFits)
		} else {
			k.Shapes = slices.Insert(k.Shapes, at, f)
		}
	}
	for _, p := range o.Pieces {
		at, have := slices.BinarySearchFunc(k.Pieces, p, comparePieces)
		if !have {
			k.Pieces = slices.Insert(k.Pieces, at, p)
			continue
		}
		q := &k.Pieces[at]
		q.Peers += p.Peers
		q.Least = Resources{CPU: min(q.Least.CPU, p.Least.CPU), Memory: min(q.Least.Memory, p.Least.Memory), Disk: min(q.Least.Disk, p.Least.Disk)}
		q.Whole, q.Share = min(q.Whole, p.Whole), min(q.Share, p.Share)
	}
}

func compareShapes(a, b ShapeFit) int {
	x, y := a.Shape, b.Shape
	return cmp.Or(cmp.Compare(x.CPU, y.CPU), cmp.Compare(x.Memory, y.Memory), cmp.Compare(x.Disk, y.Disk),
		cmp.Compare(x.GPU.Count, y.GPU.Count), cmp.Compare(x.GPU.Model, y.GPU.Model))
}

// comparePieces has the largest first.
func comparePieces(a, b Piece) int {
	sum := func(p Piece) int { return int(p.Class[0]) + int(p.Class[1]) + int(p.Class[2]) }
	return cmp.Or(cmp.Compare(sum(b), sum(a)), bytes.Compare(b.Class[:], a.Class[:]))
}

// sumUp is a + b, at most what a sum of folds may be: so it is the same in any order.
func sumUp(a, b Resources) Resources {
	return Resources{
		CPU: min(a.CPU+b.CPU, regionResourceMax), Memory: min(a.Memory+b.Memory, regionResourceMax), Disk: min(a.Disk+b.Disk, regionResourceMax),
	}
}

// fits is for how many slots there is room for certain, by what the digests said,
// and whether there may be for one more.
func (k *RegionKind) fits(slot Resources) (sure int, may bool) {
	if slot.GPU.Count > 0 && !slices.ContainsFunc(k.Models, slot.GPU.fits) {
		return 0, false
	}
	counted := 0
	for _, p := range k.Pieces {
		counted += p.Peers
		one := p.slots(slot)
		sure = min(sure+min(one, regionFits/max(1, p.Peers))*p.Peers, regionFits)
		may = may || p.may(slot)
	}
	for _, f := range k.Shapes {
		if f.Shape == slot {
			return f.Count, false // it is known exactly
		}
	}
	return sure, may || counted < k.Peers
}

// slots is how many fit each of the peers at least.
func (p *Piece) slots(slot Resources) int {
	n := p.Least.Fits(slot)
	switch share := slot.GPU.Count; {
	case share <= 0:
	case share > wholeGPU:
		n = min(n, p.Whole/int(share/wholeGPU))
	case p.Whole > 0:
		n = min(n, p.Whole*int(wholeGPU/share))
	default:
		n = min(n, int(p.Share/share))
	}
	return n
}

// may says whether one of the peers may have room for a slot, as far as the class
// tells.
func (p *Piece) may(slot Resources) bool {
	return bits.Len64(uint64(max(0, slot.CPU))) <= int(p.Class[0]) && bits.Len64(uint64(max(0, slot.Memory))) <= int(p.Class[1]) &&
		(slot.GPU.Count <= wholeGPU || bits.Len(uint(slot.GPU.Count/wholeGPU)) <= int(p.Class[2]))
}

// Relays are the peers that speak for a region, in order: whoever knows the same
// peers has the same order, and when one is gone the next is there (rendezvous
// hashing: Thaler and Ravishankar, 1998).
func Relays(region string, peers []PeerID, n int) []PeerID {
	rank := func(id PeerID) uint64 {
		h := fnv.New64a()
		fmt.Fprintf(h, "%s\x00%s", region, id)
		return h.Sum64()
	}
	peers = slices.Clone(peers)
	slices.SortFunc(peers, func(a, b PeerID) int { return cmp.Or(cmp.Compare(rank(b), rank(a)), cmp.Compare(a, b)) })
	return peers[:min(len(peers), max(0, n))]
}
