package node

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/placement"
)

// publishRetry is the pause after a table could not be written (the disk is
// full, say); what is to be published is the latest state, so it keeps.
const publishRetry = time.Second

// publisher writes the core's records into the replicated tables: each key in
// order, different keys side by side, and of several waiting values of one
// key only the last.
type publisher struct {
	ctx    context.Context
	work   *sync.WaitGroup
	tables map[string]*table.Replica
	self   placement.PeerRef
	log    *slog.Logger

	mu      sync.Mutex // guards what follows
	waiting map[recordKey]*publication
	busy    map[recordKey]bool
}

// publication is one write that waits.
type publication struct {
	value  []byte // nil removes the key
	seen   []table.Dot
	beside [][]byte
}

func newPublisher(ctx context.Context, work *sync.WaitGroup, tables map[string]*table.Replica, self placement.PeerRef, log *slog.Logger) *publisher {
	return &publisher{ctx: ctx, work: work, tables: tables, self: self, log: log,
		waiting: map[recordKey]*publication{}, busy: map[recordKey]bool{}}
}

// publish writes a key over the siblings that the core has seen and that it
// does not want beside. It never blocks.
func (p *publisher) publish(k recordKey, what publication) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting[k] = &what
	if !p.busy[k] {
		p.busy[k] = true
		p.work.Go(func() { p.drain(k) })
	}
}

func (p *publisher) drain(k recordKey) {
	for {
		p.mu.Lock()
		next := p.waiting[k]
		delete(p.waiting, k)
		if next == nil || p.ctx.Err() != nil {
			delete(p.busy, k)
			p.mu.Unlock()
			return
		}
		p.mu.Unlock()
		if err := p.write(k, next); err != nil {
			p.log.Warn("a record could not be published; it will be tried again", "table", k.table, "key", k.key, "err", err)
			p.mu.Lock()
			if p.waiting[k] == nil {
				p.waiting[k] = next
			}
			p.mu.Unlock()
			select {
			case <-p.ctx.Done():
			case <-time.After(publishRetry):
			}
		}
	}
}

func (p *publisher) write(k recordKey, what *publication) error {
	replica := p.tables[k.table]
	var over []table.Dot
	for _, r := range replica.Siblings(k.key) {
		own := r.Dot.Peer == string(p.self.Peer) && r.Dot.Incarnation == uint64(p.self.Incarnation)
		stays := slices.ContainsFunc(what.beside, func(v []byte) bool { return bytes.Equal(v, r.Value) })
		if (own || slices.Contains(what.seen, r.Dot)) && !stays {
			over = append(over, r.Dot)
		}
	}
	if what.value == nil {
		return replica.RemoveOver(p.ctx, k.key, over)
	}
	return replica.PutOver(p.ctx, k.key, what.value, over)
}
