package table

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sort"
)

// Limits of a causal context. Passing one never loses anything: what cannot be
// recorded as seen stays new, and is offered again.
const (
	writersMax = 16384 // incarnations of all peers that ever wrote
	spansMax   = 4096  // runs of counters of one writer
	// spansTotalMax keeps a context within one frame, and in memory: a context
	// that could not be sent would end anti-entropy for good.
	spansTotalMax = 1 << 16
	// aheadMax is how far one step may take the counters of a writer: 35 years
	// of a thousand writes a second. Who claimed to have seen the last counter
	// that there is would leave the writer none.
	aheadMax = 1 << 40
)

// span is a run of counters, both ends included.
type span struct{ lo, hi uint64 }

// Context is a causal context: which dots have been seen. A writer's counters
// are kept as runs, so that a writer of which nothing is missing costs one run
// whatever it wrote. The zero value is not usable; see NewContext.
type Context struct {
	writers map[writer]*seen
	hash    Hash // XOR of the writers' hashes
	total   int  // spans
}

// seen is what a context knows of one writer.
type seen struct {
	spans []span // sorted, disjoint, not adjacent
	hash  Hash
}

// Hash is a 128-bit digest of a set.
type Hash [16]byte

func (h *Hash) xor(o Hash) {
	for i := range h {
		h[i] ^= o[i]
	}
}

// NewContext returns a context that covers nothing.
func NewContext() *Context { return &Context{writers: map[writer]*seen{}} }

// Covers reports whether the dot has been seen.
func (c *Context) Covers(d Dot) bool {
	s, ok := c.writers[d.writer()]
	return ok && spansCover(s.spans, d.Counter)
}

// Hash is equal for equal contexts.
func (c *Context) Hash() Hash { return c.hash }

// Equal reports whether both cover the same dots.
func (c *Context) Equal(o *Context) bool {
	return maps.EqualFunc(c.writers, o.writers, func(a, b *seen) bool { return slices.Equal(a.spans, b.spans) })
}

// Clone returns an independent copy.
func (c *Context) Clone() *Context {
	n := &Context{writers: make(map[writer]*seen, len(c.writers)), hash: c.hash, total: c.total}
	for w, s := range c.writers {
		n.writers[w] = &seen{spans: s.spans, hash: s.hash} // spans are replaced, never changed in place
	}
	return n
}

// Add covers one dot; false means that a limit forbids it.
func (c *Context) Add(d Dot) bool {
	w := d.writer()
	old := c.spans(w)
	if spansCover(old, d.Counter) {
		return true
	}
	merged := spansUnion(old, []span{{d.Counter, d.Counter}})
	if !c.mayHold(old, merged) {
		return false
	}
	c.set(w, merged)
	return true
}

// mayHold says whether the limits allow a writer's runs to become others.
func (c *Context) mayHold(old, merged []span) bool {
	more := len(merged) - len(old)
	return len(merged) <= spansMax && (more <= 0 || c.total+more <= spansTotalMax) && (len(old) > 0 || len(c.writers) < writersMax)
}

// Merge covers all that o covers, within the limits.
func (c *Context) Merge(o *Context) {
	for w, s := range o.writers {
		c.mergeWriter(w, s.spans)
	}
}

// mergeWriter reports whether anything became covered that was not.
func (c *Context) mergeWriter(w writer, spans []span) bool {
	old := c.spans(w)
	merged := spansUnion(old, spans)
	if slices.Equal(old, merged) {
		return false
	}
	if !c.mayHold(old, merged) {
		return false
	}
	c.set(w, merged)
	return true
}

// without uncovers a dot; it serves to merge all of a context but the records
// that were refused.
func (c *Context) without(d Dot) {
	old := c.spans(d.writer())
	if !spansCover(old, d.Counter) {
		return
	}
	var out []span
	for _, s := range old {
		if d.Counter < s.lo || d.Counter > s.hi {
			out = append(out, s)
			continue
		}
		if s.lo < d.Counter {
			out = append(out, span{s.lo, d.Counter - 1})
		}
		if d.Counter < s.hi {
			out = append(out, span{d.Counter + 1, s.hi})
		}
	}
	c.set(d.writer(), out)
}

func (c *Context) spans(w writer) []span {
	if s, ok := c.writers[w]; ok {
		return s.spans
	}
	return nil
}

// highest is the greatest counter seen of a writer, 0 if none.
func (c *Context) highest(w writer) uint64 {
	if s := c.spans(w); len(s) > 0 {
		return s[len(s)-1].hi
	}
	return 0
}

func (c *Context) set(w writer, spans []span) {
	if s, ok := c.writers[w]; ok {
		c.hash.xor(s.hash)
		c.total -= len(s.spans)
		if len(spans) == 0 {
			delete(c.writers, w)
			return
		}
	}
	if len(spans) == 0 {
		return
	}
	s := &seen{spans: spans, hash: hashSpans(w, spans)}
	c.writers[w] = s
	c.hash.xor(s.hash)
	c.total += len(spans)
}

