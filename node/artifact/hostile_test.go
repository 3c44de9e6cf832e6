package artifact

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/store/chain"
	"github.com/hansa-mesh/hansa/transport"
)

// liar is a holder that speaks the protocol and may say anything.
type liar struct {
	mu    sync.Mutex // guards what follows, in tests that change it
	chain chain.Chain
	size  int64
	have  []byte // nil: all
	chunk func(i int) []byte
}

// honest answers with a file; tests change parts of it.
func honest(file []byte) *liar {
	c := newMemory(file).chains[digestOf(file)]
	return &liar{chain: c, size: c.Size(), chunk: func(i int) []byte {
		offset, length := c.Span(i)
		return file[offset:][:length]
	}}
}

func (l *liar) serve(_ context.Context, _ string, s Stream) error {
	for {
		var q request
		if err := transport.ReadFrame(s, &q, frameMax); err != nil {
			return err
		}
		l.mu.Lock()
		a, data := answer{Size: l.size, Whole: l.have == nil, Have: l.have, Version: 1}, []byte(nil)
		switch q.What {
		case askChain:
			data = l.chain.States()
		case askChunk:
			data = l.chunk(q.Chunk)
		}
		l.mu.Unlock()
		a.Length = len(data)
		if err := transport.WriteFrame(s, a); err != nil {
			return err
		}
		if _, err := s.Write(data); err != nil {
			return err
		}
	}
}

// flipped are bytes of which one bit is another.
func flipped(data []byte, at int) []byte {
	data = bytes.Clone(data)
	data[at] ^= 1
	return data
}

