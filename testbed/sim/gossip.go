package sim

import (
	"hash/fnv"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/placement"
)

func hash(s string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(s))
	return h.Sum64()
}

func cmpString(a, b string) int { return strings.Compare(a, b) }

// took makes a batch of a table durable, spreads it, and tells the core.
func (p *peer) took(name string, b table.Batch) {
	p.store(name, b)
	p.spreadAll(name, b)
}

func (p *peer) store(name string, b table.Batch) {
	for _, wr := range b.Writes {
		p.disk.set("table/"+name, wr.Key, wr.Value)
	}
}

func (p *peer) spreadAll(name string, b table.Batch) {
	for _, rumour := range b.Rumours {
		p.spread(name, rumour)
	}
	for _, key := range b.Changed {
		p.changed(name, key)
	}
}

// changed tells the core what a key holds: of one that it may write after it has
// written.
func (p *peer) changed(name, key string) {
	own := name != placement.TableStatus || placement.StatusOf(key) == p.id
	p.later(0, func() {
		p.stepLate(own, func() placement.Event {
			return placement.RecordChanged{Table: name, Key: key, Siblings: p.siblings(name, key)}
		})
	})
}

// fanOut is how many peers a rumour is passed on to.
const fanOut = 3

func (p *peer) spread(name string, rumour []byte) {
	for range fanOut {
		o := p.w.peers[p.w.rng.IntN(len(p.w.peers))]
		if o == p {
			continue
		}
		p.w.carry(p, o, func() {
			if b, err := o.tables[name].Apply(rumour); err != nil {
				p.w.fail("%s: rumour of %s: %v", o.id, p.id, err)
			} else {
				o.took(name, b)
			}
		})
	}
}

// sync settles the tables with another peer, in one go, and tells it the digest.
func (p *peer) sync() {
	w := p.w
	p.later(w.between(w.plan.Sync, 2*w.plan.Sync), p.sync)
	o := w.peers[w.rng.IntN(len(w.peers))]
	if o == p || !w.reach(p, o) {
		return
	}
	for _, name := range tables {
		if p.tables[name].Hash() != o.tables[name].Hash() {
			p.exchange(o, name)
		}
	}
	d := p.core.Digest() // what no rumour brought
	w.at(o, w.delay(p, o), func() { o.step(placement.DigestChanged{Digest: d}) })
	if w.plan.Pins { // likewise
		blobs := p.holds()
		w.at(o, w.delay(p, o), func() { o.step(placement.Holds{Peer: p.id, Blobs: blobs}) })
	}
}

func (p *peer) exchange(o *peer, name string) {
	a, b := p.tables[name].Initiate(), o.tables[name].Respond()
	type end struct {
		p *peer
		s *table.Session
	}
	from, to := end{p, a}, end{o, b}
	for {
		n := 0
		for {
			f, ok := from.s.Next()
			if !ok {
				break
			}
			n++
			batch, err := to.s.Step(f)
			if err != nil {
				p.w.fail("%s: sync %s with %s: %v", p.id, name, o.id, err)
				return
			}
			to.p.took(name, batch)
		}
		if n == 0 {
			return
		}
		from, to = to, from
	}
}

// detect is failure detection: it takes a while, and differs.
func (p *peer) detect() {
	w := p.w
	p.later(time.Second, p.detect)
	for _, o := range w.peers {
		if o == p || o.forgotten || o.absent {
			continue
		}
		s := p.view[o.id]
		if s == nil {
			s = &seen{}
			p.view[o.id] = s
		}
		if p.judged[o.id] == judgedAlive && s.state == placement.MemberAlive {
			s.last = w.now
			continue
		}
		if p.judged[o.id] != judgedDead && w.reach(p, o) {
			s.last = w.now
			if s.state != placement.MemberAlive {
				s.state = placement.MemberAlive
				p.known[o.id] = true
				p.member(o, s.state)
				p.later(w.between(0, 100*time.Millisecond), func() {
					if o.core != nil && w.open(o, p) {
						p.step(placement.DigestChanged{Digest: o.core.Digest()})
					}
				})
			}
			s.after = w.between(3*time.Second, 7*time.Second)
			continue
		}
		silent := w.now - s.last
		switch {
		case s.state == placement.MemberAlive && silent > time.Second:
			s.state = placement.MemberSuspect
			p.member(o, s.state)
		case s.state == placement.MemberSuspect && silent > s.after:
			s.state = placement.MemberDead
			p.member(o, s.state)
		}
	}
}

// left tells a peer that another left and will be back within a time.
func (p *peer) left(o *peer, within time.Duration) {
	if s := p.view[o.id]; s != nil && s.state == placement.MemberAlive && o.core == nil {
		s.state = placement.MemberLeft
		p.w.tell(p, "member", string(o.id), "left, back within "+within.String())
		p.step(placement.MemberChanged{Peer: o.id, Site: o.site, State: placement.MemberLeft, BackWithin: within})
	}
}

func (p *peer) member(o *peer, state placement.MemberState) {
	p.w.tell(p, "member", string(o.id), string(state))
	p.step(placement.MemberChanged{Peer: o.id, Site: o.site, State: state})
}

// digestEvery is how often a peer tells its digest at most.
const digestEvery = 500 * time.Millisecond

func (p *peer) tellDigest() {
	p.telling = false
	p.digest = p.w.now + digestEvery
	d := p.core.Digest()
	for _, o := range p.w.peers {
		if o != p {
			p.w.carry(p, o, func() { o.step(placement.DigestChanged{Digest: d}) })
		}
	}
}
