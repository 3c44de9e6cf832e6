package sim

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/placement"
)

// This file is the daemon's publisher in a simulation: what a core publishes is
// written later, a key at a time, and of what waits meanwhile only the last and what
// that wants beside it (table.Backlog). What was not written is lost with the daemon.

const (
	// lateQuick and lateLong are how late tables are written in a plan, at most.
	lateQuick = 200 * time.Millisecond
	lateLong  = 5 * time.Second
	// publishRetry is the pause after a disk that was full.
	publishRetry = time.Second
)

// drawLateTables decides, apart from all else that a seed draws, how late a plan's
// tables are written: at once in every second plan.
func drawLateTables(seed uint64, p *Plan) {
	rng := rand.New(rand.NewPCG(seed, 10))
	switch rng.IntN(4) {
	case 0:
		p.LateTables = drawTime(rng, 0, lateQuick)
	case 1:
		p.LateTables = drawTime(rng, 0, lateLong)
	}
}

// tableKey is a key of a replicated table.
type tableKey struct{ table, key string }

// writer writes what one life of a daemon publishes.
type writer struct {
	waiting map[tableKey]table.Backlog
	busy    map[tableKey]*table.Wanted
	shown   map[tableKey]bool // what waits was shown to the core
}

func newWriter() *writer {
	return &writer{waiting: map[tableKey]table.Backlog{}, busy: map[tableKey]*table.Wanted{}, shown: map[tableKey]bool{}}
}

// coming is what is yet to be written of a key.
func (wr *writer) coming(k tableKey) table.Backlog {
	if what := wr.busy[k]; what != nil {
		return slices.Insert(slices.Clone(wr.waiting[k]), 0, what)
	}
	return wr.waiting[k]
}

// own is the writer of what a peer publishes.
func (p *peer) own() table.Dot { return table.Dot{Peer: string(p.id), Incarnation: uint64(p.inc)} }

// siblings is what the core is told of a key: what it will hold once all is written.
// It notes what of that there is: what the core publishes is over that, and over no
// edit that it has not seen.
func (p *peer) siblings(name, key string) [][]byte {
	records := p.tables[name].Siblings(key)
	dots := make([]table.Dot, len(records))
	for i, r := range records {
		dots[i] = r.Dot
	}
	k := tableKey{name, key}
	p.told[k] = dots
	coming := p.writer.coming(k)
	if len(coming) > 0 {
		p.writer.shown[k] = true
	}
	var out [][]byte
	for _, r := range coming.After(p.own(), records) {
		out = append(out, r.Value)
	}
	return out
}

// publish writes what the core wants of a key, at once or in its turn.
func (p *peer) publish(e placement.Publish) {
	k := tableKey{e.Table, e.Key}
	what := &table.Wanted{Value: e.Value, Seen: p.told[k], Beside: e.Beside}
	if p.w.plan.LateTables == 0 {
		p.write(k, what)
		return
	}
	wr := p.writer
	wr.waiting[k] = wr.waiting[k].Add(what)
	if wr.busy[k] == nil {
		p.writeNext(k)
	}
}

// writeNext begins the next write of a key, or tells the core once more what the key
// holds when there is none.
func (p *peer) writeNext(k tableKey) {
	wr := p.writer
	if len(wr.waiting[k]) == 0 {
		shown := wr.shown[k]
		delete(wr.waiting, k)
		delete(wr.busy, k)
		if delete(wr.shown, k); shown {
			p.changed(k.table, k.key)
		}
		return
	}
	what := wr.waiting[k][0]
	wr.waiting[k] = wr.waiting[k][1:]
	wr.busy[k] = what
	p.later(p.lateness(), func() {
		if p.disk.full {
			wr.waiting[k] = wr.waiting[k].Again(what)
			p.later(publishRetry, func() { p.writeNext(k) })
			return
		}
		if p.write(k, what); p.core != nil {
			p.writeNext(k)
		}
	})
}

// lateness is how long one write takes: most are quick also where some are not.
func (p *peer) lateness() time.Duration {
	most := p.w.plan.LateTables
	if p.w.calm || p.w.chance(0.5) {
		most = min(most, 20*time.Millisecond)
	}
	return p.disk.slow + p.w.between(0, most)
}

// write writes a key, spreads that, and tells the core.
func (p *peer) write(k tableKey, what *table.Wanted) {
	t := p.tables[k.table]
	if what.Made(p.own(), t.Siblings(k.key)) {
		return
	}
	var b table.Batch
	var err error
	over := what.Over(p.own(), t.Siblings(k.key))
	if what.Value == nil {
		b, err = t.RemoveOver(k.key, over)
	} else {
		b, err = t.PutOver(k.key, what.Value, over)
	}
	if err != nil {
		p.w.fail("%s: publish %s %s: %v", p.id, k.table, k.key, err)
		return
	}
	p.w.tell(p, "publish", k.table, k.key)
	p.w.writes(p, 1, func(n int) {
		if n > 0 {
			p.store(k.table, b)
		}
	})
	if p.core != nil {
		p.spreadAll(k.table, b)
	}
}
