package node

import (
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
// key only the last, and those that it wants beside it.
type publisher struct {
	ctx    context.Context
	work   *sync.WaitGroup
	tables map[string]*table.Replica
	self   placement.PeerRef
	again  func(recordKey) // tells the core once more what a key holds
	log    *slog.Logger

	mu      sync.Mutex // guards what follows
	waiting map[recordKey]table.Backlog
	busy    map[recordKey]*table.Wanted // written by the goroutine of the key
	shown   map[recordKey]bool          // values were asked for meanwhile
}

// newPublisher makes a publisher; ctx is to be set before it publishes.
func newPublisher(work *sync.WaitGroup, tables map[string]*table.Replica, self placement.PeerRef, again func(recordKey), log *slog.Logger) *publisher {
	return &publisher{work: work, tables: tables, self: self, again: again, log: log,
		waiting: map[recordKey]table.Backlog{}, busy: map[recordKey]*table.Wanted{}, shown: map[recordKey]bool{}}
}

// publish writes a key over the siblings that the core has seen and that it
// does not want beside. It never blocks.
func (p *publisher) publish(k recordKey, what table.Wanted) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting[k] = p.waiting[k].Add(&what)
	if p.busy[k] == nil {
		p.busy[k] = &what
		p.work.Go(func() { p.drain(k) })
	}
}

func (p *publisher) drain(k recordKey) {
	for {
		p.mu.Lock()
		if len(p.waiting[k]) == 0 || p.ctx.Err() != nil {
			delete(p.waiting, k)
			shown := p.shown[k]
			delete(p.busy, k)
			delete(p.shown, k)
			p.mu.Unlock()
			if shown {
				p.again(k)
			}
			return
		}
		next := p.waiting[k][0]
		p.waiting[k] = p.waiting[k][1:]
		p.busy[k] = next
		p.mu.Unlock()
		if err := p.write(k, next); err != nil {
			p.log.Warn("a record could not be published; it will be tried again", "table", k.table, "key", k.key, "err", err)
			p.mu.Lock()
			p.waiting[k] = p.waiting[k].Again(next)
			p.mu.Unlock()
			select {
			case <-p.ctx.Done():
			case <-time.After(publishRetry):
			}
		}
	}
}

func (p *publisher) write(k recordKey, what *table.Wanted) error {
	replica := p.tables[k.table]
	records := replica.Siblings(k.key)
	if what.Made(p.own(), records) {
		return nil
	}
	over := what.Over(p.own(), records)
	if what.Value == nil {
		return replica.RemoveOver(p.ctx, k.key, over)
	}
	return replica.PutOver(p.ctx, k.key, what.Value, over)
}

// own is the writer of what this peer publishes.
func (p *publisher) own() table.Dot {
	return table.Dot{Peer: string(p.self.Peer), Incarnation: uint64(p.self.Incarnation)}
}

// values are those of a key as they will be once what is on its way is written,
// and the dots of those that are. The core takes what it publishes for written:
// news of the key that come before the write must not show it the state before.
func (p *publisher) values(k recordKey) ([][]byte, []table.Dot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	records := p.tables[k.table].Siblings(k.key)
	dots := make([]table.Dot, len(records))
	for i, r := range records {
		dots[i] = r.Dot
	}
	coming := p.waiting[k]
	if what := p.busy[k]; what != nil {
		coming = slices.Insert(slices.Clone(coming), 0, what)
	}
	if len(coming) > 0 {
		p.shown[k] = true
	}
	records = coming.After(p.own(), records)
	values := make([][]byte, len(records))
	for i, r := range records {
		values[i] = r.Value
	}
	return values, dots
}
