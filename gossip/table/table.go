package table

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Errors that callers tell apart.
var (
	// ErrRefused is a record that Config.Check or a limit turned away. It is
	// not covered, so it is offered again.
	ErrRefused = errors.New("record refused")
	// ErrTooLarge is a key or a value beyond the limits.
	ErrTooLarge = errors.New("key or value too large")
	// ErrFull is a table that holds as many keys or bytes as it may.
	ErrFull = errors.New("table full")
)

// Defaults of Config.
const (
	valueMaxDefault    = 256 << 10
	keysMaxDefault     = 1 << 20
	bytesMaxDefault    = 256 << 20
	siblingsMaxDefault = 64
)

const (
	// ancestorsMax is how many dots beyond the observed ones a write
	// supersedes: those that the observed records superseded themselves. A
	// rumour that was lost then costs nobody a sibling that is no conflict.
	ancestorsMax = 4
	// holesMax is how many counters of its own undone writes a writer declares
	// void in one operation, so that they do not split its run of counters in
	// every context for ever.
	holesMax = 8
)

// Config describes a table. Zero fields are the defaults named.
type Config struct {
	Name        string // for sessions: both ends must agree
	Self        string // id of this peer
	Incarnation uint64 // of this peer's store

	// Merge folds two siblings into one value for readers: associative,
	// commutative, idempotent. Nil: the sibling with the greatest dot is read.
	Merge func(local, remote []byte) ([]byte, error)
	// Check verifies a record that comes from elsewhere: signature, form,
	// right to write. Nil: all are taken.
	Check func(key string, value []byte) error

	ValueMax    int // bytes of a value; 256 KiB
	KeysMax     int // 1,048,576
	BytesMax    int // of all records, which are in memory; 256 MiB
	SiblingsMax int // of one key; 64, at most 240
}

func (c Config) filled() (Config, error) {
	c.ValueMax = cmp.Or(c.ValueMax, valueMaxDefault)
	c.KeysMax = cmp.Or(c.KeysMax, keysMaxDefault)
	c.BytesMax = cmp.Or(c.BytesMax, bytesMaxDefault)
	c.SiblingsMax = min(cmp.Or(c.SiblingsMax, siblingsMaxDefault), supersedesMax-ancestorsMax-holesMax)
	if c.Self == "" || len(c.Self) > peerBytesMax {
		return c, fmt.Errorf("table %q: own id of %d bytes", c.Name, len(c.Self))
	}
	if c.ValueMax > frameBytesMax/2 {
		return c, fmt.Errorf("table %q: values of %d bytes do not fit a frame", c.Name, c.ValueMax)
	}
	return c, nil
}

// Counts are totals since the table was made, but for Keys, Records, Bytes and
// Writers, which are of now.
type Counts struct {
	Keys, Records, Writers int
	Bytes                  int    // of the records
	Applied                uint64 // operations that were new
	Duplicates             uint64 // operations already covered
	Refused                uint64 // by Check or a limit
	MergeErrors            uint64 // folds that Config.Merge failed
}

// Table is the pure replicated map. It is not safe for concurrent use; see
// Replica. Changes are visible to reads at once; each changing call returns
// the Batch that makes them durable, and the caller sends nothing that
// depends on it (rumours, session frames) before it is.
type Table struct {
	cfg     Config
	context *Context
	keys    map[string][]*Record // siblings, sorted by dot
	live    map[Dot]*Record
	bytes   int // of the live records
	sorted  sortedKeys
	buckets buckets
	last    uint64   // greatest counter used in this life, durable or not
	void    []uint64 // counters of undone writes, to be declared superseded
	counts  Counts
	cur     *building
}

// New returns an empty table; Load fills it.
func New(cfg Config) (*Table, error) {
	cfg, err := cfg.filled()
	if err != nil {
		return nil, err
	}
	return &Table{cfg: cfg, context: NewContext(), keys: map[string][]*Record{}, live: map[Dot]*Record{}}, nil
}

// Load takes what earlier batches wrote, in any order, into a table that is
// empty. Unknown log keys are an error: a table does not start on half a log.
func (t *Table) Load(entries iter.Seq2[string, []byte]) error {
	for key, value := range entries {
		switch {
		case strings.HasPrefix(key, recordPrefix):
			o, err := decodeOperation(value, t.cfg.ValueMax)
			if err != nil {
				return fmt.Errorf("load table %s: record %q: %w", t.cfg.Name, key, err)
			}
			t.insert(o.record(value))
			t.context.Add(o.dot())
		case strings.HasPrefix(key, contextPrefix):
			var ws wireSeen
			if err := decoder.Unmarshal(value, &ws); err != nil {
				return fmt.Errorf("load table %s: context %q: %w", t.cfg.Name, key, err)
			}
			w, spans, err := fromWire(ws)
			if err != nil {
				return fmt.Errorf("load table %s: %w", t.cfg.Name, err)
			}
			t.context.mergeWriter(w, spans)
		default:
			return fmt.Errorf("load table %s: unknown log key %q", t.cfg.Name, key)
		}
	}
	return nil
}

