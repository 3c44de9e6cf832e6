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
// key only the last, and those that it wants beside it.
type publisher struct {
	ctx    context.Context
	work   *sync.WaitGroup
	tables map[string]*table.Replica
	self   placement.PeerRef
	again  func(recordKey) // tells the core once more what a key holds
	log    *slog.Logger

	mu      sync.Mutex                   // guards what follows
	waiting map[recordKey][]*publication // in order
	busy    map[recordKey]*publication   // written by the goroutine of the key
	shown   map[recordKey]bool           // values were asked for meanwhile
}

// publication is one write that waits.
type publication struct {
	value  []byte // nil removes the key
	seen   []table.Dot
	beside [][]byte
}

// keeps says whether a publication wants a value beside its own.
func (what *publication) keeps(value []byte) bool {
	return slices.ContainsFunc(what.beside, func(v []byte) bool { return bytes.Equal(v, value) })
}

// newPublisher makes a publisher; ctx is to be set before it publishes.
func newPublisher(work *sync.WaitGroup, tables map[string]*table.Replica, self placement.PeerRef, again func(recordKey), log *slog.Logger) *publisher {
	return &publisher{work: work, tables: tables, self: self, again: again, log: log,
		waiting: map[recordKey][]*publication{}, busy: map[recordKey]*publication{}, shown: map[recordKey]bool{}}
}

// publish writes a key over the siblings that the core has seen and that it
// does not want beside. It never blocks.
func (p *publisher) publish(k recordKey, what publication) {
	p.mu.Lock()
	defer p.mu.Unlock()
	unwanted := func(w *publication) bool { return w.value == nil || !what.keeps(w.value) }
	p.waiting[k] = append(slices.DeleteFunc(p.waiting[k], unwanted), &what)
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
			if later := p.waiting[k]; len(later) == 0 || later[len(later)-1].keeps(next.value) {
				p.waiting[k] = slices.Insert(later, 0, next)
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
		if p.replaces(what, r) {
			over = append(over, r.Dot)
		}
	}
	if what.value == nil {
		return replica.RemoveOver(p.ctx, k.key, over)
	}
	return replica.PutOver(p.ctx, k.key, what.value, over)
}

// replaces says whether a publication is over a record: one of this peer's own,
// or one that the core had seen, unless the core wants it beside.
func (p *publisher) replaces(what *publication, r table.Record) bool {
	own := r.Dot.Peer == string(p.self.Peer) && r.Dot.Incarnation == uint64(p.self.Incarnation)
	if !own && !slices.Contains(what.seen, r.Dot) {
		return false
	}
	return !what.keeps(r.Value)
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
	for _, what := range append([]*publication{p.busy[k]}, p.waiting[k]...) {
		if what == nil {
			continue
		}
		p.shown[k] = true
		records = slices.DeleteFunc(slices.Clone(records), func(r table.Record) bool { return p.replaces(what, r) })
		if what.value != nil {
			own := table.Dot{Peer: string(p.self.Peer), Incarnation: uint64(p.self.Incarnation)}
			records = append(records, table.Record{Dot: own, Value: what.value})
		}
	}
	values := make([][]byte, len(records))
	for i, r := range records {
		values[i] = r.Value
	}
	return values, dots
}
