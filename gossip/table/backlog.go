package table

import (
	"bytes"
	"slices"
)

// Wanted is a write of a key that is yet to be made.
type Wanted struct {
	Value  []byte   // nil removes the key
	Seen   []Dot    // what who wants it has seen of the key
	Beside [][]byte // values that stay
}

// Keeps says whether a write wants a value beside its own.
func (w *Wanted) Keeps(value []byte) bool {
	return slices.ContainsFunc(w.Beside, func(v []byte) bool { return bytes.Equal(v, value) })
}

// Over is the records that a write by self is over: all of its own, and those that
// were seen, but for what it wants beside it. Only the writer in self counts.
func (w *Wanted) Over(self Dot, records []Record) []Dot {
	var over []Dot
	for _, r := range records {
		if w.replaces(self, r) {
			over = append(over, r.Dot)
		}
	}
	return over
}

func (w *Wanted) replaces(self Dot, r Record) bool {
	own := r.Dot.Peer == self.Peer && r.Dot.Incarnation == self.Incarnation
	return (own || slices.Contains(w.Seen, r.Dot)) && !w.Keeps(r.Value)
}

// Made says whether a key holds already what a write by self would make of it, so that
// to write it would tell everybody what they know.
func (w *Wanted) Made(self Dot, records []Record) bool {
	at := slices.IndexFunc(records, func(r Record) bool { return w.replaces(self, r) })
	if at < 0 || w.Value == nil {
		return false
	}
	r := records[at]
	return r.Dot.Peer == self.Peer && r.Dot.Incarnation == self.Incarnation && bytes.Equal(r.Value, w.Value) &&
		!slices.ContainsFunc(records[at+1:], func(r Record) bool { return w.replaces(self, r) })
}

// Backlog is writes of one key that wait for those before them, in order: the last
// that was wanted, and those that it wants beside it.
type Backlog []*Wanted

// Add is the backlog with one more write: what it does not keep is not made at all.
func (b Backlog) Add(w *Wanted) Backlog {
	unwanted := func(o *Wanted) bool { return o.Value == nil || !w.Keeps(o.Value) }
	return append(slices.DeleteFunc(slices.Clone(b), unwanted), w)
}

// Again is the backlog with a write that failed before all others, unless what was
// wanted since replaces it.
func (b Backlog) Again(w *Wanted) Backlog {
	if len(b) > 0 && (w.Value == nil || !b[len(b)-1].Keeps(w.Value)) {
		return b
	}
	return slices.Insert(slices.Clone(b), 0, w)
}

// After is what a key that holds these records will hold once self has made the
// writes. Records that are yet to be made have no counter.
func (b Backlog) After(self Dot, records []Record) []Record {
	out := slices.Clone(records)
	for _, w := range b {
		out = slices.DeleteFunc(out, func(r Record) bool { return w.replaces(self, r) })
		if w.Value != nil {
			out = append(out, Record{Dot: Dot{Peer: self.Peer, Incarnation: self.Incarnation}, Value: w.Value})
		}
	}
	return out
}
