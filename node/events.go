package node

import (
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// eventsMax is how many events a peer remembers.
const eventsMax = 4096

// event is one thing that happened at this peer.
type event struct {
	Seq  uint64             `json:"seq"` // rises by one at this peer, from its start
	At   time.Time          `json:"at"`
	Peer placement.PeerID   `json:"peer"` // that saw it
	Site placement.SiteID   `json:"site"`
	What placement.Happened `json:"what"`
}

// eventLog remembers the latest events, in memory: they are for people, and
// what matters for deciding is in the ledger.
type eventLog struct {
	peer placement.PeerID
	site placement.SiteID

	mu      sync.Mutex // guards what follows
	ring    []event
	seq     uint64
	changed chan struct{} // closed and replaced at each event
}

func newEventLog(peer placement.PeerID, site placement.SiteID) *eventLog {
	return &eventLog{peer: peer, site: site, changed: make(chan struct{})}
}

func (l *eventLog) add(what placement.Happened) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	if len(l.ring) >= eventsMax {
		l.ring = append(l.ring[:0:0], l.ring[eventsMax/4:]...)
	}
	l.ring = append(l.ring, event{Seq: l.seq, At: time.Now().UTC(), Peer: l.peer, Site: l.site, What: what})
	close(l.changed)
	l.changed = make(chan struct{})
}

// after are the remembered events past seq, oldest first, at most max.
func (l *eventLog) after(seq uint64, max int) []event {
	events, _ := l.since(seq, max)
	return events
}

func (l *eventLog) since(seq uint64, max int) ([]event, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []event
	for _, e := range l.ring {
		if e.Seq > seq {
			out = append(out, e)
		}
	}
	if len(out) > max {
		out = out[len(out)-max:]
	}
	return out, l.changed
}
