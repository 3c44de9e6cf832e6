package node

import (
	"slices"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// eventsMax is how many events a peer remembers.
const eventsMax = 4096

// event is one thing that happened at this peer.
type event struct {
	Seq  uint64 // rises by one at this peer, from its start
	At   time.Time
	What placement.Happened
}

// eventLog remembers the latest events, in memory: they are for people, and
// what matters for deciding is in the ledger.
type eventLog struct {
	mu      sync.Mutex // guards what follows
	ring    []event
	seq     uint64
	changed chan struct{} // closed and replaced at each event
}

func newEventLog() *eventLog { return &eventLog{changed: make(chan struct{})} }

func (l *eventLog) add(what placement.Happened) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	if len(l.ring) >= eventsMax {
		l.ring = append(l.ring[:0:0], l.ring[eventsMax/4:]...)
	}
	l.ring = append(l.ring, event{Seq: l.seq, At: time.Now().UTC(), What: what})
	close(l.changed)
	l.changed = make(chan struct{})
}

// all are the remembered events, oldest first.
func (l *eventLog) all() []event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.ring)
}

// next is closed when the next event happens.
func (l *eventLog) next() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.changed
}
