package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// volumesName is the component that has volumes.
const volumesName = "store"

const volumeBytes = 1 << 30

// drawNouns decides, apart from all else that a seed draws, whether a plan has
// volumes, hosts of several architectures, and GPUs.
func drawNouns(seed uint64, p *Plan) {
	rng := rand.New(rand.NewPCG(seed, 5))
	p.Volumes, p.Archs, p.GPUs = rng.IntN(3) == 0, rng.IntN(4) == 0, rng.IntN(4) == 0
	p.Images = rng.IntN(3) == 0
}

// addVolumes gives an app a component with a volume, some with policies that do
// not wait for it.
func addVolumes(app placement.App, rng *rand.Rand) {
	n := 1 + rng.IntN(3)
	c := placement.Component{
		Server: &placement.Server{Process: &placement.Process{Command: []string{"store"}}}, Replicas: &n,
		Resources: placement.Resources{CPU: 100, Memory: 32 << 20}, Env: map[string]string{"V": fmt.Sprint(rng.IntN(3))},
		Volumes: map[string]placement.Volume{"data": {Path: "/data", Size: volumeBytes}},
	}
	if rng.IntN(3) == 0 {
		lost := placement.Duration(drawTime(rng, 0, 10*time.Second))
		c.Disconnect.Replace, c.Disconnect.LostAfter = placement.ReplaceMajority, &lost
	}
	app.Components[volumesName] = c
}

// withArch gives a component of an app files for some architectures.
func withArch(app placement.App, rng *rand.Rand) {
	c := app.Components["meter"]
	c.Architecture = [][]string{nil, {"amd64"}, {"arm64"}, {"amd64", "arm64"}}[rng.IntN(4)]
	app.Components["meter"] = c
}

// runsOn says whether a host has the architecture that a component wants.
func (p *peer) runsOn(host string, c placement.Component) bool {
	on := c.RunsOn()
	return len(on) == 0 || slices.Contains(on, p.archOf(host))
}

// volumeOf names what a piece of work keeps.
func volumeOf(id placement.AllocationID, spec placement.WorkSpec) placement.VolumeID {
	return placement.VolumeID{UID: spec.UID, Component: spec.Component, Slot: id.Slot}
}

// openVolumes looks at work that is about to start: its volumes are open for no
// other copy here, and lie here from now on.
func (p *peer) openVolumes(id placement.AllocationID, spec placement.WorkSpec) {
	if !p.runsOn(spec.Host, spec.Spec) {
		p.w.fail("%s: runs %s %s on %q, and that is %s", p.id, spec.Component, id, spec.Host, p.archOf(spec.Host))
	}
	p.checkGPUs(id, spec)
	if len(spec.Spec.Volumes) == 0 {
		return
	}
	v := volumeOf(id, spec)
	for other, r := range p.runs {
		if other != id && volumeOf(other, r.spec) == v {
			p.w.fail("%s: starts %s %s while %s has its volume open", p.id, spec.Component, id, other)
		}
	}
	if old, here := p.volumes[v]; here {
		if old.Host != spec.Host {
			p.w.fail("%s: starts %s %s on %q, and its volume is on %q", p.id, spec.Component, id, spec.Host, old.Host)
		}
		return
	}
	if homes := p.w.homes(v); len(homes) > 0 && spec.Spec.Policy().Replace == placement.ReplaceNever {
		p.w.oracle.stats.Astray++
		p.w.tell(p, "astray", spec.Key.String(), fmt.Sprintf("%s, whose data is at %v", v, homes))
	}
	p.volumes[v] = placement.FoundVolume{ID: v, Key: spec.Key, Sizes: map[string]placement.Bytes{"data": volumeBytes}, Created: p.w.now.Milliseconds(), Host: spec.Host}
}

// homes is the machines in the mesh on which a volume lies.
func (w *world) homes(v placement.VolumeID) []placement.PeerID {
	var out []placement.PeerID
	for _, p := range w.in() {
		if _, here := p.volumes[v]; here {
			out = append(out, p.id)
		}
	}
	return out
}

// foundVolumes is what lies on a machine's disk, which outlives the daemon's.
func (p *peer) foundVolumes() []placement.FoundVolume {
	var out []placement.FoundVolume
	for _, v := range p.volumes {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b placement.FoundVolume) int { return strings.Compare(a.ID.String(), b.ID.String()) })
	return out
}

// dropVolume deletes data, which must be of an app that somebody removed, and
// open for nobody.
func (p *peer) dropVolume(e placement.DropVolume) {
	if !p.w.oracle.removed[e.ID.UID] {
		p.w.fail("%s: deletes volume %s of an app that nobody removed", p.id, e.ID)
	}
	for id, r := range p.runs {
		if volumeOf(id, r.spec) == e.ID {
			p.w.fail("%s: deletes volume %s, which %s has open", p.id, e.ID, id)
		}
	}
	p.later(p.w.between(0, 200*time.Millisecond), func() {
		delete(p.volumes, e.ID)
		p.step(placement.VolumeGone{ID: e.ID})
	})
}

// roomFor says whether a slot would fit where it may go: where its volume is, if
// it has one. Of several such places, of which all but one were left behind, this
// check does not know the one: each must have room.
func (w *world) roomFor(c placement.Component, k slotKey) bool {
	var homes []placement.PeerID
	if len(c.Volumes) > 0 {
		homes = w.homes(placement.VolumeID{UID: k.uid, Component: k.component, Slot: k.slot})
	}
	if len(homes) > 0 {
		v := placement.VolumeID{UID: k.uid, Component: k.component, Slot: k.slot}
		return !slices.ContainsFunc(w.in(), func(p *peer) bool {
			return slices.Contains(homes, p.id) && !p.roomFor(p.host(p.volumes[v].Host), c, c.Resources)
		})
	}
	return slices.ContainsFunc(w.in(), func(p *peer) bool {
		return slices.ContainsFunc(p.hosts, func(h *host) bool { return p.roomFor(h, c, c.Need()) })
	})
}

func (p *peer) roomFor(h *host, c placement.Component, need placement.Resources) bool {
	if !p.w.bytesFor(c) || !p.runsOn(h.name, c) || need.GPU.Count > 0 && (h.name != "" || !p.gpusFor(need.GPU)) {
		return false
	}
	if p.w.forgot || p.w.plan.Exclusive { // what was booked again holds room until a person looks at it, what waits for a lease until it runs
		return h.capacity.Sub(h.granted).Fits(need) > 0
	}
	free := h.capacity.Sub(h.used)
	free.Disk = h.capacity.Disk - h.granted.Disk
	return free.Fits(need) > 0
}

// waitsForDead says whether slots of a component wait for a peer that is dead for
// longer than anyone looks at a mesh.
func (w *world) waitsForDead(c placement.Component) bool {
	pol := c.Policy()
	return pol.Replace == placement.ReplaceNever || time.Duration(pol.LostAfter) >= w.plan.Settle
}