func hashSpans(w writer, spans []span) Hash {
	b := make([]byte, 0, 96)
	b = append(b, byte(len(w.Peer)))
	b = append(b, w.Peer...)
	b = binary.BigEndian.AppendUint64(b, w.Incarnation)
	for _, s := range spans {
		b = binary.BigEndian.AppendUint64(b, s.lo)
		b = binary.BigEndian.AppendUint64(b, s.hi)
	}
	sum := sha256.Sum256(b)
	return Hash(sum[:16])
}

func spansCover(spans []span, n uint64) bool {
	i := sort.Search(len(spans), func(i int) bool { return spans[i].hi >= n })
	return i < len(spans) && spans[i].lo <= n
}

// spansUnion makes a new slice; its arguments stay as they are.
func spansUnion(a, b []span) []span {
	out := make([]span, 0, len(a)+len(b))
	for len(a) > 0 || len(b) > 0 {
		var next span
		if len(b) == 0 || (len(a) > 0 && a[0].lo <= b[0].lo) {
			next, a = a[0], a[1:]
		} else {
			next, b = b[0], b[1:]
		}
		if n := len(out); n > 0 && next.lo <= out[n-1].hi+1 {
			out[n-1].hi = max(out[n-1].hi, next.hi)
		} else {
			out = append(out, next)
		}
	}
	return out
}

// wireSeen is the form of one writer on the wire and on disk: the runs as
// alternating gaps and lengths, which keeps most numbers to a byte or two.
type wireSeen struct {
	_           struct{} `cbor:",toarray"`
	Peer        string
	Incarnation uint64
	Runs        []uint64
}

func toWire(w writer, spans []span) wireSeen {
	runs := make([]uint64, 0, 2*len(spans))
	last := uint64(0)
	for _, s := range spans {
		runs = append(runs, s.lo-last, s.hi-s.lo)
		last = s.hi
	}
	return wireSeen{Peer: w.Peer, Incarnation: w.Incarnation, Runs: runs}
}

func fromWire(ws wireSeen) (writer, []span, error) {
	w := writer{ws.Peer, ws.Incarnation}
	if len(ws.Runs) == 0 || len(ws.Runs)%2 != 0 || len(ws.Runs) > 2*spansMax {
		return w, nil, fmt.Errorf("context of %q: %d run bounds", ws.Peer, len(ws.Runs))
	}
	spans := make([]span, 0, len(ws.Runs)/2)
	last := uint64(0)
	for i := 0; i < len(ws.Runs); i += 2 {
		gap, length := ws.Runs[i], ws.Runs[i+1]
		// A gap of 1 would be adjacent to the run before, except at the start.
		if gap == 0 || (gap == 1 && i > 0) || gap > counterMax || length > counterMax {
			return w, nil, fmt.Errorf("context of %q: malformed run", ws.Peer)
		}
		s := span{lo: last + gap, hi: last + gap + length}
		if err := (Dot{w.Peer, w.Incarnation, s.hi}).check(); err != nil {
			return w, nil, fmt.Errorf("context: %w", err)
		}
		spans = append(spans, s)
		last = s.hi
	}
	return w, spans, nil
}

// MarshalBinary encodes the context as CBOR, equal contexts to equal bytes.
func (c *Context) MarshalBinary() ([]byte, error) {
	list := make([]wireSeen, 0, len(c.writers))
	for _, w := range c.sortedWriters() {
		list = append(list, toWire(w, c.writers[w].spans))
	}
	return encoder.Marshal(list)
}

// UnmarshalBinary decodes what MarshalBinary made, refusing anything that is
// malformed or beyond the limits.
func (c *Context) UnmarshalBinary(b []byte) error {
	var list []wireSeen
	if err := decoder.Unmarshal(b, &list); err != nil {
		return fmt.Errorf("decode context: %w", err)
	}
	if len(list) > writersMax {
		return fmt.Errorf("decode context: %d writers, at most %d", len(list), writersMax)
	}
	n := NewContext()
	for _, ws := range list {
		w, spans, err := fromWire(ws)
		if err != nil {
			return fmt.Errorf("decode context: %w", err)
		}
		if _, twice := n.writers[w]; twice {
			return fmt.Errorf("decode context: %q twice", w.Peer)
		}
		if n.set(w, spans); n.total > spansTotalMax {
			return fmt.Errorf("decode context: more than %d runs", spansTotalMax)
		}
	}
	*c = *n
	return nil
}

func (c *Context) sortedWriters() []writer {
	return slices.SortedFunc(maps.Keys(c.writers), writer.compare)
}
