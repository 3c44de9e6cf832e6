package placement

import (
	"fmt"
	"slices"
)

// This file is how placement knows bytes: what of the files and images of a
// component would have to travel to each candidate.

// Travel is what would have to travel to a peer before a component runs there.
type Travel struct {
	Bytes int64
	// Image says that a part of an image is among it.
	Image bool
}

const (
	// travelPoints is off for bytes without end, half of it at travelHalf.
	travelPoints = 8
	travelHalf   = 16 << 20
	// travelImage is off at least where a part of an image is missing: more than
	// chance makes up for among equals.
	travelImage = tiePoints + 1
	// travelFree is how many bytes of files make no difference: they are there
	// before anybody notices, and all apps of a peer would crowd around its keepers.
	travelFree = 4 << 20
)

// cost is the points that are taken off for it.
func (t Travel) cost() float64 {
	if !t.Image && t.Bytes < travelFree {
		return 0
	}
	points := travelPoints * float64(t.Bytes) / float64(t.Bytes+travelHalf)
	if t.Image {
		points = max(points, travelImage)
	}
	return points
}

func (t Travel) String() string {
	const kib = 1 << 10
	switch n := float64(t.Bytes); {
	case t.Bytes >= kib*kib*kib:
		return fmt.Sprintf("%.1f GiB", n/kib/kib/kib)
	case t.Bytes >= kib*kib:
		return fmt.Sprintf("%.1f MiB", n/kib/kib)
	case t.Bytes >= kib:
		return fmt.Sprintf("%.1f KiB", n/kib)
	case t.Bytes == 0 && t.Image:
		return "an image"
	}
	return fmt.Sprintf("%d bytes", t.Bytes)
}

// cargo is what a component needs on one architecture, blob by blob.
type cargo struct {
	whole Artifact
	parts []Artifact
}

// travels is what would travel to each candidate for a component of an intent;
// nil while no peer has said what it holds. coming has what is on its way to a
// peer for another component, and is not counted twice.
func (p *Peer) travels(i *Intent, comp Component, candidates []Candidate, coming map[PeerID]map[string]bool) map[PeerID]Travel {
	if !p.members.tellHolds {
		return nil
	}
	byArch := map[string][]cargo{}
	out := map[PeerID]Travel{}
	for _, c := range candidates {
		arch, id := "", c.Digest.Peer.Peer
		if len(c.Digest.Arch) > 0 {
			arch = c.Digest.Arch[0]
		}
		goods, known := byArch[arch]
		if !known {
			goods = p.cargoOf(comp.needs(i, arch))
			byArch[arch] = goods
		}
		out[id] = p.travelTo(id, goods, coming[id])
	}
	return out
}

func (p *Peer) cargoOf(artifacts []Artifact) []cargo {
	var out []cargo
	for _, a := range artifacts {
		parts := []Artifact{a}
		if a.Tree && p.cfg.Blobs != nil {
			if blobs := p.cfg.Blobs(a); len(blobs) > 0 {
				parts = blobs
			}
		}
		out = append(out, cargo{a, parts})
	}
	return out
}

func (p *Peer) travelTo(id PeerID, goods []cargo, coming map[string]bool) (t Travel) {
	m := p.members.get(id)
	seen := map[string]bool{}
	for _, c := range goods {
		if id == p.cfg.Self.Peer && p.has(c.whole) || c.whole.Tree && m.holdsBlob(c.whole.Digest) {
			continue
		}
		for _, part := range c.parts {
			if m.holdsBlob(part.Digest) || coming[part.Digest] || seen[part.Digest] {
				continue
			}
			seen[part.Digest] = true
			t.Bytes += max(0, part.Size)
			t.Image = t.Image || c.whole.Tree
		}
	}
	return t
}

// load notes what comes to the peers that a plan chose.
func (p *Peer) load(coming map[PeerID]map[string]bool, i *Intent, comp Component, candidates []Candidate, assign map[PeerID]Slots) {
	for _, c := range candidates {
		id := c.Digest.Peer.Peer
		if assign[id].IsEmpty() {
			continue
		}
		if coming[id] == nil {
			coming[id] = map[string]bool{}
		}
		arch := ""
		if len(c.Digest.Arch) > 0 {
			arch = c.Digest.Arch[0]
		}
		for _, goods := range p.cargoOf(comp.needs(i, arch)) {
			for _, part := range goods.parts {
				coming[id][part.Digest] = true
			}
		}
	}
}

// travelled is what all peers that a plan chose get, together.
func travelled(in PlanInput, assign map[PeerID]Slots) int64 {
	sum := int64(0)
	for id, slots := range assign {
		if !slots.IsEmpty() {
			sum += in.Travel[id].Bytes
		}
	}
	return sum
}

// sized is an intent of an app that is only planned, with what is known of its
// artifacts: what the caller says, and what stands of the app.
func (p *Peer) sized(app App, artifacts []Artifact, have *app) *Intent {
	i := &Intent{Key: app.Key(), App: app, Artifacts: slices.Clone(artifacts)}
	if have != nil {
		for _, a := range have.win.intent.Artifacts {
			if !slices.ContainsFunc(i.Artifacts, func(b Artifact) bool { return b.Digest == a.Digest }) {
				i.Artifacts = append(i.Artifacts, a)
			}
		}
	}
	return i
}
