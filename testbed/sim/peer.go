package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/placement"
)

// tables are the replicated ones, in the order in which they are synced.
var tables = []string{placement.TableIntents, placement.TableKeepers, placement.TableStatus}

// peer is one simulated machine with its daemon.
type peer struct {
	w    *world
	id   placement.PeerID
	site placement.SiteID
	inc  placement.Incarnation
	skew time.Duration

	capacity placement.Resources
	disk     *disk
	blobs    map[string]bool
	runs     map[placement.AllocationID]*run // what the machine runs; outlives the daemon
	used     placement.Resources

	core    *placement.Peer // nil while the daemon is down
	life    int             // of the daemon: events of an earlier one are dropped
	wake    int
	boots   int
	tables  map[string]*table.Table
	told    map[string][]table.Dot // what the core knows of each key
	view    map[placement.PeerID]*seen
	digest  time.Duration // next that may be told
	telling bool
}

// run is one piece of work on a machine.
type run struct {
	spec     placement.WorkSpec
	labels   map[string]string
	state    placement.AllocState
	stopping bool
	number   int
}

// seen is how a peer's failure detection sees another.
type seen struct {
	state placement.MemberState
	last  time.Duration // when it was last in reach
	after time.Duration // how long until the verdict this time
}

// start boots the daemon on what its disk holds.
func (p *peer) start() {
	w := p.w
	p.life++
	p.boots++
	p.tables, p.told = map[string]*table.Table{}, map[string][]table.Dot{}
	p.view = map[placement.PeerID]*seen{}
	p.core = placement.New(placement.Config{
		Self: placement.PeerRef{Peer: p.id, Incarnation: p.inc}, Name: string(p.id), Site: p.site,
		Labels: map[string]string{"site": string(p.site), "region": string(p.site)[:1]},
		Seed:   w.seed<<16 ^ uint64(len(p.id))<<8 ^ uint64(p.boots)<<32 ^ hash(string(p.id)),
		Has:    func(digest string) bool { return p.blobs[digest] },
		Tune:   w.plan.Tune,
	})
	for _, t := range p.core.Tables() {
		for _, key := range slices.Sorted(maps.Keys(p.disk.tables[t])) {
			if err := p.core.Load(t, key, p.disk.tables[t][key]); err != nil {
				w.fail("%s: load %s %s: %v", p.id, t, key, err)
			}
		}
	}
	for _, name := range tables {
		t, err := table.New(table.Config{Name: name, Self: string(p.id), Incarnation: uint64(p.inc)})
		if err == nil {
			err = t.Load(maps.All(p.disk.tables["table/"+name]))
		}
		if err != nil {
			w.fail("%s: table %s: %v", p.id, name, err)
			return
		}
		p.tables[name] = t
		t.Range("", func(key string, _ []byte) bool {
			p.core.LoadTable(name, key, p.siblings(name, key))
			return true
		})
	}
	w.tell(p, "start", "", fmt.Sprintf("incarnation %d", p.inc))
	p.effects(p.core.Begin(p.clock()))
	p.step(placement.HostChanged{Host: placement.Host{
		ID: string(p.id), Arch: "amd64", Drivers: []string{placement.DriverWasm, placement.DriverProcess}, Capacity: p.capacity,
	}})
	for _, driver := range []string{placement.DriverWasm, placement.DriverProcess} {
		p.later(w.between(0, 500*time.Millisecond), func() { p.step(placement.WorkListed{Driver: driver, Work: p.found(driver)}) })
	}
	for _, o := range w.peers {
		if o != p {
			p.later(0, func() { p.step(placement.RTTChanged{Peer: o.id, RTT: w.delay(p, o) * 2}) })
		}
	}
	p.later(w.between(0, 300*time.Millisecond), p.detect)
	p.later(w.between(0, time.Second), p.sync)
	p.later(w.between(0, 200*time.Millisecond), p.tellDigest)
}

