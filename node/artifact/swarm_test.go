package artifact

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/store/chain"
)

// mirror is a store of one file, whose bytes many peers of one process have in
// common: what is written must be the same.
type mirror struct {
	file  []byte
	chain chain.Chain

	mu      sync.Mutex // guards what follows
	whole   bool
	written bitset
}

func (m *mirror) Has(d string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.whole && d == m.chain.Digest()
}

func (m *mirror) Known(string) bool  { return true }
func (m *mirror) Check(string) error { return nil }

func (m *mirror) Open(d string) (File, chain.Chain, error) {
	if !m.Has(d) {
		return nil, chain.Chain{}, errors.New("no such file")
	}
	return m, m.chain, nil
}

func (m *mirror) Assemble(string, int64) (Assembly, error) { return m, nil }
func (m *mirror) Close() error                             { return nil }
func (m *mirror) Drop() error                              { return errors.New("it is dropped") }

func (m *mirror) ReadAt(p []byte, offset int64) (int, error) { return copy(p, m.file[offset:]), nil }

func (m *mirror) Written(offset int64, _ int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.written.has(int(offset / mib))
}

func (m *mirror) WriteAt(p []byte, offset int64) (int, error) {
	if &p[0] != &m.file[offset] && string(p) != string(m.file[offset:][:len(p)]) {
		return 0, errors.New("other bytes")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.written.set(int(offset / mib))
	return len(p), nil
}

func (m *mirror) Commit() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.written.count() != m.chain.Chunks() {
		return errors.New("it is not whole")
	}
	m.whole = true
	return nil
}

// swarmOf is an origin that holds a file, and others that do not, each behind a
// link of its own.
func swarmOf(t *testing.T, m *mesh, n int, size int, rate int64) (file []byte, digest string) {
	file = content(size)
	c := newMemory(file).chains[digestOf(file)]
	m.hosts = map[string]host{}
	for i := range n {
		name := fmt.Sprint("peer", i)
		p := m.add(name)
		p.Mover.cfg.Store = &mirror{file: file, chain: c, whole: i == 0, written: newBitset(c.Chunks())}
		m.hosts[name] = host{&link{rate: rate}, &link{rate: rate}}
	}
	return file, c.Digest()
}

// Many peers want what one has, all at once and each behind a link of its own:
// they have it in less than twice the time that one link takes for it, and the
// origin sends no more than three copies.
func TestSwarm(t *testing.T) {
	for _, n := range []int{10, 50} {
		t.Run(fmt.Sprint(n, " peers"), func(t *testing.T) {
			if testing.Short() && n > 10 {
				t.Skip("ten do the same; not with -short")
			}
			fanOut(t, n)
		})
	}
}

func fanOut(t *testing.T, n int) {
	const size, rate = 64 * mib, 8 << 20
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		_, digest := swarmOf(t, m, n, size, rate)
		begin := time.Now()
		var wg sync.WaitGroup
		var last atomic.Int64
		for i := 1; i < n; i++ {
			wg.Go(func() {
				if err := m.peers[fmt.Sprint("peer", i)].Fetch(context.Background(), digest, size, []string{"peer0"}); err != nil {
					t.Errorf("peer%d: %v", i, err)
				}
				last.Store(int64(time.Since(begin)))
			})
		}
		wg.Wait()
		alone := size / float64(rate)
		took := time.Duration(last.Load()).Seconds()
		copies := float64(m.peers["peer0"].Moved().ServedBytes) / size
		twice := int64(0)
		for name, p := range m.peers {
			moved := p.Moved()
			if name != "peer0" {
				twice += moved.FetchedBytes - size
			}
			if moved.Wrong+moved.Lied > 0 {
				t.Errorf("%s: %+v", name, moved)
			}
		}
		t.Logf("%d peers: %.1f s, a link takes %.1f; the origin sent %.2f copies; %.1f MiB came twice", n, took, alone, copies, float64(twice)/mib)
		if took > 2*alone || copies > 3 {
			t.Errorf("%.1f s where a link takes %.1f; the origin sent %.2f copies", took, alone, copies)
		}
	})
}

// partsOf are the chunks that a peer has got of a file.
func (p *peer) partsOf(digest string) bitset {
	m := p.cfg.Store.(*mirror)
	m.mu.Lock()
	defer m.mu.Unlock()
	return append(bitset{}, m.written...)
}

// The origin dies once the others have one copy, among all of them: it is enough.
func TestOriginDies(t *testing.T) {
	const n, size, rate = 8, 24 * mib, 8 << 20
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		_, digest := swarmOf(t, m, n, size, rate)
		var wg sync.WaitGroup
		for i := 1; i < n; i++ {
			wg.Go(func() {
				if err := m.peers[fmt.Sprint("peer", i)].Fetch(context.Background(), digest, size, []string{"peer0"}); err != nil {
					t.Errorf("peer%d: %v", i, err)
				}
			})
		}
		for all := newBitset(24); all.count() < 24; {
			<-time.After(10 * time.Millisecond)
			for i := 1; i < n; i++ {
				for k, x := range m.peers[fmt.Sprint("peer", i)].partsOf(digest) {
					all[k] |= x
				}
			}
		}
		whole := 0
		for i := 1; i < n; i++ {
			if m.peers[fmt.Sprint("peer", i)].partsOf(digest).count() == 24 {
				whole++
			}
		}
		m.cutOff("peer0")
		wg.Wait()
		if whole == n-1 {
			t.Error("all had it before the origin died: this shows nothing")
		}
	})
}

// A holder that is away for some seconds in the middle costs them, and no byte
// twice but those that were on their way.
func TestCutDuringAFetch(t *testing.T) {
	const size, rate = 24 * mib, 8 << 20
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		_, digest := swarmOf(t, m, 2, size, rate)
		done := make(chan error)
		go func() { done <- m.peers["peer1"].Fetch(context.Background(), digest, size, []string{"peer0"}) }()
		for m.peers["peer1"].partsOf(digest).count() < 8 {
			<-time.After(10 * time.Millisecond)
		}
		m.cutOff("peer0")
		<-time.After(3 * time.Second)
		m.heal("peer0")
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got := m.peers["peer1"].Moved().FetchedBytes; got != size {
			t.Errorf("%d bytes were taken over, want %d", got, size)
		}
		if sent := m.peers["peer0"].Moved().ServedBytes; sent > size+depthAlone*mib {
			t.Errorf("%d bytes were sent for %d", sent, size)
		}
	})
}

// A cut that lasts ends the fetch after a while; the next one goes on with what
// came.
func TestLongCut(t *testing.T) {
	const size, rate = 24 * mib, 8 << 20
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		_, digest := swarmOf(t, m, 2, size, rate)
		done := make(chan error)
		go func() { done <- m.peers["peer1"].Fetch(context.Background(), digest, size, []string{"peer0"}) }()
		for m.peers["peer1"].partsOf(digest).count() < 8 {
			<-time.After(10 * time.Millisecond)
		}
		m.cutOff("peer0")
		begin := time.Now()
		if err := <-done; !errors.Is(err, ErrNoHolder) {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 2*stallMax {
			t.Errorf("it gave up after %v", took)
		}
		m.heal("peer0")
		if err := m.peers["peer1"].Fetch(t.Context(), digest, size, []string{"peer0"}); err != nil {
			t.Fatal(err)
		}
		if got := m.peers["peer1"].Moved(); got.FetchedBytes != size || got.ResumedBytes < 8*mib {
			t.Errorf("%+v", got)
		}
	})
}