// Put writes a value over all siblings that are seen here now.
func (t *Table) Put(key string, value []byte) (Batch, error) {
	return t.PutOver(key, value, dotsOf(t.keys[key]))
}

// PutOver writes a value over the listed dots only; live siblings that are not
// listed stay, as a conflict.
func (t *Table) PutOver(key string, value []byte, over []Dot) (Batch, error) {
	t.begin()
	err := t.put(key, value, over)
	return t.finish(), err
}

// Remove removes all siblings seen here now; false if there are none.
func (t *Table) Remove(key string) (Batch, bool, error) {
	t.begin()
	ok, err := t.remove(key, dotsOf(t.keys[key]))
	return t.finish(), ok, err
}

// RemoveOver removes the listed dots only; siblings that are not listed stay.
func (t *Table) RemoveOver(key string, over []Dot) (Batch, error) {
	t.begin()
	_, err := t.remove(key, over)
	return t.finish(), err
}

// Apply takes an operation from elsewhere. An operation already covered gives
// an empty batch and no error; a refused one ErrRefused.
func (t *Table) Apply(rumour []byte) (Batch, error) {
	t.begin()
	_, err := t.apply(rumour)
	return t.finish(), err
}

func (t *Table) put(key string, value []byte, over []Dot) error {
	if key == "" || len(key) > keyBytesMax || len(value) > t.cfg.ValueMax {
		return fmt.Errorf("put %q of %d bytes in table %s: %w", key, len(value), t.cfg.Name, ErrTooLarge)
	}
	if len(over) > t.cfg.SiblingsMax {
		return fmt.Errorf("put %q in table %s over %d siblings: %w", key, t.cfg.Name, len(over), ErrTooLarge)
	}
	if err := t.room(key, len(value), over); err != nil {
		return fmt.Errorf("put %q in table %s: %w", key, t.cfg.Name, err)
	}
	return t.write(&operation{Key: key, Value: value, Supersedes: t.ancestry(key, over)})
}

func (t *Table) remove(key string, over []Dot) (bool, error) {
	if len(over) == 0 {
		return false, nil
	}
	return true, t.write(&operation{Key: key, Removal: true, Supersedes: over})
}

// write gives an operation of this peer its dot and performs it.
func (t *Table) write(o *operation) error {
	self := writer{t.cfg.Self, t.cfg.Incarnation}
	// Another peer may know more of this writer than this store does.
	t.last = max(t.last, t.context.highest(self)) + 1
	if t.last > counterMax {
		return fmt.Errorf("write %q in table %s: counter of this incarnation is used up", o.Key, t.cfg.Name)
	}
	o.Peer, o.Incarnation, o.Counter = t.cfg.Self, t.cfg.Incarnation, t.last
	void := t.void[:min(len(t.void), holesMax)]
	t.void = t.void[len(void):]
	t.cur.undo = append(t.cur.undo, func() { t.void = append(append(t.void, void...), o.Counter) })
	for _, c := range void {
		o.Supersedes = append(o.Supersedes, Dot{t.cfg.Self, t.cfg.Incarnation, c})
	}
	raw, err := o.encode()
	if err != nil {
		return fmt.Errorf("write %q in table %s: %w", o.Key, t.cfg.Name, err)
	}
	if err := t.perform(o, raw); err != nil {
		return err
	}
	t.cur.rumours = append(t.cur.rumours, raw)
	return nil
}

// apply reports whether the operation was new; new ones are spread further.
func (t *Table) apply(raw []byte) (bool, error) {
	o, err := decodeOperation(raw, t.cfg.ValueMax)
	if err != nil {
		t.counts.Refused++
		return false, fmt.Errorf("apply to table %s: %w: %w", t.cfg.Name, ErrRefused, err)
	}
	raw = slices.Clone(raw) // the caller may reuse its buffer
	fresh, err := t.admit(o, raw)
	if fresh {
		t.cur.rumours = append(t.cur.rumours, raw)
	}
	return fresh, err
}

// admit performs a decoded operation from elsewhere if it is new and may be.
func (t *Table) admit(o *operation, raw []byte) (bool, error) {
	if t.context.Covers(o.dot()) {
		t.counts.Duplicates++
		return false, nil
	}
	if err := t.mayHold(o); err != nil {
		t.counts.Refused++
		return false, fmt.Errorf("apply %s to table %s: %w: %w", o.dot(), t.cfg.Name, ErrRefused, err)
	}
	if err := t.perform(o, raw); err != nil {
		t.counts.Refused++
		return false, err
	}
	t.counts.Applied++
	return true, nil
}

