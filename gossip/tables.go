package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/hansa-mesh/hansa/gossip/table"
)

// Limits of what tables may cost.
const (
	rumoursWaiting  = 4096    // operations that wait to be applied, for each table
	rumourBytesWait = 8 << 20 // and their bytes
	rumoursAtOnce   = 256     // in one batch
	announcedMax    = 1024    // operations known to exist and not fetched yet
	servingMax      = 2       // exchanges served at once
	servingWait     = 10 * time.Second
	syncTimeout     = 10 * time.Minute

	// An operation too large for a packet is pushed over streams, by each peer
	// that it is new to, to a few others; announcements find who was left out.
	pushBytesMax = 64 << 10 // beyond which it is only announced
	pushWorkers  = 4
	pushWaiting  = 256
)

// ErrBusy is an exchange that was not served because others are.
var ErrBusy = errors.New("busy with other exchanges")

// replicated is one table and what waits for it.
type replicated struct {
	replica *table.Replica
	waiting chan []byte
	bytes   atomic.Int64 // of what waits
	dropped atomic.Uint64

	missing map[table.Dot]string // announced by whom, not held; guarded by Gossip.mu
}

func newReplicated(r *table.Replica) *replicated {
	return &replicated{replica: r, waiting: make(chan []byte, rumoursWaiting), missing: map[table.Dot]string{}}
}

// announcement tells of an operation that is too large to ride on gossip.
type announcement struct {
	Table  string    `cbor:"1,keyasint"`
	Dot    table.Dot `cbor:"2,keyasint"`
	Holder string    `cbor:"3,keyasint"`
}

// spread sends an operation that is durable here on its way.
func (g *Gossip) spread(t *replicated, rumour []byte) {
	name := t.replica.Name()
	d, err := table.DotOf(rumour)
	if err != nil {
		return // the table made it
	}
	g.changed()
	m := append(make([]byte, 0, 2+len(name)+len(rumour)), rumourMsg, byte(len(name)))
	m = append(append(m, name...), rumour...)
	packed := g.rumours.NumQueued() < packedMax
	if packed && len(m) <= messageBytesMax {
		g.enqueue(g.rumours, "r/"+name+"/"+d.String(), m)
		return
	}
	if packed || len(m) > pushBytesMax {
		g.announce(name, d) // for those whom no push reaches; of many, anti-entropy finds them
	}
	if len(m) <= pushBytesMax && !g.bundles.add(m) {
		g.pushesDropped.Add(1)
	}
}

// push is a message for one peer, over a stream.
type push struct {
	peer string
	b    []byte
}

func (g *Gossip) someAlive(limit int) (ids []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.sample(limit, isAlive) {
		ids = append(ids, p.id)
	}
	return ids
}

func (g *Gossip) pushLarge(ctx context.Context) {
	for {
		select {
		case p := <-g.pushes:
			to := &memberlist.Node{Name: p.peer, Addr: placeholderIP, Port: placeholderPort}
			if err := g.ml.SendReliable(to, p.b); err != nil && ctx.Err() == nil {
				g.cfg.Logger.Debug("operation not pushed", "peer", p.peer, "error", err)
			}
		case <-ctx.Done():
			return
		}
	}
}

func (g *Gossip) announce(name string, d table.Dot) {
	b, err := encoder.Marshal(announcement{name, d, g.cfg.Self})
	if err != nil {
		return
	}
	g.enqueue(g.rumours, "a/"+name+"/"+d.String(), append([]byte{announceMsg}, b...))
}

// takeRumour hands an operation to its table's worker, since it must become
// durable and this caller must not wait.
func (g *Gossip) takeRumour(b []byte) {
	if len(b) < 1 || len(b) < 1+int(b[0]) {
		return
	}
	t, ok := g.tables[string(b[1:1+int(b[0])])]
	if !ok {
		return
	}
	b = b[1+int(b[0]):]
	if t.bytes.Add(int64(len(b))) <= rumourBytesWait {
		select {
		case t.waiting <- bytes.Clone(b):
			return
		default:
		}
	}
	t.bytes.Add(-int64(len(b)))
	t.dropped.Add(1) // not covered, so anti-entropy brings it
}

// refusedSaidEvery is how often it is said that operations are not taken.
const refusedSaidEvery = time.Minute

