package placement

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// pinned is a component that runs the image of a digest.
func pinned(digit string, replicas int) Component {
	return Component{
		Container: &Container{Image: "shop/api:1@" + digestOf(digit)}, Replicas: &replicas,
		Resources: Resources{CPU: 100, Memory: 64 << 20},
	}
}

func (v *village) holds(id PeerID, digits string) {
	var blobs []uint32
	for _, d := range digits {
		n, ok := BlobPrefix(digestOf(string(d)))
		if !ok {
			v.t.Fatal(d)
		}
		blobs = append(blobs, n)
	}
	slices.Sort(blobs)
	for _, at := range v.order {
		v.step(v.peers[at], Holds{Peer: id, Blobs: blobs})
	}
}

// Of equal peers an image runs where it is; where it does not fit there, what
// would travel is told.
func TestHoldersArePreferred(t *testing.T) {
	image := Artifact{Digest: digestOf("1"), Size: 100 << 20, Tree: true}
	app := App{Name: "shop", Components: map[string]Component{"api": pinned("1", 1)}}
	for _, holder := range []PeerID{"a", "b", "c", "d", "e"} {
		v := newVillage(t, FaultNone, "a", "b", "c", "d", "e")
		for _, id := range v.order {
			v.step(v.peers[id], HostChanged{Host: Host{ID: "h", Arch: "amd64", Drivers: []string{DriverDocker}, Capacity: Resources{CPU: 4000, Memory: 4 << 30}}})
			v.step(v.peers[id], WorkListed{Driver: DriverDocker})
			if id != holder {
				v.lack("1", id)
			}
		}
		v.see()
		p := v.peers["a"]
		if plan := p.PlanFor(*v.now, app, image); plan.Components[0].Decision.Travel != 0 {
			t.Errorf("nobody has said what it holds, and %d bytes would travel", plan.Components[0].Decision.Travel)
		}
		for _, id := range v.order {
			v.holds(id, strings.Repeat("1", btoi(id == holder)))
		}
		for range 20 { // near-equal ones are drawn
			d := p.PlanFor(*v.now, app, image).Components[0].Decision
			if len(d.Taken) != 1 || d.Taken[holder] != "0" || d.Travel != 0 {
				t.Fatalf("%s holds it; taken %v, %d bytes would travel", holder, d.Taken, d.Travel)
			}
			for _, c := range d.Considered {
				if want := int64(100<<20) * int64(btoi(c.Peer != holder)); c.Travel != want || strings.Contains(c.Reason, "100.0 MiB would travel") != (want > 0) {
					t.Fatalf("%+v", c)
				}
			}
		}
		// As many as peers: one goes to each, and the image to all but one.
		app.Components["api"] = pinned("1", 5)
		if d := p.PlanFor(*v.now, app, image).Components[0].Decision; len(d.Taken) != 5 || d.Travel != 400<<20 {
			t.Errorf("taken %v, %d bytes would travel", d.Taken, d.Travel)
		}
		app.Components["api"] = pinned("1", 1)
	}
}

// What a person wants outweighs bytes, and so does having a slot already.
func TestBytesAreNoWish(t *testing.T) {
	far := Travel{Bytes: 10 << 30, Image: true}
	in := planFor(1, Place{Prefer: map[string]int{"fast=yes": 20}}, peersFor(3))
	in.Candidates[1].Digest.Labels["fast"] = "yes"
	in.Travel = map[PeerID]Travel{"p001": far}
	if r := Plan(in); r.Assign["p001"].IsEmpty() {
		t.Errorf("p001 is wished: %v", r.Assign)
	}
	in = planFor(3, Place{}, peersFor(3))
	in.Travel = map[PeerID]Travel{"p001": far, "p002": far}
	if r := Plan(in); len(r.Assign) != 3 {
		t.Errorf("not spread: %v", r.Assign)
	}
	for _, c := range []struct {
		t    Travel
		cost string
	}{
		{Travel{}, "0.0"}, {Travel{Bytes: travelFree - 1}, "0.0"}, {Travel{Bytes: 16 << 20}, "4.0"},
		{Travel{Bytes: 1, Image: true}, "4.0"}, {Travel{Bytes: 48 << 20, Image: true}, "6.0"}, {Travel{Bytes: 1 << 40}, "8.0"},
	} {
		if got := fmt.Sprintf("%.1f", c.t.cost()); got != c.cost {
			t.Errorf("%v costs %s, want %s", c.t, got, c.cost)
		}
	}
}

// Layers that a peer has of another image do not travel, nor what comes for
// another component, nor what is for another architecture.
func TestOnlyWhatIsMissingTravels(t *testing.T) {
	p, now := newTestPeer("a")
	p.cfg.Has = func(Artifact) bool { return false }
	p.cfg.Blobs = func(tree Artifact) []Artifact {
		parts := []Artifact{{Digest: tree.Digest, Size: 1}, {Digest: digestOf("c"), Size: 10}, {Digest: digestOf("d"), Size: 100}}
		if tree.Arch == "" {
			parts = append(parts, Artifact{Digest: digestOf("e"), Size: 1000})
		}
		return parts
	}
	step(p, now, HostChanged{Host: Host{ID: "h", Arch: "amd64", Drivers: []string{DriverDocker}, Capacity: Resources{CPU: 4000, Memory: 4 << 30}}})
	step(p, now, WorkListed{Driver: DriverDocker})
	app := App{Name: "shop", Components: map[string]Component{"api": pinned("1", 1), "web": pinned("2", 1)}}
	trees := []Artifact{{Digest: digestOf("1"), Size: 1111, Tree: true}, {Digest: digestOf("2"), Size: 1111, Tree: true}}
	travel := func() string {
		var out []string
		for _, c := range p.PlanFor(*now, app, trees...).Components {
			out = append(out, fmt.Sprint(c.Decision.Travel))
		}
		return strings.Join(out, " ")
	}
	step(p, now, Holds{Peer: "z", Blobs: nil})
	if got := travel(); got != "111 1" {
		t.Errorf("nothing is here: %s", got)
	}
	layer, _ := BlobPrefix(digestOf("d"))
	step(p, now, Holds{Peer: "a", Blobs: []uint32{layer}})
	if got := travel(); got != "11 1" {
		t.Errorf("a layer is here: %s", got)
	}
	root, _ := BlobPrefix(digestOf("1"))
	step(p, now, Holds{Peer: "a", Blobs: []uint32{root}})
	if got := travel(); got != "0 1" {
		t.Errorf("one image is here, and so are its layers: %s", got)
	}
	step(p, now, Holds{Peer: "a", Blobs: []uint32{9, 3}}) // not in order
	if got := travel(); got != "111 1" {
		t.Errorf("other blobs are here: %s", got)
	}
}
