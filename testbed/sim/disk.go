package sim

import (
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// disk is a map that forgets what was not synced.
type disk struct {
	tables  map[string]map[string][]byte
	kept    map[string]placement.Kept // what TableKeep says, read
	pending []placement.Persist
	full    bool
	slow    time.Duration // each sync takes so much longer
	busy    bool
}

func newDisk() *disk {
	d := &disk{}
	d.wipe()
	return d
}

// wipe empties the disk.
func (d *disk) wipe() {
	d.tables, d.kept = map[string]map[string][]byte{}, map[string]placement.Kept{}
}

// persist queues a batch. Batches become durable in order.
func (d *disk) persist(p *peer, e placement.Persist) {
	if d.full {
		p.later(p.w.between(0, 10*time.Millisecond), func() {
			p.step(placement.PersistFailed{Token: e.Token, Err: "no space left", Full: true})
		})
		return
	}
	d.pending = append(d.pending, e)
	if p.w.plan.Mutant == dropSync {
		p.later(0, func() { p.step(placement.Persisted{Token: e.Token}) })
	}
	d.next(p)
}

// next syncs what is queued: one sync for all of it, as a group commit does.
func (d *disk) next(p *peer) {
	if d.busy || len(d.pending) == 0 {
		return
	}
	d.busy = true
	took := time.Millisecond
	if !p.w.calm && p.w.chance(p.w.plan.SlowDisk) {
		took = 500 * time.Millisecond
	}
	p.later(d.slow+took+p.w.between(0, 5*took), func() {
		batch := d.pending
		d.pending, d.busy = nil, false
		if !p.w.writes(p, len(batch), func(n int) {
			for _, e := range batch[:n] {
				d.apply(p, e)
			}
		}) {
			return
		}
		for _, e := range batch {
			p.step(placement.Persisted{Token: e.Token})
			if !p.w.calm && p.w.chance(p.w.plan.Double) {
				p.step(placement.Persisted{Token: e.Token})
			}
		}
		d.next(p)
	})
}

func (d *disk) apply(p *peer, e placement.Persist) {
	for _, wr := range e.Writes {
		p.w.oracle.written(p, wr)
		d.set(wr.Table, wr.Key, wr.Value)
		if wr.Table == placement.TableKeep {
			p.w.oracle.check(p.w, placement.UID(wr.Key))
		}
	}
}

func (d *disk) set(table, key string, value []byte) {
	if table == placement.TableKeep {
		delete(d.kept, key)
	}
	if d.tables[table] == nil {
		d.tables[table] = map[string][]byte{}
	}
	if value == nil {
		delete(d.tables[table], key)
	} else {
		d.tables[table][key] = value
	}
}

// crash forgets what was not synced, but for what happened to get there.
func (d *disk) crash(w *world) {
	pending := d.pending
	d.pending, d.busy = nil, false
	n := 0
	if len(pending) > 0 {
		n = w.rng.IntN(len(pending) + 1)
	}
	for _, e := range pending[:n] {
		for _, wr := range e.Writes {
			d.set(wr.Table, wr.Key, wr.Value)
		}
	}
}
