package table

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
)

// Limits of a Replica.
const (
	queueMax      = 4096    // operations that wait for the log
	batchOpsMax   = 512     // operations in one batch
	batchBytesMax = 1 << 20 // after which a batch is closed
)

// ErrBusy is a log so slow that too many operations wait for it.
var ErrBusy = errors.New("table busy")

// Log is where a table is durable.
type Log interface {
	// Load calls fn with every entry, in any order.
	Load(fn func(key string, value []byte) error) error
	// Apply writes all or nothing, and returns when it is durable. A nil value
	// deletes. After an error the state is unknown until the next success.
	Apply(ctx context.Context, writes []Write) error
}

// ReplicaConfig describes a Replica.
type ReplicaConfig struct {
	Table Config
	Log   Log
	// Publish is given each operation that is new here, after it is durable
	// here. It must not block.
	Publish func(rumour []byte)
	Logger  *slog.Logger // nil: discarded
}

// Replica is a Table for concurrent use, with a log beneath. Reads see a write
// at once, the writer hears of it when it is durable; a write that the log
// refuses is taken back. It owns no goroutine: one of the callers that wait
// commits for all of them.
type Replica struct {
	log    Log
	logger *slog.Logger
	name   string

	mu       sync.Mutex // guards what follows
	table    *Table
	publish  func(rumour []byte)
	queue    []*operationWaiting
	leading  bool    // somebody commits, or has been told to
	repair   []Write // restores the log after a batch whose fate is unknown
	watchers map[int]func(keys []string)
	nextID   int
}

// operationWaiting is one caller's part of a batch. wake is closed when it is
// over, and gets a value if the caller is to commit the next batch.
type operationWaiting struct {
	run  func() error
	wake chan struct{}
	done bool
	err  error
}

// Open loads a replica from its log.
func Open(cfg ReplicaConfig) (*Replica, error) {
	t, err := New(cfg.Table)
	if err != nil {
		return nil, err
	}
	r := &Replica{log: cfg.Log, logger: cfg.Logger, name: cfg.Table.Name, table: t, publish: cfg.Publish,
		watchers: map[int]func([]string){}}
	if r.logger == nil {
		r.logger = slog.New(slog.DiscardHandler)
	}
	var loadErr error
	entries := iter.Seq2[string, []byte](func(yield func(string, []byte) bool) {
		stop := errors.New("stop")
		err := cfg.Log.Load(func(key string, value []byte) error {
			if !yield(key, slices.Clone(value)) {
				return stop
			}
			return nil
		})
		if err != nil && !errors.Is(err, stop) {
			loadErr = fmt.Errorf("load table %s: %w", cfg.Table.Name, err)
		}
	})
	if err := errors.Join(t.Load(entries), loadErr); err != nil {
		return nil, err
	}
	return r, nil
}

// Name is the table's name.
func (r *Replica) Name() string { return r.name }

// SetPublish replaces ReplicaConfig.Publish.
func (r *Replica) SetPublish(publish func(rumour []byte)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.publish = publish
}

// Put writes over all siblings, and returns when that is durable here.
func (r *Replica) Put(ctx context.Context, key string, value []byte) error {
	return r.do(ctx, func() error { return r.table.put(key, value, dotsOf(r.table.keys[key])) })
}

// PutOver is Put over the listed dots only.
func (r *Replica) PutOver(ctx context.Context, key string, value []byte, over []Dot) error {
	return r.do(ctx, func() error { return r.table.put(key, value, over) })
}

// Remove removes all siblings; false if there are none.
func (r *Replica) Remove(ctx context.Context, key string) (bool, error) {
	var removed bool
	err := r.do(ctx, func() (err error) { removed, err = r.table.remove(key, dotsOf(r.table.keys[key])); return err })
	return removed && err == nil, err
}

// RemoveOver removes the listed dots only; siblings that are not listed stay.
func (r *Replica) RemoveOver(ctx context.Context, key string, over []Dot) error {
	if len(over) > r.table.cfg.SiblingsMax {
		return fmt.Errorf("remove %q in table %s over %d siblings: %w", key, r.name, len(over), ErrTooLarge)
	}
	return r.do(ctx, func() (err error) { _, err = r.table.remove(key, over); return err })
}

// Apply takes operations from elsewhere, in one batch, and returns when they
// are durable; the errors of those that were refused are joined.
func (r *Replica) Apply(ctx context.Context, rumours ...[]byte) error {
	return r.do(ctx, func() error {
		var errs []error
		for _, raw := range rumours {
			if _, err := r.table.apply(raw); err != nil {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	})
}

// Covered reports whether the operation with this dot has been seen.
func (r *Replica) Covered(d Dot) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.table.context.Covers(d)
}

// Get returns the folded value of a key.
func (r *Replica) Get(key string) ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.table.Get(key)
}

// Siblings returns the live records of a key, sorted by dot.
func (r *Replica) Siblings(key string) []Record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.table.Siblings(key)
}