// lie makes a chain of a digest that is that of other bytes.
func lie(t *testing.T, digest string, other []byte) chain.Chain {
	t.Helper()
	_, made, err := chain.Sum(bytes.NewReader(other), one)
	if err != nil {
		t.Fatal(err)
	}
	c, err := chain.Parse(digest, made.Size(), made.States())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Whoever sends wrong chunks, or a wrong chain, is found at the chunk, whatever
// else it says; it is avoided and told of, and the file is whole all the same.
// Nobody honest is accused.
func TestLiarsAreFound(t *testing.T) {
	file := content(12 * mib)
	digest := digestOf(file)
	other := flipped(file, 5*mib+7) // from chunk 5 on its chain is another
	middle := bytes.Clone(honest(file).chain.States())
	middle[4*32] ^= 1 // the state before chunk 5
	for _, c := range []struct {
		name  string
		liar  func() *liar
		found bool // what it does is sure to be seen
	}{
		{"one wrong chunk", func() *liar {
			l := honest(file)
			right := l.chunk
			l.chunk = func(i int) []byte { return flipped(right(i), 3) }
			return l
		}, true},
		{"another file with its chain", func() *liar {
			l := honest(other)
			l.chain = lie(t, digest, other)
			return l
		}, true},
		{"the right file with another's chain", func() *liar {
			l := honest(file)
			l.chain = lie(t, digest, other)
			return l
		}, true},
		{"one wrong state", func() *liar {
			l := honest(file)
			l.chain, _ = chain.Parse(digest, l.size, middle)
			return l
		}, true},
		{"another size, with its chain", func() *liar {
			l := honest(other[:9*mib+5])
			l.chain = lie(t, digest, other[:9*mib+5])
			return l
		}, true},
	} {
		for _, first := range []string{"liar", "good"} {
			t.Run(c.name+", "+first+" first", func(t *testing.T) {
				m := newMesh(t)
				m.add("good", file)
				m.add("good2", file)
				m.add("liar").serve = c.liar().serve
				here := m.add("here")
				holders := []string{"liar", "good", "good2"}
				if first == "good" {
					holders = []string{"good", "liar", "good2"}
				}
				if err := here.Fetch(t.Context(), digest, 0, holders); err != nil {
					t.Fatal(err)
				}
				m.holds("here", file)
				got := here.Moved()
				if here.lied["good"]+here.lied["good2"] > 0 {
					t.Errorf("who is honest was accused: %v", here.lied)
				}
				if first == "liar" && (here.lied["liar"] == 0 || !here.avoids("liar")) {
					t.Errorf("the liar was not found: %v, %+v", here.lied, got)
				}
				if extra := got.FetchedBytes - int64(len(file)); extra > 12*mib {
					t.Errorf("%d bytes were fetched in vain", extra)
				}
			})
		}
	}
}

// A liar alone gets nothing into the store, and the fetch ends.
func TestLiarAlone(t *testing.T) {
	file := content(3 * mib)
	other := flipped(file, 7)
	m := newMesh(t)
	l := honest(other)
	l.chain = lie(t, digestOf(file), other)
	m.add("liar").serve = l.serve
	here := m.add("here")
	if err := here.Fetch(t.Context(), digestOf(file), 0, []string{"liar"}); !errors.Is(err, ErrNoHolder) {
		t.Errorf("%v", err)
	}
	if here.store.Has(digestOf(file)) || here.lied["liar"] != 1 {
		t.Errorf("lied: %v", here.lied)
	}
	if err := here.Fetch(t.Context(), digestOf(file), 0, []string{"liar"}); err == nil || here.lied["liar"] != 1 {
		t.Errorf("it was asked again: %v", err)
	}
	small := []byte("what was asked")
	l = honest([]byte("something else"))
	m.add("liar2").serve = l.serve
	if err := here.Fetch(t.Context(), digestOf(small), 0, []string{"liar2"}); err == nil || here.lied["liar2"] != 1 {
		t.Errorf("a small file: %v, %v", err, here.lied)
	}
}

// A peer that has a part of a file, by a wrong chain that it was given, is not
// taken for the liar.
func TestWhoWasLiedToIsNotAccused(t *testing.T) {
	file := content(12 * mib)
	digest := digestOf(file)
	other := flipped(file, 5*mib+7)
	m := newMesh(t)
	m.add("good", file)
	l := honest(other)
	l.chain = lie(t, digest, other)
	l.have = []byte{0xff, 0x7} // all but the chunk that can't fit
	m.add("liar").serve = l.serve
	fooled := m.add("fooled")
	ctx, cancel := context.WithCancel(t.Context())
	kept := make(chan bool, 100)
	fooled.store.writing = func(int64) error { kept <- true; return nil }
	ended := make(chan error)
	go func() { ended <- fooled.Fetch(ctx, digest, 0, []string{"liar"}) }()
	for range 11 {
		<-kept
	}
	here := m.add("here")
	if err := here.Fetch(t.Context(), digest, 0, []string{"fooled", "good"}); err != nil {
		t.Fatal(err)
	}
	m.holds("here", file)
	if len(here.lied) > 0 {
		t.Errorf("accused: %v", here.lied)
	}
	cancel()
	<-ended
}

// TestWhoFoundOutIsPardoned: a peer that was lied to, and finds out while it is asked,
// contradicts itself once and is not accused; one that goes on sending wrong chunks, and
// shows the right one each time it is held to account, is.
func TestWhoFoundOutIsPardoned(t *testing.T) {
	file := content(12 * mib)
	digest := digestOf(file)
	other := flipped(file, 5*mib+7)
	for _, c := range []struct {
		name  string
		liar  func() *liar
		found bool
	}{
		{"its chain was wrong", func() *liar {
			l, right := honest(other), honest(file)
			l.chain = lie(t, digest, other)
			l.have = []byte{0xff, 0x7} // all but the chunk that can't fit
			wrong := l.chunk
			l.chunk = func(i int) []byte {
				if i != 5 {
					return wrong(i)
				}
				l.chain, l.have, l.chunk = right.chain, nil, right.chunk
				return right.chunk(i)
			}
			return l
		}, false},
		{"its chunk was wrong", func() *liar {
			l, sent := honest(file), false
			right := l.chunk
			l.chunk = func(i int) []byte {
				if i == 5 && !sent {
					sent = true
					return flipped(right(i), 3)
				}
				return right(i)
			}
			return l
		}, false},
		{"every other chunk is wrong", func() *liar {
			l, n := honest(file), 0
			right := l.chunk
			l.chunk = func(i int) []byte {
				if n++; n%2 == 1 {
					return flipped(right(i), 3)
				}
				return right(i)
			}
			return l
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMesh(t)
			l := c.liar()
			m.add("peer").serve = l.serve
			here := m.add("here")
			err := here.Fetch(t.Context(), digest, 0, []string{"peer"})
			if accused := here.lied["peer"] > 0; accused != c.found || (err != nil) != c.found {
				t.Errorf("accused %v, want %v: %v", accused, c.found, err)
			}
			if !c.found {
				m.holds("here", file)
			}
		})
	}
}

// A holder whose disk has rotted finds it itself: it sends no wrong byte, and the
// file is put aside.
func TestRottenHolder(t *testing.T) {
	file := content(12 * mib)
	digest := digestOf(file)
	m := newMesh(t)
	m.add("good", file)
	rotten := m.add("rotten", file)
	rotten.store.files[digest] = flipped(file, 5*mib+7)
	here := m.add("here")
	if err := here.Fetch(t.Context(), digest, 0, []string{"rotten"}); !errors.Is(err, ErrNoHolder) {
		t.Errorf("the rotten file was taken for sound: %v", err)
	}
	if rotten.store.checked[digest] != 1 || rotten.store.Has(digest) {
		t.Error("the rotten file was not put aside")
	}
	if err := here.Fetch(t.Context(), digest, 0, []string{"rotten", "good"}); err != nil {
		t.Fatal(err)
	}
	m.holds("here", file)
	if here.Moved().Wrong > 0 || len(here.lied) > 0 {
		t.Errorf("wrong bytes came: %+v, %v", here.Moved(), here.lied)
	}
	if err := rotten.Fetch(t.Context(), digest, 0, []string{"good"}); err != nil { // healed
		t.Fatal(err)
	}
	m.holds("rotten", file)
}

// What no honest peer answers ends the stream, and costs no more than it brings.
func TestAnswersThatMakeNoSense(t *testing.T) {
	file := content(3 * mib)
	c := honest(file).chain
	say := func(what string, a answer, data []byte) func(context.Context, string, Stream) error {
		return func(_ context.Context, _ string, s Stream) error {
			for {
				var q request
				if err := transport.ReadFrame(s, &q, frameMax); err != nil {
					return err
				}
				reply, more := answer{Size: c.Size(), Whole: true, Length: len(c.States())}, c.States()
				if q.What == askHave {
					reply, more = answer{Size: c.Size(), Whole: true}, nil
				}
				if q.What == what {
					reply, more = a, data
				}
				if err := transport.WriteFrame(s, reply); err != nil {
					return err
				}
				if _, err := s.Write(more); err != nil {
					return err
				}
			}
		}
	}
	for name, bad := range map[string]func(context.Context, string, Stream) error{
		"a size below zero":     say(askHave, answer{Size: -1, Whole: true}, nil),
		"a size above all":      say(askHave, answer{Size: SizeMax + 1, Whole: true}, nil),
		"too many peers":        say(askHave, answer{Size: c.Size(), Peers: strings.Split(strings.Repeat("p,", 100), ",")}, nil),
		"a peer without a name": say(askHave, answer{Size: c.Size(), Peers: []string{""}}, nil),
		"a long name":           say(askHave, answer{Size: c.Size(), Peers: []string{strings.Repeat("p", 1000)}}, nil),
		"a frame above all": func(_ context.Context, _ string, s Stream) error {
			_, err := s.Write([]byte{0xff, 0xff, 0xff, 0xff})
			return err
		},
		"a short chain":           say(askChain, answer{Size: c.Size(), Length: 32}, make([]byte, 32)),
		"a chain of another size": say(askChain, answer{Size: 5, Length: len(c.States())}, c.States()),
		"a long chunk":            say(askChunk, answer{Length: mib + 1}, make([]byte, mib+1)),
		"a short chunk":           say(askChunk, answer{Length: 5}, make([]byte, 5)),
		"a chunk below zero":      say(askChunk, answer{Length: -5}, nil),
		"too many chunks":         say(askHave, answer{Size: c.Size(), Have: bytes.Repeat([]byte{0xff}, 10_000)}, nil),
		"nothing that it claims":  say(askChunk, answer{Say: sayMissing, Have: []byte{0xff}}, nil),
		"a word that is none":     say(askChunk, answer{Say: "perhaps"}, nil),
		"the end":                 func(context.Context, string, Stream) error { return io.EOF },
	} {
		synctest.Test(t, func(t *testing.T) {
			m := newMesh(t)
			m.add("good", file)
			m.add("bad").serve = bad
			here := m.add("here")
			begin := time.Now()
			if err := here.Fetch(t.Context(), digestOf(file), c.Size(), []string{"bad", "good"}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			m.holds("here", file)
			if took := time.Since(begin); took > time.Second {
				t.Errorf("%s: it took %v", name, took)
			}
		})
	}
}
