package gossip

import (
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate is Gossip as memberlist sees it: the callbacks, apart from the
// public methods.
type delegate struct{ g *Gossip }

var (
	_ memberlist.Delegate      = delegate{}
	_ memberlist.AliveDelegate = delegate{}
	_ memberlist.EventDelegate = delegate{}
	_ memberlist.PingDelegate  = delegate{}
)

func (d delegate) NotifyAlive(n *memberlist.Node) error { return d.g.notifyAlive(n) }
func (d delegate) NotifyJoin(n *memberlist.Node)        { d.g.notifyJoin(n) }
func (d delegate) NotifyLeave(n *memberlist.Node)       { d.g.notifyLeave(n) }
func (d delegate) NotifyUpdate(n *memberlist.Node)      { d.g.notifyUpdate(n) }

// NodeMeta is asked for when memberlist starts and when metadata changed.
func (d delegate) NodeMeta(int) []byte {
	d.g.mu.Lock()
	defer d.g.mu.Unlock()
	return d.g.sealed
}

func (d delegate) AckPayload() []byte { return d.g.ackPayload() }

func (d delegate) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, payload []byte) {
	d.g.notifyPing(n.Name, rtt, payload)
}

// messages of this package, within memberlist's user messages.
const (
	digestMsg   = 'D'
	hashMsg     = 'H'
	rumourMsg   = 'R'
	announceMsg = 'A'
	bundleMsg   = 'B'
)

// NotifyMsg takes one message; it only parses, verifies and hands on.
func (d delegate) NotifyMsg(b []byte) {
	if len(b) == 0 {
		return
	}
	switch b[0] {
	case digestMsg:
		d.g.takeDigest(b)
	case hashMsg:
		d.g.takeHash(b)
	case rumourMsg:
		d.g.takeRumour(b[1:])
	case announceMsg:
		d.g.takeAnnouncement(b[1:])
	case bundleMsg:
		d.g.takeBundle(b[1:])
	}
}

// GetBroadcasts fills what memberlist leaves of a packet: operations before
// digests, which repeat, and hashes last, of which there are the most.
func (d delegate) GetBroadcasts(overhead, limit int) (out [][]byte) {
	for _, q := range []*memberlist.TransmitLimitedQueue{d.g.rumours, d.g.notices, d.g.hashes} {
		some := q.GetBroadcasts(overhead, limit)
		if q == d.g.rumours && len(some) == 0 && q.NumQueued() > 0 {
			poke(d.g.crowded)
		}
		for _, b := range some {
			limit -= overhead + len(b)
		}
		out = append(out, some...)
	}
	return out
}

// broadcast is a queued message. A named one replaces its predecessor.
type broadcast struct {
	name string
	b    []byte
}

var _ memberlist.NamedBroadcast = (*broadcast)(nil)

func (q *broadcast) Name() string    { return q.name }
func (q *broadcast) Message() []byte { return q.b }
func (q *broadcast) Finished()       {}
func (q *broadcast) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(*broadcast)
	return ok && o.name == q.name
}

// queueMax bounds each of the queues; the messages that were sent most
// often go first.
const queueMax = 4096

// enqueue queues a message that fits.
func (g *Gossip) enqueue(q *memberlist.TransmitLimitedQueue, name string, b []byte) {
	if len(b) > messageBytesMax {
		g.oversized.Add(1)
		return
	}
	q.QueueBroadcast(&broadcast{name: name, b: b})
	if q.NumQueued() > queueMax {
		g.pruned.Add(1)
		q.Prune(queueMax)
	}
}

// pushPull is this package's part of memberlist's exchange of state: repairs
// for what gossip lost.
type pushPull struct {
	From    string    `cbor:"1,keyasint"`
	Digests [][]byte  `cbor:"2,keyasint,omitempty"`
	Hashes  [][]byte  `cbor:"3,keyasint,omitempty"`
	Coords  []coordOf `cbor:"4,keyasint,omitempty"`
}

type coordOf struct {
	Peer  string `cbor:"1,keyasint"`
	Coord []byte `cbor:"2,keyasint"`
}

const (
	pushPullBytesMax = 1 << 20
	pushPullJoin     = 1024 // entries of each kind for one who joins
	pushPullUsual    = 64
	forgedMax        = 8 // forged digests, after which the rest is not looked at
)

func (d delegate) LocalState(join bool) []byte {
	g := d.g
	g.mu.Lock()
	defer g.mu.Unlock()
	limit := pushPullUsual
	if join {
		limit = pushPullJoin
	}
	s := pushPull{From: g.cfg.Self, Coords: []coordOf{{g.cfg.Self, g.coords.Own()}}}
	if g.own.message != nil {
		s.Digests = append(s.Digests, g.own.message)
	}
	if g.announced.message != nil {
		s.Hashes = append(s.Hashes, g.announced.message)
	}
	for _, p := range g.sample(limit, (*peer).reachable) {
		if p.digest.message != nil {
			s.Digests = append(s.Digests, p.digest.message)
		}
		if p.tables.message != nil {
			s.Hashes = append(s.Hashes, p.tables.message)
		}
		if c := g.coords.Of(p.id); c != nil {
			s.Coords = append(s.Coords, coordOf{p.id, c})
		}
	}
	b, err := encoder.Marshal(s)
	if err != nil {
		return nil
	}
	return b
}

func (d delegate) MergeRemoteState(b []byte, _ bool) {
	var s pushPull
	if len(b) > pushPullBytesMax || decoder.Unmarshal(b, &s) != nil {
		return
	}
	forged := 0
	for _, m := range s.Digests {
		if !d.g.takeDigest(m) {
			forged++
		}
		if forged > forgedMax { // each costs a verification
			return
		}
	}
	for _, m := range s.Hashes {
		d.g.takeHash(m)
	}
	for _, c := range s.Coords {
		if d.g.isPeer(c.Peer) { // or made-up ones would fill what is held
			d.g.coords.Hearsay(c.Peer, c.Coord)
		}
	}
}