// crash ends the daemon; with the machine its work goes too.
func (p *peer) crash(machine bool) {
	p.w.tell(p, "crash", "", fmt.Sprintf("machine %t", machine))
	p.core = nil
	p.life++
	p.disk.crash(p.w)
	if machine {
		p.runs, p.used = map[placement.AllocationID]*run{}, placement.Resources{}
	}
	p.w.oracle.checkAll(p.w)
}

// amnesia empties the disk: the next start is another life of the store.
func (p *peer) amnesia() {
	p.w.tell(p, "amnesia", "", "")
	p.disk.wipe()
	p.blobs = map[string]bool{}
	p.inc++
}

func (p *peer) clock() placement.Now {
	return placement.Now{Mono: p.w.now, Wall: epoch.Add(p.w.now + p.skew)}
}

// later plans something for this life of the daemon.
func (p *peer) later(d time.Duration, run func()) {
	life := p.life
	p.w.after(d, func() {
		if p.life == life && p.core != nil {
			run()
		}
	})
}

// publishedMax is more than one step ever has reason to publish.
const publishedMax = 48

// step gives the core an event, and carries out what it wants.
func (p *peer) step(ev placement.Event) {
	if p.core == nil {
		return
	}
	p.effects(p.core.Step(p.clock(), ev))
	used, capacity := p.core.Used()
	if capacity != (placement.Resources{}) && (over(used, capacity)) {
		p.w.fail("%s: its ledger has granted %v of %v", p.id, used, capacity)
	}
	if !p.telling && p.core.DigestChanged() {
		p.telling = true
		p.later(max(0, p.digest-p.w.now), p.tellDigest)
	}
}

// over says whether more is used than there is, or less than nothing.
func over(used, capacity placement.Resources) bool {
	free := capacity.Sub(used)
	return min(free.CPU, used.CPU) < 0 || min(free.Memory, used.Memory) < 0 || min(free.Disk, used.Disk) < 0
}

func (p *peer) effects(effects []placement.Effect) {
	w := p.w
	published := 0
	for _, e := range effects {
		if _, ok := e.(placement.Publish); ok {
			published++
		}
	}
	if published > publishedMax {
		w.fail("%s: publishes %d records in one step: it argues with itself", p.id, published)
		w.dump()
		return
	}
	for _, e := range effects {
		switch e := e.(type) {
		case placement.Persist:
			p.disk.persist(p, e)
		case placement.Send:
			p.send(e)
		case placement.Publish:
			p.publish(e)
		case placement.Start:
			p.startWork(e)
		case placement.Stop:
			p.stopWork(e)
		case placement.Timer:
			p.wake++
			n := p.wake
			if e.At > 0 {
				p.later(max(0, time.Duration(e.At)-w.now), func() {
					if p.wake == n {
						p.step(placement.TimerFired{Key: e.Key})
					}
				})
			}
		case placement.Fetch:
			p.fetch(e)
		case placement.Answer:
			w.oracle.answered(p, e)
		case placement.Record:
			if e.Event != nil && w.trace != nil {
				w.tell(p, e.Event.Type, e.Event.Key.String(), e.Event.Component+" "+e.Event.Slots+" "+e.Event.Message)
			}
			if e.Decision != nil && w.trace != nil {
				w.tell(p, "decided", e.Decision.Key.String(), fmt.Sprintf("%s %s: %s %s %v", e.Decision.Component, e.Decision.Slots, e.Decision.Reason, e.Decision.Outcome, e.Decision.Taken))
			}
		}
	}
}

