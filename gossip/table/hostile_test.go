package table

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// A context that is as large as one may be fits a frame: one that does not
// could never be sent, and would end anti-entropy.
func TestLargestContextFitsAFrame(t *testing.T) {
	c := NewContext()
	far := uint64(1) << 40 // numbers of nine bytes
	for w := range uint64(writersMax + 10) {
		peer := fmt.Sprintf("%064d", w)
		for i := range uint64(spansTotalMax/writersMax + 1) {
			c.Add(Dot{peer, 1<<63 + w, 1 + i*far})
		}
	}
	for i := range uint64(spansMax + 10) {
		c.Add(Dot{strings.Repeat("0", 64), 1 << 63, 1 + i*1e10})
	}
	raw, err := c.MarshalBinary()
	if err != nil || len(raw) > frameBytesMax-4096 || c.total > spansTotalMax || len(c.writers) > writersMax {
		t.Fatalf("%v: %d bytes, %d runs of %d writers", err, len(raw), c.total, len(c.writers))
	}
	again := NewContext()
	if err := again.UnmarshalBinary(raw); err != nil || !again.Equal(c) || again.total != c.total {
		t.Errorf("its own word is not taken: %v, %d runs", err, again.total)
	}
	total := 0
	for _, s := range c.writers {
		total += len(s.spans)
	}
	if clone := c.Clone(); total != c.total || clone.total != total {
		t.Errorf("%d runs are counted as %d", total, c.total)
	}
	// A writer of whom all is seen costs one run, and still gets on.
	w := c.sortedWriters()[5]
	if !c.Add(Dot{w.Peer, w.Incarnation, 2}) {
		t.Error("a full context takes no next write of a writer that it knows")
	}
}

func TestContextsOverTheLimitAreRefused(t *testing.T) {
	var list []wireSeen
	for w := range 40 {
		ws := wireSeen{Peer: fmt.Sprint("w", w), Incarnation: 1}
		for range 2000 {
			ws.Runs = append(ws.Runs, 2, 0)
		}
		list = append(list, ws)
	}
	raw, err := encoder.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := NewContext().UnmarshalBinary(raw); err == nil {
		t.Errorf("%d bytes became %d runs", len(raw), 40*2000)
	}
}

// A peer that claims to have seen every counter that there is leaves the
// writer able to write, and others able to take it.
func TestClaimOfAllCounters(t *testing.T) {
	victim, liar, other := newTable(t, "v", 1), newTable(t, "l", 1), newTable(t, "o", 1)
	apply(t, other, put(t, victim, "k", "1"))
	liar.context.set(writer{"v", 1}, []span{{1, counterMax}})
	put(t, liar, "its own", "x")
	converse(t, liar, victim, allFrames)
	converse(t, other, liar, allFrames)
	rumour := put(t, victim, "k", "2")
	apply(t, other, rumour)
	if v, _ := other.Get("k"); string(v) != "2" {
		t.Errorf("what the victim wrote is %q elsewhere", v)
	}
	if _, ok := victim.Get("its own"); !ok {
		t.Error("the rest of the exchange was lost")
	}
	forged, err := (&operation{Peer: "v", Incarnation: 1, Counter: counterMax, Key: "k", Value: []byte("forged")}).encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := other.Apply(forged); !errors.Is(err, ErrRefused) {
		t.Errorf("a dot out of all bounds: %v", err)
	}
}

func TestBytesAreBounded(t *testing.T) {
	a, err := New(Config{Name: "test", Self: "a", Incarnation: 1, BytesMax: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	var full error
	n := 0
	for ; full == nil && n < 100; n++ {
		_, full = a.Put(fmt.Sprint("k", n), make([]byte, 1000))
	}
	if !errors.Is(full, ErrFull) || n > 11 {
		t.Fatalf("after %d records of 1,000 bytes: %v", n, full)
	}
	if _, err := a.Put("k0", make([]byte, 1000)); err != nil {
		t.Errorf("a value of the same size in the place of another: %v", err)
	}
	b := newTable(t, "b", 1)
	if _, err := a.Apply(put(t, b, "from elsewhere", strings.Repeat("x", 1000))); !errors.Is(err, ErrRefused) || !errors.Is(err, ErrFull) {
		t.Errorf("from elsewhere: %v", err)
	}
	for i := range 9 {
		remove(t, a, fmt.Sprint("k", i))
	}
	if c := a.Counts(); c.Keys != 0 || c.Bytes != 0 {
		t.Errorf("%+v of an empty table", c)
	}
}

// Dots are compared bucket by bucket, each once: every list costs a look at
// all that is alive.
func TestDotsAreListedOnce(t *testing.T) {
	a, b := newTable(t, "a", 1), newTable(t, "b", 1)
	for i := range 10 {
		apply(t, b, put(t, a, fmt.Sprint(i), "x"))
	}
	remove(t, b, "3")
	b.context.without(Dot{"b", 1, 1}) // so that only the buckets differ
	s := a.Initiate()
	for _, f := range []*frame{{Kind: kindContext, Context: b.encodeContext()}, {Kind: kindEnd, Hash: b.buckets.full[:], Tops: b.buckets.encodeTops()}} {
		if _, err := s.Step(f.encode()); err != nil {
			t.Fatal(err)
		}
	}
	list := (&frame{Kind: kindDots, Lists: []subDot{{Sub: 7}}}).encode()
	if _, err := s.Step(list); err != nil {
		t.Fatal(err)
	}
	for _, f := range [][]byte{list, (&frame{Kind: kindDots}).encode()} {
		if _, err := s.Step(f); !errors.Is(err, ErrProtocol) {
			t.Errorf("%v", err)
		}
	}
}
