package sim

import "time"

// crashPoint is one write of a run, and where in it a daemon is killed. Every
// write is numbered: each sync of a disk, with all that waited for it, and each
// record that is published.
type crashPoint struct {
	write int // the number of the write, from 1; 0 is none
	when  moment
}

type moment string

// The moments at which a write can be interrupted.
const (
	before moment = "before"    // nothing of it is on disk
	torn   moment = "torn"      // half of the batches that one sync was for
	after  moment = "after"     // all of it is, and nobody was told
	down          = time.Second // how long the daemon is gone then
)

// writes carries n writes of a peer out, unless this is where it is killed:
// then a part of them, and it is dead.
func (w *world) writes(p *peer, n int, write func(n int)) (alive bool) {
	if w.written = append(w.written, n); len(w.written) != w.crashAt.write {
		write(n)
		return true
	}
	switch w.crashAt.when {
	case torn:
		write(n / 2)
	case after:
		write(n)
	}
	p.crash(false)
	w.after(down, p.boot)
	return false
}