func (t *Table) mayHold(o *operation) error {
	if o.Removal {
		return nil
	}
	if err := t.room(o.Key, len(o.Value), o.Supersedes); err != nil {
		return err
	}
	left := 1
	for _, r := range t.keys[o.Key] {
		if !slices.Contains(o.Supersedes, r.Dot) {
			left++
		}
	}
	if left > t.cfg.SiblingsMax {
		return fmt.Errorf("%d siblings", left)
	}
	if t.cfg.Check != nil {
		return t.cfg.Check(o.Key, o.Value)
	}
	return nil
}

// room says whether a value fits the table, over the records that it replaces.
func (t *Table) room(key string, bytes int, over []Dot) error {
	if len(t.keys[key]) == 0 && len(t.keys) >= t.cfg.KeysMax {
		return fmt.Errorf("%d keys: %w", len(t.keys), ErrFull)
	}
	for _, d := range over {
		if r, alive := t.live[d]; alive {
			bytes -= len(r.raw)
		}
	}
	if bytes > 0 && t.bytes+bytes > t.cfg.BytesMax {
		return fmt.Errorf("%d bytes of records: %w", t.bytes, ErrFull)
	}
	return nil
}

// perform makes an operation that is new take effect.
func (t *Table) perform(o *operation, raw []byte) error {
	d := o.dot()
	if !t.cover(d) {
		return fmt.Errorf("apply %s to table %s: %w: context limit", d, t.cfg.Name, ErrRefused)
	}
	for _, s := range o.Supersedes {
		// What is superseded is dead wherever it still travels: cover it, so
		// that a late rumour of it is not new.
		t.cover(s)
		if r, ok := t.live[s]; ok {
			t.drop(r)
		}
	}
	if !o.Removal {
		t.add(o.record(raw))
	}
	return nil
}

// ancestry is what a write over the given siblings supersedes.
func (t *Table) ancestry(key string, over []Dot) []Dot {
	out := slices.Clone(over)
	for _, r := range t.keys[key] {
		if !slices.Contains(over, r.Dot) {
			continue
		}
		for i := len(r.Supersedes) - 1; i >= 0 && len(out) < len(over)+ancestorsMax; i-- {
			s := r.Supersedes[i]
			if _, alive := t.live[s]; !alive && !slices.Contains(out, s) {
				out = append(out, s)
			}
		}
	}
	slices.SortFunc(out, Dot.Compare)
	return out
}

// Get returns the value of a key, siblings folded.
func (t *Table) Get(key string) ([]byte, bool) {
	siblings := t.keys[key]
	if len(siblings) == 0 {
		return nil, false
	}
	value := siblings[len(siblings)-1].Value
	if len(siblings) == 1 || t.cfg.Merge == nil {
		return value, true
	}
	folded := siblings[0].Value
	for _, r := range siblings[1:] {
		var err error
		if folded, err = t.cfg.Merge(folded, r.Value); err != nil {
			t.counts.MergeErrors++
			return value, true
		}
	}
	return folded, true
}

// Siblings returns the live records of a key, sorted by dot.
func (t *Table) Siblings(key string) []Record {
	out := make([]Record, 0, len(t.keys[key]))
	for _, r := range t.keys[key] {
		out = append(out, *r)
	}
	return out
}

// Range calls fn for every key with the prefix, sorted, with the folded
// value, until fn returns false. fn must not change the table.
func (t *Table) Range(prefix string, fn func(key string, value []byte) bool) {
	for _, key := range t.sorted.from(prefix, t.keys) {
		if !strings.HasPrefix(key, prefix) {
			return
		}
		if value, ok := t.Get(key); ok && !fn(key, value) {
			return
		}
	}
}

// Len is the number of keys.
func (t *Table) Len() int { return len(t.keys) }

// Hash is equal for two tables exactly if they hold the same records and have
// seen the same dots.
func (t *Table) Hash() Hash {
	return combine(t.buckets.full, t.context.Hash())
}

// Context returns a copy of what has been seen.
func (t *Table) Context() *Context { return t.context.Clone() }

// Counts returns the totals.
func (t *Table) Counts() Counts {
	c := t.counts
	c.Keys, c.Records, c.Bytes, c.Writers = len(t.keys), len(t.live), t.bytes, len(t.context.writers)
	return c
}

func dotsOf(records []*Record) []Dot {
	out := make([]Dot, 0, len(records))
	for _, r := range records {
		out = append(out, r.Dot)
	}
	return out
}
