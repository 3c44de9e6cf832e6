package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// This file is apps with a container whose image is pinned: some peers hold it,
// the others fetch it before they start what runs from it.

const (
	// pinnedName is the component that has an image.
	pinnedName = "web"
	// pinnedImages is how many images there are.
	pinnedImages = 4
	// doRot is a file that a peer lost, and brings back from another.
	doRot = "rot"
	// healEvery is how often a peer tries to.
	healEvery = 2 * time.Second
)

// drawPins decides, apart from all else that a seed draws, whether a plan pins
// images, and then which files rot.
func drawPins(seed uint64, p *Plan) {
	rng := rand.New(rand.NewPCG(seed, 9))
	if p.Pins = rng.IntN(4) == 0; !p.Pins {
		return
	}
	for range rng.IntN(4) {
		p.Actions = append(p.Actions, Action{
			At: drawTime(rng, 4*time.Second, p.Length), Do: doRot, Peer: rng.IntN(p.peers()),
			Lasts: drawTime(rng, lastsMin, lastsMax), N: uint64(rng.Uint32()),
		})
	}
}

func pinnedDigest(n int) string { return fmt.Sprintf("sha256:%08x%056x", 0xb0+n, 0) }

// pushPinned lets one or two peers hold each image before anything begins.
func (w *world) pushPinned() {
	if !w.plan.Pins {
		return
	}
	rng := rand.New(rand.NewPCG(w.seed, 9))
	there := w.peers[:len(w.peers)-w.plan.Late]
	for n := range pinnedImages {
		for range 1 + rng.IntN(2) {
			there[rng.IntN(len(there))].blobs[pinnedDigest(n)] = true
		}
	}
}

// addPinned gives an app a component with an image, and returns what it is made of.
func addPinned(app placement.App, rng *rand.Rand) placement.Artifact {
	n, digest := 1+rng.IntN(3), pinnedDigest(rng.IntN(pinnedImages))
	app.Components[pinnedName] = placement.Component{
		Container: &placement.Container{Image: "shop/web:1@" + digest}, Replicas: &n,
		Resources: placement.Resources{CPU: 100, Memory: 32 << 20}, Env: map[string]string{"V": fmt.Sprint(rng.IntN(2))},
	}
	return placement.Artifact{Digest: digest, Size: 1 << (20 + rng.IntN(6)), Tree: true}
}

// drivers are what a machine can run.
func (p *peer) drivers() []string {
	if p.w.plan.Pins {
		return []string{placement.DriverWasm, placement.DriverProcess, placement.DriverDocker}
	}
	return []string{placement.DriverWasm, placement.DriverProcess}
}

// sources are who is asked for an artifact: who placement names and, where images are
// pinned, whoever else holds it, as a peer hears from the holders.
func (p *peer) sources(e placement.Fetch) []placement.PeerID {
	from := e.From
	if p.w.plan.Pins && e.Artifact.Tree {
		from = slices.Clone(from)
		for _, o := range p.w.peers {
			if o != p && o.blobs[e.Artifact.Digest] {
				from = append(from, o.id)
			}
		}
	}
	return from
}

// needs are the digests of what a component runs from.
func (p *peer) needs(c placement.Component, host string) []string {
	digests := c.ArtifactsOn(p.archOf(host))
	if d := c.ImageDigest(); d != "" {
		digests = append(digests, d)
	}
	return digests
}

// checkBytes looks at work that is about to start: its bytes are there.
func (p *peer) checkBytes(id placement.AllocationID, spec placement.WorkSpec) {
	for _, digest := range p.needs(spec.Spec, spec.Host) {
		if !p.blobs[digest] {
			p.w.fail("%s: starts %s %s without %s", p.id, spec.Component, id, digest)
		}
	}
}

// bytesFor says whether anybody in the mesh holds what a component runs from.
func (w *world) bytesFor(c placement.Component) bool {
	if !w.plan.Pins {
		return true
	}
	for _, p := range w.in() {
		if !slices.ContainsFunc(p.needs(c, ""), func(digest string) bool { return !w.anyHolds(digest) }) {
			return true
		}
	}
	return false
}

// bytesLost says whether what an app runs from was lost with all that held it.
func (w *world) bytesLost(views []placement.AppView) bool {
	if !w.plan.Pins {
		return false
	}
	return slices.ContainsFunc(views, func(v placement.AppView) bool {
		return slices.ContainsFunc(v.Intent.App.ComponentNames(), func(name string) bool { return !w.bytesFor(v.Intent.App.Components[name]) })
	})
}

// bytesThere: after healing, what runs has its bytes, if anybody does, and the keepers
// of an app hold its image, or know others that do. An amnesiac goes on with work that it
// found, and fetches nothing for it until it starts anew.
func (w *world) bytesThere(views []placement.AppView, note func(string, ...any)) {
	if !w.plan.Pins || w.forgot {
		return
	}
	for _, p := range w.in() {
		for id, r := range p.runs {
			for _, digest := range p.needs(r.spec.Spec, r.spec.Host) {
				if !p.blobs[digest] && w.anyHolds(digest) {
					note("%s runs %s %s, and has not %s", p.id, r.spec.Component, id, digest)
				}
			}
		}
	}
	for _, v := range views {
		if digest := v.Intent.App.Components[pinnedName].ImageDigest(); digest != "" && !v.Intent.Removed && !w.died && w.lost == 0 && !w.anyHolds(digest) {
			note("%s wants %s, and nobody holds it", v.Intent.Key, digest)
		}
	}
}

// rotFile takes a file from a peer that another one holds too, as when its disk
// has changed it: the peer tells others so, and brings it back.
func rotFile(w *world, a Action, p, _ *peer, rng *rand.Rand) {
	digest := pinnedDigest(rng.IntN(pinnedImages))
	others := slices.ContainsFunc(w.in(), func(o *peer) bool { return o != p && o.blobs[digest] })
	if !p.blobs[digest] || !others {
		return
	}
	delete(p.blobs, digest)
	p.tellHolds()
	w.after(a.Lasts, func() { p.healFile(digest) })
}

// healFile brings a file back as soon as somebody in reach holds it.
func (p *peer) healFile(digest string) {
	switch {
	case p.blobs[digest] || p.out:
		return
	case p.core != nil && slices.ContainsFunc(p.w.peers, func(o *peer) bool { return o.blobs[digest] && p.w.reach(p, o) }):
		p.arrived(digest)
		return
	}
	p.w.after(healEvery, func() { p.healFile(digest) })
}

// arrived takes a file for whole, and says so.
func (p *peer) arrived(digest string) {
	p.blobs[digest] = true
	p.step(placement.BlobArrived{Digest: digest})
	p.tellHolds()
}