func (p *peer) send(e placement.Send) {
	w := p.w
	in := w.oracle.sent(p, e)
	if w.trace != nil {
		w.tell(p, "> "+in.Kind, string(e.To), string(in.UID)[:min(6, len(in.UID))]+" "+in.Detail())
	}
	to := w.byID[e.To]
	if !w.carry(p, to, func() {
		if w.trace != nil {
			w.tell(to, "< "+in.Kind, string(p.id), string(in.UID)[:min(6, len(in.UID))])
		}
		to.step(placement.Receive{From: p.id, Body: e.Body})
	}) {
		p.later(w.between(0, time.Second), func() { p.step(placement.Undelivered{To: e.To, Body: e.Body}) })
	}
}

// fetch brings an artifact from a peer that has it and can be reached.
func (p *peer) fetch(e placement.Fetch) {
	p.later(p.w.between(10*time.Millisecond, 400*time.Millisecond), func() {
		for _, id := range e.From {
			from := p.w.byID[id]
			if from.core != nil && from.blobs[e.Artifact.Digest] && p.w.open(p, from) && p.w.open(from, p) {
				p.blobs[e.Artifact.Digest] = true
				p.step(placement.BlobArrived{Digest: e.Artifact.Digest})
				return
			}
		}
		p.step(placement.BlobFailed{Digest: e.Artifact.Digest, Reason: "nobody in reach has it"})
	})
}

// startWork runs an allocation; it is idempotent.
func (p *peer) startWork(e placement.Start) {
	w := p.w
	w.tell(p, "start work", e.Spec.Key.String(), e.Spec.Component+" "+e.ID.String())
	r := p.runs[e.ID]
	if r == nil {
		r = &run{spec: e.Spec, labels: placement.Labels(e.ID, e.Spec), state: placement.AllocStarting}
		p.runs[e.ID] = r
		p.used = p.used.Add(e.Spec.Spec.Resources)
		if over(p.used, p.capacity) {
			w.fail("%s: runs %v of %v", p.id, p.used, p.capacity)
		}
	}
	r.number++
	n := r.number
	w.after(w.between(20*time.Millisecond, 300*time.Millisecond), func() {
		if p.runs[e.ID] != r || r.number != n || r.stopping {
			return
		}
		r.state = placement.AllocRunning
		p.step(placement.WorkChanged{ID: e.ID, State: placement.WorkState{State: placement.AllocRunning}})
		if !w.calm && w.chance(w.plan.WorkCrash) {
			w.after(w.between(0, 20*time.Second), func() { p.crashWork(e.ID, r, n) })
		}
	})
}

func (p *peer) crashWork(id placement.AllocationID, r *run, n int) {
	if p.runs[id] != r || r.number != n || r.stopping || p.w.calm {
		return
	}
	p.end(id)
	p.w.tell(p, "work ends", r.spec.Key.String(), id.String())
	p.step(placement.WorkChanged{ID: id, State: placement.WorkState{State: placement.AllocFailed, Reason: "exit code 1"}})
}

func (p *peer) end(id placement.AllocationID) {
	if r := p.runs[id]; r != nil {
		delete(p.runs, id)
		p.used = p.used.Sub(r.spec.Spec.Resources)
	}
}

func (p *peer) stopWork(e placement.Stop) {
	w := p.w
	w.tell(p, "stop work", "", e.ID.String()+" "+e.Reason)
	r := p.runs[e.ID]
	if r != nil {
		r.stopping = true
	}
	w.after(w.between(5*time.Millisecond, 300*time.Millisecond), func() {
		if p.runs[e.ID] == r {
			p.end(e.ID)
		}
		p.step(placement.WorkChanged{ID: e.ID, State: placement.WorkState{State: placement.AllocStopped}})
	})
}

// found is what a driver lists after a start of the daemon.
func (p *peer) found(driver string) []placement.Found {
	var out []placement.Found
	for id, r := range p.runs {
		if r.spec.Spec.Driver() == driver {
			out = append(out, placement.Found{ID: id, Labels: r.labels, State: placement.WorkState{State: r.state, Driver: driver}})
		}
	}
	slices.SortFunc(out, func(a, b placement.Found) int { return cmpString(a.ID.String(), b.ID.String()) })
	return out
}
