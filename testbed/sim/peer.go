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
	born time.Duration // when this life of its store began
	clocks

	out       bool                      // gone for good
	forgotten bool                      // and shut out of the mesh
	absent    bool                      // it has not joined yet
	old       bool                      // it runs release n-1
	lag       time.Duration             // of all that its daemon does, at most
	frozen    time.Duration             // suspended until then
	failing   bool                      // its work ends as soon as it runs
	known     map[placement.PeerID]bool // peers that it has ever seen; kept beside its key
	judged    map[placement.PeerID]judgement

	hosts   []*host // its own machine first
	disk    *disk
	blobs   map[string]bool
	runs    map[placement.AllocationID]*run              // what its hosts run; outlives the daemon
	volumes map[placement.VolumeID]placement.FoundVolume // what lies on their disks; outlives the store

	core    *placement.Peer // nil while the daemon is down
	life    int             // of the daemon: events of an earlier one are dropped
	wake    int
	boots   int
	tables  map[string]*table.Table
	told    map[tableKey][]table.Dot // what the core knows of each key
	writer  *writer
	waiting []item // events that the daemon's loop has not taken yet
	view    map[placement.PeerID]*seen
	digest  time.Duration // next that may be told
	telling bool
}

func newPeer(w *world, site placement.SiteID, id placement.PeerID, capacity placement.Resources) *peer {
	p := &peer{
		w: w, id: id, site: site, inc: 1, clocks: w.drawClocks(),
		disk: newDisk(), blobs: map[string]bool{}, runs: map[placement.AllocationID]*run{}, judged: map[placement.PeerID]judgement{}, known: map[placement.PeerID]bool{},
		volumes: map[placement.VolumeID]placement.FoundVolume{},
	}
	p.makeHosts(capacity)
	return p
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
	p.tables, p.told, p.writer = map[string]*table.Table{}, map[tableKey][]table.Dot{}, newWriter()
	p.view = map[placement.PeerID]*seen{}
	p.core = placement.New(placement.Config{
		Self: placement.PeerRef{Peer: p.id, Incarnation: p.inc}, Name: string(p.id), Site: p.site,
		Labels: map[string]string{"site": string(p.site), "region": string(p.site)[:1]},
		Seed:   w.seed<<16 ^ uint64(len(p.id))<<8 ^ uint64(p.boots)<<32 ^ hash(string(p.id)),
		Has:    func(a placement.Artifact) bool { return p.blobs[a.Digest] },
		Sign:   func(body []byte) []byte { return signature(p.id, body) },
		Verify: verified,
		Tune:   p.tune(),
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
	p.effects(p.core.Begin(p.clock()), publishedMax)
	for _, h := range p.hosts {
		h.granted, h.untold = placement.Resources{}, h.untold || h.gone // it is told so at each start
	}
	p.tellHosts()
	for _, o := range w.peers {
		switch {
		case o.forgotten:
			p.member(o, placement.MemberForgotten)
		case p.known[o.id]: // dead until it is heard of
			p.view[o.id] = &seen{state: placement.MemberDead}
			p.member(o, placement.MemberDead)
		}
	}
	for _, driver := range p.drivers() {
		p.later(w.between(0, 500*time.Millisecond), func() { p.step(placement.WorkListed{Driver: driver, Work: p.found(driver)}) })
	}
	if len(p.volumes) > 0 {
		p.later(w.between(0, 500*time.Millisecond), func() { p.step(placement.VolumesFound{Volumes: p.foundVolumes()}) })
	}
	for _, o := range w.peers {
		if o != p && !o.out && !o.absent {
			p.later(0, func() { p.step(placement.RTTChanged{Peer: o.id, RTT: w.delay(p, o) * 2}) })
		}
	}
	p.later(w.between(0, 300*time.Millisecond), p.detect)
	p.later(w.between(0, time.Second), p.sync)
	p.later(w.between(0, 200*time.Millisecond), p.tellDigest)
	if w.plan.Pins {
		p.tellHolds()
	}
}

// crash ends the daemon; with the machine its work goes too.
func (p *peer) crash(machine bool) {
	p.w.tell(p, "crash", "", fmt.Sprintf("machine %t", machine))
	p.core, p.waiting = nil, nil
	p.life++
	p.disk.crash(p.w)
	if machine {
		for _, id := range sortedRuns(p.runs) {
			p.w.oracle.leases.ended(p, id, p.runs[id])
		}
		p.booted = p.w.now
		p.runs = map[placement.AllocationID]*run{}
		for _, h := range p.hosts {
			h.used = placement.Resources{}
		}
	}
	p.w.oracle.checkAll(p.w)
}

// amnesia empties the disk: the next start is another life of the store.
func (p *peer) amnesia() {
	p.w.tell(p, "amnesia", "", "")
	p.disk.wipe()
	p.blobs = map[string]bool{}
	if p.w.plan.Mutant != sameLife {
		p.inc, p.born = p.inc+1, p.w.now
	}
}

// tune is the tuning of this peer's release.
func (p *peer) tune() placement.Tuning {
	t := p.w.plan.Tune
	t.Reached = func(m placement.Mark) {
		p.w.oracle.stats.Reached[m]++
		p.w.tell(p, "mark", string(m), "")
	}
	if p.w.plan.Old > 0 && !p.old {
		t.Schema, t.Future = placement.Schema+1, true
	}
	return t
}

// later plans something for this life of the daemon.
func (p *peer) later(d time.Duration, run func()) {
	life := p.life
	p.w.at(p, d+p.w.between(0, p.lag), func() {
		if p.life == life && p.core != nil {
			run()
		}
	})
}

// over says whether more is used than there is, or less than nothing.
func over(used, capacity placement.Resources) bool {
	free := capacity.Sub(used)
	return min(free.CPU, used.CPU) < 0 || min(free.Memory, used.Memory) < 0 || min(free.Disk, used.Disk) < 0
}

// effects carries out what a core wants, which publishes no more than so many records.
func (p *peer) effects(effects []placement.Effect, publishedMax int) {
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
	life := p.life
	for _, e := range effects {
		if p.life != life {
			return // killed in the midst of it
		}
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
		case placement.DropVolume:
			p.dropVolume(e)
		case placement.Extend:
			p.extend(e)
		case placement.Timer:
			p.wake++
			n := p.wake
			if e.At > 0 {
				p.later(p.until(time.Duration(e.At)), func() {
					if p.wake == n {
						p.step(placement.TimerFired{Key: e.Key})
					}
				})
			}
		case placement.Fetch:
			p.fetch(e)
		case placement.Measure:
			p.measure(e)
		case placement.Answer:
			if e.Ticket != 0 { // else nobody waits for it
				w.oracle.answered(p, e)
			}
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
	most := 400 * time.Millisecond
	if e.Artifact.Tree {
		most = treeMax
	}
	p.later(p.w.between(10*time.Millisecond, most), func() {
		for _, id := range p.sources(e) {
			from := p.w.byID[id]
			if from.blobs[e.Artifact.Digest] && p.w.reach(p, from) {
				p.arrived(e.Artifact.Digest)
				return
			}
		}
		p.step(placement.BlobFailed{Digest: e.Artifact.Digest, Reason: "nobody in reach has it"})
	})
}
