package placement

import (
	"cmp"
	"fmt"
	"slices"
)

// RegionCandidate is a region as a planner sees it from another one.
type RegionCandidate struct {
	Digest RegionDigest
	Age    int64 // milliseconds since it was folded, as far as is known
	RTT    int64 // microseconds from the planner, -1 when unknown
	Alive  bool  // somebody there answers
}

// RegionPlan says which regions are to place which slots.
type RegionPlan struct {
	Assign     map[string]Slots
	Unplaced   Slots
	Considered []Considered // each kind of peers of each region, best first
	Outcome    string       // in words
	// May is the regions that may have room for a slot and whose folds do not tell
	// for certain, the nearest first: to be asked for what is unplaced.
	May []string
}

// PlanRegions spreads slots over regions by their folds: each kind of peers of a
// region is a candidate of Plan, with the same score. A relay there plans again, over
// its peers. Placed, Refused and Near of the input name regions in place of peers, its
// candidates are not looked at.
func PlanRegions(in PlanInput, regions []RegionCandidate) RegionPlan {
	comp := in.App.Components[in.Component]
	slot := comp.Need()
	if in.Kept {
		slot = comp.Takes()
	}
	bySite := namesSites(comp.Place.Where)
	inside := in
	inside.Candidates, inside.Travel = nil, nil
	inside.Placed, inside.Refused, inside.Near = map[PeerID]int{}, map[PeerID]string{}, map[PeerID]Distance{}
	regionOf := map[PeerID]string{}
	may := map[PeerID]bool{}
	for _, r := range regions {
		name := PeerID(r.Digest.Region)
		for i := range r.Digest.Kinds {
			k := &r.Digest.Kinds[i]
			id := PeerID(fmt.Sprintf("%s\x00%d", name, i))
			sure, more := k.fits(slot)
			if bySite {
				sure, more = 0, more || sure > 0
			}
			regionOf[id], may[id] = string(name), more
			inside.Candidates = append(inside.Candidates, r.candidate(id, k, slot, sure))
			if why := in.Refused[name]; why != "" {
				inside.Refused[id] = why
			} else if sure == 0 && k.Free.Fits(slot) > 0 {
				inside.Refused[id] = "no site of it is known to have room for a slot"
			}
			if d, ok := in.Near[name]; ok {
				inside.Near[id] = d
			}
			if i == 0 { // its slots are counted once
				inside.Placed[id] = in.Placed[name]
			}
		}
	}
	res := Plan(inside)
	out := RegionPlan{Assign: map[string]Slots{}, Unplaced: res.Unplaced, Considered: res.Considered, Outcome: res.Outcome}
	for id, slots := range res.Assign {
		out.Assign[regionOf[id]] = out.Assign[regionOf[id]].Union(slots)
	}
	for i := range out.Considered {
		out.Considered[i].Peer = PeerID(regionOf[out.Considered[i].Peer])
	}
	out.May = mayHaveRoom(in, regions, inside.Candidates, regionOf, may)
	return out
}

// candidate is a kind of peers of a region as if it were one peer with the room of
// all of them.
func (r RegionCandidate) candidate(id PeerID, k *RegionKind, slot Resources, sure int) Candidate {
	d := Digest{
		Peer: PeerRef{Peer: id}, Name: r.Digest.Region, Site: SiteID(r.Digest.Region), Labels: k.Labels,
		Drivers: k.Drivers, Fences: k.Fences, Arch: k.Arch, Capacity: k.Capacity, Free: k.Free,
		Fits: []ShapeFit{{Shape: slot, Count: sure}}, Price: k.Cheapest,
	}
	if slot.GPU.Count > 0 {
		// Devices for so many slots: how they lie at its peers is counted in sure.
		each := int(max(1, slot.GPU.Count/wholeGPU))
		for _, model := range k.Models {
			if slot.GPU.fits(model) {
				for range min(gpusMax, sure) * each {
					d.GPUs = append(d.GPUs, FreeGPU{Model: model, Free: wholeGPU})
				}
				break
			}
		}
	}
	return Candidate{Digest: d, Age: r.Age + r.Digest.Oldest, RTT: r.RTT, Alive: r.Alive}
}

// mayHaveRoom is the regions of which a kind that lacks nothing else may have room.
func mayHaveRoom(in PlanInput, regions []RegionCandidate, candidates []Candidate, regionOf map[PeerID]string, may map[PeerID]bool) []string {
	comp := in.App.Components[in.Component]
	where, err := ParseSelector(comp.Place.Where)
	if err != nil {
		return nil
	}
	is := map[string]bool{}
	for _, c := range candidates {
		d := c.Digest
		if may[d.Peer.Peer] && slices.Contains(d.Drivers, comp.Driver()) && comp.wrongArch(d.Arch) == "" &&
			(!comp.Exclusive.On || slices.Contains(d.Fences, comp.Driver())) && (namesSites(comp.Place.Where) || where.Matches(d.Labels)) {
			is[regionOf[d.Peer.Peer]] = true
		}
	}
	var out []RegionCandidate
	for _, r := range regions {
		told := 0
		for _, k := range r.Digest.Kinds {
			told += k.Peers
		}
		if r.Alive && in.Refused[PeerID(r.Digest.Region)] == "" && (is[r.Digest.Region] || told < r.Digest.Peers) {
			out = append(out, r)
		}
	}
	far := func(r RegionCandidate) int64 {
		if r.RTT < 0 {
			return 1 << 62
		}
		return r.RTT
	}
	slices.SortFunc(out, func(a, b RegionCandidate) int {
		return cmp.Or(cmp.Compare(far(a), far(b)), cmp.Compare(a.Digest.Region, b.Digest.Region))
	})
	names := make([]string, len(out))
	for i, r := range out {
		names[i] = r.Digest.Region
	}
	return names
}

// namesSites says whether a selector asks for what a fold leaves out.
func namesSites(where string) bool {
	s, err := ParseSelector(where)
	return err == nil && s.names(siteLabels...)
}
