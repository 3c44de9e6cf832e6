package artifact

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/transport"
)

var errNoRoom = errors.New("no room")

// narrow is a store that has no room for files of some sizes.
type narrow struct {
	Store
	refuse func(size int64) bool
}

func (n narrow) Assemble(digest string, size int64) (Assembly, error) {
	if n.refuse(size) {
		return nil, errNoRoom
	}
	return n.Store.Assemble(digest, size)
}

// A fetch whose file can't be opened anew, after its size turned out to be another,
// ends; a chain that comes at that moment finds no file to look through.
func TestChainComesWhenTheFileIsGone(t *testing.T) {
	file := content(3 * mib)
	m := newMesh(t)
	here := m.add("here")
	var refused atomic.Bool
	here.Mover.cfg.Store = narrow{here.store, func(int64) bool { return refused.Load() }}
	c := honest(file).chain
	f := newFetch(here.Mover, digestOf(file))
	f.wanted(c.Size(), nil)
	if err := f.needFile(c.Size()); err != nil {
		t.Fatal(err)
	}
	refused.Store(true)
	if err := f.begin(c.Size()); !errors.Is(err, errNoRoom) {
		t.Fatal(err)
	}
	if err := f.adopt(c, "liar"); !errors.Is(err, errNoFile) {
		t.Errorf("adopt: %v", err)
	}
	f.chain, f.chained = c, true
	if done, err := f.commit(); done || err != nil {
		t.Errorf("commit: %v, %v", done, err)
	}
}

// A chain that comes late, of a size that counts no more or from a peer that was
// convicted meanwhile, is not gone by.
func TestChainThatComesLate(t *testing.T) {
	file := content(3 * mib)
	right := honest(file)
	for name, meanwhile := range map[string]func(f *fetch, s *session){
		"another size": func(f *fetch, _ *session) { f.size = 5 * mib },
		"convicted":    func(_ *fetch, s *session) { s.end() },
	} {
		m := newMesh(t)
		here := m.add("here")
		f := newFetch(here.Mover, digestOf(file))
		f.wanted(right.size, nil)
		if err := f.needFile(right.size); err != nil {
			t.Fatal(err)
		}
		s := newSession(f, &candidate{peer: "liar"}, time.Now())
		asked := make(chan bool)
		m.add("liar").serve = func(_ context.Context, _ string, stream Stream) error {
			var q request
			if err := transport.ReadFrame(stream, &q, frameMax); err != nil {
				return err
			}
			asked <- true
			<-asked
			if err := transport.WriteFrame(stream, answer{Size: right.size, Length: len(right.chain.States())}); err != nil {
				return err
			}
			_, err := stream.Write(right.chain.States())
			return err
		}
		var err error
		if s.stream, err = m.open(t.Context(), "here", "liar"); err != nil {
			t.Fatal(err)
		}
		f.judging.Lock() // by another session, that finds out who lied
		ended := make(chan error)
		go func() { ended <- s.learnChain() }()
		<-asked
		f.mu.Lock()
		meanwhile(f, s)
		f.mu.Unlock()
		asked <- true
		f.judging.Unlock()
		<-ended
		if f.chained {
			t.Errorf("%s: the chain was taken", name)
		}
	}
}

// A size for which there is no room ends a fetch only when two peers say it, or the
// caller: one alone may lie.
func TestSizeWithoutRoom(t *testing.T) {
	file := content(3 * mib)
	digest := digestOf(file)
	for name, c := range map[string]struct {
		holders []string
		size    int64
		most    int64
		want    error
	}{
		"one that lies":        {[]string{"liar", "good"}, 0, 3 * mib, nil},
		"one that lies, alone": {[]string{"liar"}, 0, 3 * mib, ErrNoHolder},
		"one that does not":    {[]string{"good"}, 0, mib, errNoRoom},
		"two that do not":      {[]string{"good", "good2", "liar"}, 0, mib, errNoRoom},
		"the caller":           {[]string{"good"}, 3 * mib, mib, errNoRoom},
	} {
		m := newMesh(t)
		m.add("good", file)
		m.add("good2", file)
		l := honest(file)
		l.size = SizeMax
		m.add("liar").serve = l.serve
		here := m.add("here")
		here.Mover.cfg.Store = narrow{here.store, func(size int64) bool { return size > c.most }}
		if err := here.Fetch(t.Context(), digest, c.size, c.holders); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if c.want == nil {
			m.holds("here", file)
		}
	}
}
