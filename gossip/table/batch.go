package table

import (
	"fmt"
	"maps"
	"slices"
)

// Keys of the log begin so. One record has one key, and so has the context of
// one writer: a batch writes only what changed.
const (
	recordPrefix  = "r/"
	contextPrefix = "c/"
)

// Write is one entry of a batch: Value replaces what the log holds under Key,
// nil deletes it.
type Write struct {
	Key   string
	Value []byte
}

// Batch is the effect of one step. Writes must become durable all together or
// not at all, and batches in the order in which they were returned; Rumours
// may be sent after that.
type Batch struct {
	Writes  []Write
	Rumours [][]byte
	Changed []string // keys whose siblings changed, sorted

	undo []func()
}

// Empty reports that nothing changed.
func (b Batch) Empty() bool { return len(b.Writes) == 0 }

// building collects a batch.
type building struct {
	records map[Dot]*Record // nil: deleted
	writers map[writer]struct{}
	rumours [][]byte
	changed map[string]struct{}
	undo    []func()
	bytes   int // of the records added
}

func (t *Table) begin() {
	t.cur = &building{records: map[Dot]*Record{}, writers: map[writer]struct{}{}, changed: map[string]struct{}{}}
}

func (t *Table) finish() Batch {
	cur := t.cur
	t.cur = nil
	b := Batch{Rumours: cur.rumours, undo: cur.undo, Changed: slices.Sorted(maps.Keys(cur.changed))}
	b.Writes = t.writes(cur.records, cur.writers)
	return b
}

// writes is the log's form of the given records and of the present context of
// the given writers.
func (t *Table) writes(records map[Dot]*Record, writers map[writer]struct{}) []Write {
	var out []Write
	for _, d := range slices.SortedFunc(maps.Keys(records), Dot.Compare) {
		w := Write{Key: recordKey(d)}
		if r := records[d]; r != nil {
			w.Value = r.raw
		}
		out = append(out, w)
	}
	for _, w := range slices.SortedFunc(maps.Keys(writers), writer.compare) {
		entry := Write{Key: contextKey(w)}
		if spans := t.context.spans(w); len(spans) > 0 {
			raw, err := encoder.Marshal(toWire(w, spans))
			if err != nil {
				panic(fmt.Sprintf("table: encode context of %s: %v", w.Peer, err)) // strings and integers
			}
			entry.Value = raw
		}
		out = append(out, entry)
	}
	return out
}

// Undo takes back a batch that the log refused. It must be the last one that
// was not undone yet. The writes returned restore the log should the refused
// batch have reached it after all; they belong in the next batch. Counters of
// undone writes are not used again.
func (t *Table) Undo(b Batch) []Write {
	t.begin()
	for i := len(b.undo) - 1; i >= 0; i-- {
		b.undo[i]()
	}
	cur := t.cur
	t.cur = nil
	return t.writes(cur.records, cur.writers)
}

func recordKey(d Dot) string {
	return fmt.Sprintf("%s%s/%016x/%016x", recordPrefix, d.Peer, d.Incarnation, d.Counter)
}

func contextKey(w writer) string {
	return fmt.Sprintf("%s%s/%016x", contextPrefix, w.Peer, w.Incarnation)
}

// cover, add and drop are the only ways in which a table changes after Load.

func (t *Table) cover(d Dot) bool {
	if t.context.Covers(d) {
		return true
	}
	w := d.writer()
	if d.Counter > t.context.highest(w)+aheadMax {
		return false
	}
	t.noteWriter(w)
	return t.context.Add(d)
}

func (t *Table) coverSpans(w writer, spans []span) {
	if spans[len(spans)-1].hi > t.context.highest(w)+aheadMax {
		return
	}
	t.noteWriter(w)
	t.context.mergeWriter(w, spans)
}

func (t *Table) noteWriter(w writer) {
	old := t.context.spans(w)
	t.cur.writers[w] = struct{}{}
	t.cur.undo = append(t.cur.undo, func() {
		t.context.set(w, old)
		t.cur.writers[w] = struct{}{}
	})
}

func (t *Table) add(r *Record) {
	t.insert(r)
	t.note(r, r)
	t.cur.bytes += len(r.raw)
	t.cur.undo = append(t.cur.undo, func() { t.delete(r); t.note(r, nil) })
}

func (t *Table) drop(r *Record) {
	t.delete(r)
	t.note(r, nil)
	t.cur.undo = append(t.cur.undo, func() { t.insert(r); t.note(r, r) })
}

func (t *Table) note(r, now *Record) {
	t.cur.records[r.Dot] = now
	t.cur.changed[r.Key] = struct{}{}
}

func (t *Table) insert(r *Record) {
	if _, twice := t.live[r.Dot]; twice {
		return
	}
	siblings := t.keys[r.Key]
	i, _ := slices.BinarySearchFunc(siblings, r, func(a, b *Record) int { return a.Dot.Compare(b.Dot) })
	t.keys[r.Key] = slices.Insert(slices.Clone(siblings), i, r)
	if len(siblings) == 0 {
		t.sorted.add(r.Key)
	}
	t.live[r.Dot] = r
	t.bytes += len(r.raw)
	t.buckets.toggle(r.hash)
}

func (t *Table) delete(r *Record) {
	if _, alive := t.live[r.Dot]; !alive {
		return
	}
	siblings := slices.DeleteFunc(slices.Clone(t.keys[r.Key]), func(s *Record) bool { return s.Dot == r.Dot })
	if len(siblings) == 0 {
		delete(t.keys, r.Key)
		t.sorted.remove()
	} else {
		t.keys[r.Key] = siblings
	}
	delete(t.live, r.Dot)
	t.bytes -= len(r.raw)
	t.buckets.toggle(r.hash)
}