func (g *Gossip) applyRumours(ctx context.Context, t *replicated) {
	var said time.Time
	for {
		var batch [][]byte
		select {
		case b := <-t.waiting:
			batch = append(batch, b)
		case <-ctx.Done():
			return
		}
		for len(batch) < rumoursAtOnce && len(t.waiting) > 0 {
			batch = append(batch, <-t.waiting)
		}
		for _, b := range batch {
			t.bytes.Add(-int64(len(b)))
		}
		// What is new comes back through spread, once it is durable.
		if err := t.replica.Apply(ctx, batch...); err != nil && ctx.Err() == nil {
			if now := time.Now(); now.Sub(said) >= refusedSaidEvery { // a full disk refuses several a second
				said = now
				g.cfg.Logger.Warn("operations from the mesh were not taken", "table", t.replica.Name(), "error", err)
			}
		}
	}
}

func (g *Gossip) takeAnnouncement(b []byte) {
	var a announcement
	if decoder.Unmarshal(b, &a) != nil || a.Holder == g.cfg.Self || len(a.Dot.Peer) > idBytesMax {
		return
	}
	t, ok := g.tables[a.Table]
	if !ok || t.replica.Covered(a.Dot) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	p, ok := g.peers[a.Holder]
	if _, known := t.missing[a.Dot]; !ok || known {
		return
	}
	if len(t.missing) >= announcedMax {
		for d := range t.missing { // one at random, lest what was made up stays for ever
			delete(t.missing, d)
			break
		}
	}
	t.missing[a.Dot] = a.Holder
	if p.syncAt.IsZero() {
		// Spread the readers of one writer a little.
		p.syncAt = time.Now().Add(g.jitter(time.Duration(g.size.Load()) * 5 * time.Millisecond))
		poke(g.toSync)
	}
}

// settleMissing announces what was announced and has come, from a further
// holder, and forgets it; and what a peer announced that it did not have, or
// would not give, when tables were just exchanged with it.
func (g *Gossip) settleMissing(with string) {
	for _, t := range g.order {
		g.mu.Lock()
		missing := maps.Clone(t.missing)
		g.mu.Unlock()
		for d, holder := range missing {
			come := t.replica.Covered(d)
			if come {
				g.announce(t.replica.Name(), d)
			}
			if come || holder == with {
				g.mu.Lock()
				delete(t.missing, d)
				g.mu.Unlock()
			}
		}
	}
}

// HandleSync serves the exchanges of a stream that a peer opened with
// Config.OpenSync: two peers at a time, and one stream of each, behind which
// another may wait. The caller closes the stream after it.
func (g *Gossip) HandleSync(ctx context.Context, from string, rw io.ReadWriter) error {
	if !g.admitted(from) {
		return fmt.Errorf("exchange tables with %s: %w", from, errNotAdmitted)
	}
	turn, ok := g.beginServing(from)
	if !ok {
		return fmt.Errorf("exchange tables with %s: a third stream: %w", from, ErrBusy)
	}
	defer g.endServing(from)
	wait, stop := context.WithTimeoutCause(ctx, servingWait, ErrBusy)
	defer stop()
	for _, place := range []chan struct{}{turn, g.serving} {
		select {
		case place <- struct{}{}:
			defer func() { <-place }()
		case <-wait.Done():
			return fmt.Errorf("exchange tables with %s: %w", from, context.Cause(wait))
		}
	}
	g.noteStream()
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	err := table.Serve(ctx, rw, func(name string) (*table.Replica, bool) {
		if t, ok := g.tables[name]; ok {
			return t.replica, true
		}
		return nil, false
	}, g.noteSync)
	g.settleMissing(from)
	if err != nil {
		return fmt.Errorf("exchange tables with %s: %w", from, err)
	}
	return nil
}

// guest is a peer that has streams here: one of them has the turn, so that
// whoever stalls it can't stall both places with a second, and the second is
// one that the peer opened when it had closed the first, of which nothing was
// heard here yet.
type guest struct {
	streams int
	turn    chan struct{}
}

// beginServing is false for a peer with two streams already.
func (g *Gossip) beginServing(from string) (turn chan struct{}, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.served[from]
	if s == nil {
		s = &guest{turn: make(chan struct{}, 1)}
		g.served[from] = s
	}
	if s.streams == 2 {
		return nil, false
	}
	s.streams++
	return s.turn, true
}

func (g *Gossip) endServing(from string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.served[from]; s.streams == 1 {
		delete(g.served, from)
	} else {
		s.streams--
	}
}

func (g *Gossip) noteStream() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stats.SyncStreams++
}

func (g *Gossip) noteSync(s table.SyncStats, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stats.Syncs++
	g.stats.SyncBytes += uint64(s.BytesIn + s.BytesOut)
	if err != nil {
		g.stats.SyncsFailed++
	}
	if s.Equal {
		g.stats.SyncsEqual++
	}
	g.wake()
}