// Range calls fn for every key with the prefix, sorted, until fn returns
// false. It walks a snapshot, so fn may use the replica.
func (r *Replica) Range(prefix string, fn func(key string, value []byte) bool) {
	type entry struct {
		key   string
		value []byte
	}
	var entries []entry
	r.mu.Lock()
	r.table.Range(prefix, func(key string, value []byte) bool {
		entries = append(entries, entry{key, value})
		return true
	})
	r.mu.Unlock()
	for _, e := range entries {
		if !fn(e.key, e.value) {
			return
		}
	}
}

// Len is the number of keys.
func (r *Replica) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.table.Len()
}

// Hash is equal for replicas that are equal.
func (r *Replica) Hash() Hash {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.table.Hash()
}

// Counts returns the table's totals.
func (r *Replica) Counts() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.table.Counts()
}

// OnChange calls fn with the keys of each durable batch, sorted, from the
// goroutine of a writer; fn may use the replica and should be quick. Calls of
// different batches may overlap, so fn reads the present value rather than
// trusting an order. The result ends the subscription.
func (r *Replica) OnChange(fn func(keys []string)) (cancel func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id := r.nextID
	r.nextID++
	r.watchers[id] = fn
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.watchers, id)
	}
}

// do runs an operation within a batch and waits until that is durable. When
// ctx ends first, the operation may still happen, unless it had not begun.
func (r *Replica) do(ctx context.Context, run func() error) error {
	w := &operationWaiting{run: run, wake: make(chan struct{}, 1)}
	r.mu.Lock()
	if len(r.queue) >= queueMax {
		r.mu.Unlock()
		return fmt.Errorf("write to table %s: %w", r.name, ErrBusy)
	}
	r.queue = append(r.queue, w)
	lead := !r.leading
	r.leading = true
	r.mu.Unlock()
	if lead {
		r.commit(ctx)
	}
	for {
		select {
		case <-w.wake:
			r.mu.Lock()
			done := w.done
			r.mu.Unlock()
			if done {
				return w.err
			}
			r.commit(ctx)
		case <-ctx.Done():
			return r.abandon(ctx, w)
		}
	}
}

// abandon takes a caller that gave up out of the queue, and hands on the lead
// if it was given it meanwhile.
func (r *Replica) abandon(ctx context.Context, w *operationWaiting) error {
	r.mu.Lock()
	if w.done {
		r.mu.Unlock()
		return w.err
	}
	r.queue = slices.DeleteFunc(r.queue, func(q *operationWaiting) bool { return q == w })
	select {
	case <-w.wake:
		r.passLead()
	default:
	}
	r.mu.Unlock()
	return fmt.Errorf("write to table %s: %w", r.name, ctx.Err())
}

// passLead tells the first that waits to commit. The caller holds mu and the
// lead.
func (r *Replica) passLead() {
	if len(r.queue) == 0 {
		r.leading = false
		return
	}
	r.queue[0].wake <- struct{}{}
}

// commit performs what waits, makes it durable, and tells everybody. The
// caller has the lead, which is passed on before watchers are called, so that
// they may write.
func (r *Replica) commit(ctx context.Context) {
	r.mu.Lock()
	part, batch := r.perform()
	writes := append(slices.Clone(r.repair), batch.Writes...)
	r.mu.Unlock()

	var err error
	if len(batch.Writes) > 0 {
		// Others wait for this batch, so its fate is not the leader's.
		if err = r.log.Apply(context.WithoutCancel(ctx), writes); err != nil {
			err = fmt.Errorf("write to table %s: %w", r.name, err)
		}
	}

	r.mu.Lock()
	switch {
	case err != nil:
		r.repair = append(r.repair, r.table.Undo(batch)...)
		r.repair = lastOfEach(r.repair)
	case len(batch.Writes) > 0:
		r.repair = nil
	}
	for _, w := range part {
		w.done = true
		if err != nil {
			w.err = err
		}
		close(w.wake)
	}
	publish := r.publish
	watchers := r.watching()
	r.passLead()
	r.mu.Unlock()

	if err != nil {
		return
	}
	r.tell(batch, publish, watchers)
}

// perform runs the operations that wait, up to the limits of a batch.
func (r *Replica) perform() ([]*operationWaiting, Batch) {
	r.table.begin()
	n := 0
	for n < len(r.queue) && n < batchOpsMax && r.table.cur.bytes < batchBytesMax {
		r.queue[n].err = r.queue[n].run()
		n++
	}
	part := r.queue[:n:n]
	r.queue = slices.Clone(r.queue[n:])
	return part, r.table.finish()
}

func (r *Replica) watching() []func([]string) {
	out := make([]func([]string), 0, len(r.watchers))
	for _, fn := range r.watchers {
		out = append(out, fn)
	}
	return out
}

func (r *Replica) tell(batch Batch, publish func([]byte), watchers []func([]string)) {
	if publish != nil {
		for _, rumour := range batch.Rumours {
			publish(rumour)
		}
	}
	if len(batch.Changed) > 0 {
		for _, fn := range watchers {
			fn(batch.Changed)
		}
	}
}

// lastOfEach keeps the last write to each key.
func lastOfEach(writes []Write) []Write {
	last := map[string]int{}
	for i, w := range writes {
		last[w.Key] = i
	}
	var out []Write
	for i, w := range writes {
		if last[w.Key] == i {
			out = append(out, w)
		}
	}
	return out
}
