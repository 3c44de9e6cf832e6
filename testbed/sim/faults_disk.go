package sim

import (
	"math/rand/v2"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// This file is faults of disks.

// diskFull lets a disk take nothing for a while.
func diskFull(w *world, a Action, p, _ *peer, _ *rand.Rand) {
	p.disk.full = true
	w.undo(a, func() { p.disk.full = false })
}

// slowDisk makes each sync of a peer take seconds.
func slowDisk(w *world, a Action, p, _ *peer, rng *rand.Rand) {
	p.disk.slow = 500*time.Millisecond + time.Duration(rng.Int64N(int64(slowMax)))
	w.undo(a, func() { p.disk.slow = 0 })
}

// amnesia loses a disk: the peer comes back in another life of its store. Its
// work may have run on.
func amnesia(w *world, a Action, p, _ *peer, rng *rand.Rand) {
	w.loseDisk(a, p, rng, p.amnesia)
}

// restoreOld brings a disk back to an earlier state from a backup: to another
// life of the store, without what it had granted and promised.
func restoreOld(w *world, a Action, p, _ *peer, rng *rand.Rand) {
	backup := p.disk.backup()
	w.after(a.Lasts, func() {
		w.loseDisk(a, p, rng, func() {
			p.amnesia()
			p.disk.restore(backup)
		})
	})
}

// amnesiasMax is how many disks are lost in one run.
const amnesiasMax = 3

func (w *world) loseDisk(a Action, p *peer, rng *rand.Rand, lose func()) {
	if w.calm || p.out || p.absent || w.amnesias == amnesiasMax {
		return
	}
	w.amnesias++
	w.forgot = true
	if p.core != nil {
		p.crash(rng.IntN(2) == 0)
	}
	lose()
	w.after(a.Lasts/4, p.boot)
}

// backup is what a backup of a disk holds: all but what belongs to one life of
// the store (see placement.TableClaims and its like).
func (d *disk) backup() map[string]map[string][]byte {
	out := map[string]map[string][]byte{}
	for _, table := range []string{"table/" + placement.TableIntents, "table/" + placement.TableKeepers, "table/" + placement.TableStatus, placement.TableKeep} {
		out[table] = map[string][]byte{}
		for key, value := range d.tables[table] {
			out[table][key] = value
		}
	}
	return out
}

func (d *disk) restore(backup map[string]map[string][]byte) {
	for table, records := range backup {
		for key, value := range records {
			d.set(table, key, value)
		}
	}
}
