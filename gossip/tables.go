package gossip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/hansa-mesh/hansa/gossip/table"
)

// Limits of what tables may cost.
const (
	rumoursWaiting = 4096 // operations that wait to be applied, for each table
	rumoursAtOnce  = 256  // in one batch
	announcedMax   = 1024 // operations known to exist and not fetched yet
	servingMax     = 2    // exchanges served at once
	servingWait    = 10 * time.Second
	syncTimeout    = 10 * time.Minute

	// An operation too large for a packet is pushed over streams, by each peer
	// that it is new to, to a few others; announcements find who was left out.
	pushBytesMax = 64 << 10 // beyond which it is only announced
	pushFanOut   = 3
	pushWorkers  = 4
	pushWaiting  = 256
)

// ErrBusy is an exchange that was not served because others are.
var ErrBusy = errors.New("busy with other exchanges")

// replicated is one table and what waits for it.
type replicated struct {
	replica *table.Replica
	waiting chan []byte
	dropped atomic.Uint64

	missing map[table.Dot]struct{} // announced, not held; guarded by Gossip.mu
}

func newReplicated(r *table.Replica) *replicated {
	return &replicated{replica: r, waiting: make(chan []byte, rumoursWaiting), missing: map[table.Dot]struct{}{}}
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
	m := append(make([]byte, 0, 2+len(name)+len(rumour)), rumourMsg, byte(len(name)))
	m = append(append(m, name...), rumour...)
	if len(m) <= messageBytesMax {
		g.enqueue(g.rumours, "r/"+name+"/"+d.String(), m)
		return
	}
	g.announce(name, d)
	if len(m) > pushBytesMax {
		return
	}
	for _, id := range g.someAlive(pushFanOut) {
		select {
		case g.pushes <- push{id, m}:
		default:
			g.pushesDropped.Add(1) // the announcement stands
		}
	}
}

// push is a message for one peer, over a stream.
type push struct {
	peer string
	b    []byte
}

func (g *Gossip) someAlive(limit int) (out []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id, p := range g.peers { // in random order
		if len(out) == limit {
			break
		}
		if p.state == StateAlive {
			out = append(out, id)
		}
	}
	return out
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
	select {
	case t.waiting <- append([]byte(nil), b[1+int(b[0]):]...):
	default:
		t.dropped.Add(1) // not covered, so anti-entropy brings it
	}
}

func (g *Gossip) applyRumours(ctx context.Context, t *replicated) {
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
		// What is new comes back through spread, once it is durable.
		if err := t.replica.Apply(ctx, batch...); err != nil && ctx.Err() == nil {
			g.cfg.Logger.Warn("operations from the mesh were not taken", "table", t.replica.Name(), "error", err)
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
	if _, known := t.missing[a.Dot]; !ok || known || len(t.missing) >= announcedMax {
		return
	}
	t.missing[a.Dot] = struct{}{}
	if p.syncAt.IsZero() {
		// Spread the readers of one writer a little.
		p.syncAt = time.Now().Add(g.jitter(time.Duration(g.size.Load()) * 5 * time.Millisecond))
	}
}

// settleMissing announces what was announced and has come, from a further
// holder, and forgets it.
func (g *Gossip) settleMissing() {
	for _, t := range g.tables {
		g.mu.Lock()
		dots := make([]table.Dot, 0, len(t.missing))
		for d := range t.missing {
			dots = append(dots, d)
		}
		g.mu.Unlock()
		for _, d := range dots {
			if t.replica.Covered(d) {
				g.announce(t.replica.Name(), d)
				g.mu.Lock()
				delete(t.missing, d)
				g.mu.Unlock()
			}
		}
	}
}

// HandleSync serves an exchange that a peer opened with Config.OpenSync, two
// at a time. The caller closes the stream after it.
func (g *Gossip) HandleSync(ctx context.Context, from, name string, rw io.ReadWriter) error {
	t, ok := g.tables[name]
	if !ok {
		return fmt.Errorf("sync table %q for %s: %w", name, from, errMalformed)
	}
	if !g.admitted(from) {
		return fmt.Errorf("sync table %s for %s: %w", name, from, errNotAdmitted)
	}
	wait := time.NewTimer(servingWait)
	defer wait.Stop()
	select {
	case g.serving <- struct{}{}:
		defer func() { <-g.serving }()
	case <-wait.C:
		return fmt.Errorf("sync table %s for %s: %w", name, from, ErrBusy)
	case <-ctx.Done():
		return fmt.Errorf("sync table %s for %s: %w", name, from, ctx.Err())
	}
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	stats, err := t.replica.Serve(ctx, rw)
	g.noteSync(stats, err)
	g.settleMissing()
	if err != nil {
		return fmt.Errorf("serve %s: %w", from, err)
	}
	return nil
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
