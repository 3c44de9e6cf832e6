package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// This file is the hosts of a peer: its own machine, and in some plans a few more
// that its daemon has work run on, and that may be gone one day.

// doHostGone is a host, not the peer's own, that dies for good.
const doHostGone = "host-gone"

// host is one of them.
type host struct {
	id, name          string // name is how work names it: "" is the peer's own
	capacity, offered placement.Resources
	used              placement.Resources // by what really runs
	granted           placement.Resources // by the ledger, a step ago
	cordoned          bool
	gone              bool
	untold            bool // it was gone, and the daemon was not told
	heard             bool // that it is gone has reached the core
}

// drawHosts decides, apart from all else that a seed draws, how many hosts more
// each peer has, and which go.
func drawHosts(seed uint64, p *Plan) {
	rng := rand.New(rand.NewPCG(seed, 11))
	if rng.IntN(4) > 0 {
		return
	}
	p.Hosts = 1 + rng.IntN(3)
	for range rng.IntN(4) {
		p.Actions = append(p.Actions, Action{
			At: drawTime(rng, 4*time.Second, p.Length), Do: doHostGone, Peer: rng.IntN(p.peers()),
			Lasts: drawTime(rng, lastsMin, lastsMax), N: uint64(rng.Uint32()),
		})
	}
}

// makeHosts gives a peer its hosts: the others have half of its own machine's room.
func (p *peer) makeHosts(capacity placement.Resources) {
	p.hosts = []*host{{id: string(p.id), capacity: capacity, offered: capacity}}
	half := placement.Resources{CPU: capacity.CPU / 2, Memory: capacity.Memory / 2, Disk: capacity.Disk / 2}
	for i := range p.w.plan.Hosts {
		id := fmt.Sprintf("%s-%d", p.id, i+1)
		p.hosts = append(p.hosts, &host{id: id, name: id, capacity: half, offered: half})
	}
}

// host is the one that work names.
func (p *peer) host(name string) *host {
	at := slices.IndexFunc(p.hosts, func(h *host) bool { return h.name == name })
	if at < 0 {
		p.w.fail("%s: work is on a host %q that it has not", p.id, name)
		return p.hosts[0]
	}
	return p.hosts[at]
}

// archOf is the architecture of a host: where there are several, of every other
// one.
func (p *peer) archOf(name string) string {
	at := slices.Index(p.w.peers, p) + max(0, slices.IndexFunc(p.hosts, func(h *host) bool { return h.name == name }))
	if p.w.plan.Archs && at%2 == 1 {
		return "arm64"
	}
	return "amd64"
}

// tellHosts tells the core what its hosts offer, and which are gone; a suspended
// one once it is awake.
func (p *peer) tellHosts() {
	if p.frozen > p.w.now {
		p.later(0, p.tellHosts)
		return
	}
	for _, h := range p.hosts {
		if h.untold {
			h.untold = p.core == nil
			p.stepLate(false, func() placement.Event {
				p.w.at(p, 0, func() { h.heard = h.gone }) // what it began in this step it may stop in it, too
				return placement.HostGone{ID: h.id}
			})
		}
		if h.gone {
			continue
		}
		var devices []placement.Device
		if h.name == "" {
			devices = p.devices()
		}
		p.step(placement.HostChanged{Host: placement.Host{
			ID: h.id, Arch: p.archOf(h.name), GPUs: devices, Drivers: p.drivers(),
			Fences:   []string{placement.DriverProcess},
			Capacity: h.offered, Cordoned: h.cordoned,
		}})
	}
}

// someHost is one that a fault chooses: its own where there is no other.
func (p *peer) someHost(a Action) *host { return p.hosts[int(a.N%uint64(len(p.hosts)))] }

// hostGone ends a host, with what runs there and its disk; one in its place comes
// after a while.
func hostGone(w *world, a Action, p, _ *peer, rng *rand.Rand) {
	if len(p.hosts) < 2 {
		return
	}
	h := p.hosts[1+rng.IntN(len(p.hosts)-1)]
	if h.gone {
		return
	}
	h.gone, h.untold = true, true
	for _, id := range sortedRuns(p.runs) {
		if p.runs[id].spec.Host == h.name {
			p.end(id)
		}
	}
	for id, v := range p.volumes {
		if v.Host == h.name {
			delete(p.volumes, id)
		}
	}
	p.tellHosts()
	w.undo(a, func() { p.back(h); p.tellHosts() })
}

// back is a host in the place of one that is gone.
func (p *peer) back(h *host) {
	h.gone, h.heard, h.cordoned, h.offered = false, false, false, h.capacity
}

// checkGrants: the ledger grants nothing that a host does not offer. What it had
// granted before the host offered less, and what it finds running, stays.
func (p *peer) checkGrants(evs []placement.Event) {
	news := slices.ContainsFunc(evs, func(ev placement.Event) bool {
		switch ev.(type) {
		case placement.WorkListed, placement.VolumesFound, placement.HostChanged: // after the last it is known what was granted before the start
			return true
		}
		return false
	})
	for _, v := range p.core.Hosts() {
		at := slices.IndexFunc(p.hosts, func(h *host) bool { return h.id == v.Host.ID })
		if at < 0 {
			p.w.fail("%s: its ledger has a host %s", p.id, v.Host.ID)
			return
		}
		h := p.hosts[at]
		before, capacity := h.granted, v.Host.Capacity
		h.granted = v.Used
		if news || !v.Known || !over(v.Used, capacity) {
			continue
		}
		rose := func(now, then, most int64) bool { return now < 0 || now > most && now > then }
		if rose(int64(v.Used.CPU), int64(before.CPU), int64(capacity.CPU)) || rose(int64(v.Used.Memory), int64(before.Memory), int64(capacity.Memory)) ||
			rose(int64(v.Used.Disk), int64(before.Disk), int64(capacity.Disk)) {
			p.w.fail("%s: its ledger has granted %v of %v on %s", p.id, v.Used, capacity, h.id)
		}
	}
}

// takeHost books what work takes on its host, which must be there and have it.
func (p *peer) takeHost(e placement.Start) {
	h := p.host(e.Spec.Host)
	h.used = h.used.Add(e.Spec.Spec.Resources)
	if h.gone { // and the core knows
		p.w.fail("%s: starts %s %s on %s, which is gone", p.id, e.Spec.Component, e.ID, h.id)
	}
	if over(h.used, h.capacity) {
		p.w.fail("%s: runs %v of %v on %s", p.id, h.used, h.capacity, h.id)
	}
}
