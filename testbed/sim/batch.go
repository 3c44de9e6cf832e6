package sim

import (
	"math/rand/v2"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// This file is the daemon's loop in a simulation: while a core is at work, or waits
// for its turn on a busy machine, events queue, and what waits is handed to it in one
// step. What the table of a key holds is read when its turn comes, and of a key that
// the core may write only after its answer to what came earlier was carried out.

const (
	// batchQuick and batchLong are for how long a core is busy in a plan, at most.
	batchQuick = 50 * time.Millisecond
	batchLong  = time.Second
	// batchMax bounds the events of one step.
	batchMax = 256
)

// drawBatch decides, apart from all else that a seed draws, for how long events wait
// for others: in every second plan each is a step of its own.
func drawBatch(seed uint64, p *Plan) {
	rng := rand.New(rand.NewPCG(seed, 12))
	switch rng.IntN(6) {
	case 0, 1:
		p.Batch = drawTime(rng, time.Millisecond, batchQuick)
	case 2:
		p.Batch = drawTime(rng, time.Millisecond, batchLong)
	}
}

// item is an event that waits for the core's turn.
type item struct {
	event placement.Event
	late  func() placement.Event // makes the event when its turn comes
	apart bool                   // of late: not in one step with what came earlier
}

// step gives the core an event, and carries out what it wants: at once, or with
// others that come meanwhile.
func (p *peer) step(ev placement.Event) { p.post(item{event: ev}) }

// stepLate is step for an event that is made when its turn comes.
func (p *peer) stepLate(apart bool, make func() placement.Event) {
	p.post(item{late: make, apart: apart})
}

func (p *peer) post(it item) {
	switch {
	case p.core == nil:
		return
	case p.w.plan.Batch == 0:
		if it.late != nil {
			it.event = it.late()
		}
		p.stepAll([]placement.Event{it.event})
		return
	}
	if p.waiting = append(p.waiting, it); len(p.waiting) == 1 {
		p.later(p.w.between(0, p.busy()), p.drain)
	}
}

// busy is for how long a core is busy now, at most: not for long once all is well.
func (p *peer) busy() time.Duration {
	if p.w.calm {
		return min(p.w.plan.Batch, batchQuick)
	}
	return p.w.plan.Batch
}

// drain takes what waits, as node's loop does.
func (p *peer) drain() {
	for p.core != nil && len(p.waiting) > 0 {
		life, n := p.life, min(len(p.waiting), batchMax)
		batch := p.waiting[:n:n]
		p.waiting = p.waiting[n:]
		var evs []placement.Event
		for _, it := range batch {
			if it.late == nil {
				evs = append(evs, it.event)
				continue
			}
			if it.apart {
				if p.stepAll(evs); p.life != life {
					return // killed by what it wrote
				}
				evs = nil
			}
			evs = append(evs, it.late())
		}
		p.stepAll(evs)
	}
}

// publishedMax is more than one event ever has reason to publish.
const publishedMax = 48

// stepAll gives the core events in one step, and carries out what it wants.
func (p *peer) stepAll(evs []placement.Event) {
	if p.core == nil || len(evs) == 0 {
		return
	}
	if len(evs) > 1 {
		p.w.oracle.stats.Together += len(evs)
	}
	p.effects(p.core.Step(p.clock(), evs...), publishedMax*len(evs))
	if p.core == nil {
		return
	}
	p.checkGrants(evs)
	if !p.telling && p.core.DigestChanged() {
		p.telling = true
		p.later(max(0, p.digest-p.w.now), p.tellDigest)
	}
}
