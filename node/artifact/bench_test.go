package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/store"
	"github.com/hansa-mesh/hansa/store/chain"
	"github.com/hansa-mesh/hansa/transport"
	"github.com/hansa-mesh/hansa/transport/identity"
	"github.com/hansa-mesh/hansa/transport/trust"
)

// endless is a file of which no byte is in memory.
type endless struct{ size int64 }

func (e endless) ReadAt(p []byte, offset int64) (int, error) {
	n := int(min(int64(len(p)), max(0, e.size-offset)))
	for i := range p[:n] {
		at := uint64(offset) + uint64(i)
		p[i] = byte(at ^ at>>8 ^ at>>16 ^ at>>24)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (endless) Close() error { return nil }

// sink is a store that serves a file, or takes one and keeps no byte of it.
type sink struct {
	Store
	file  endless
	chain chain.Chain

	mu    sync.Mutex // guards what follows
	whole bool
}

func (s *sink) Has(string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.whole
}
func (s *sink) Known(string) bool                        { return true }
func (s *sink) Open(string) (File, chain.Chain, error)   { return s.file, s.chain, nil }
func (s *sink) Assemble(string, int64) (Assembly, error) { return s, nil }
func (s *sink) ReadAt([]byte, int64) (int, error)        { return 0, errors.New("nothing is kept") }
func (s *sink) WriteAt(p []byte, _ int64) (int, error)   { return len(p), nil }
func (s *sink) Written(int64, int) bool                  { return false }
func (s *sink) Drop() error                              { return nil }
func (s *sink) Close() error                             { return nil }
func (s *sink) Commit() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.whole = true
	return nil
}

// onLoopback are peers that speak over QUIC on this machine's loopback.
func onLoopback(b *testing.B, m *mesh, n int, kept func(i int) Store) (names []string, stop func()) {
	root, err := identity.New()
	if err != nil {
		b.Fatal(err)
	}
	set := trust.NewSet(root.Public())
	var ids []*identity.Identity
	for i := range n {
		id, err := identity.New()
		if err != nil {
			b.Fatal(err)
		}
		record, err := trust.Admit(root, trust.Admission{Key: id.Public(), Name: fmt.Sprint("peer", i), Site: "s"})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := set.Add(record); err != nil {
			b.Fatal(err)
		}
		ids = append(ids, id)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var runs sync.WaitGroup
	addrs := map[string]string{}
	var links []*transport.Transport
	for i, id := range ids {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		link, err := transport.New(transport.Config{Identity: id, Trust: set, Conn: conn})
		if err != nil {
			b.Fatal(err)
		}
		p := m.add(link.ID())
		p.cfg.Store = kept(i)
		p.cfg.Open = func(ctx context.Context, to string) (Stream, error) { return link.Open(ctx, to, Kind) }
		link.HandleStream(Kind, func(ctx context.Context, from string, s *transport.Stream) error { return p.Serve(ctx, from, s) })
		links, names, addrs[link.ID()] = append(links, link), append(names, link.ID()), conn.LocalAddr().String()
		runs.Go(func() { _ = link.Run(ctx); conn.Close() })
	}
	for _, link := range links {
		for name, addr := range addrs {
			if name != link.ID() {
				link.Learn(name, addr)
			}
		}
		for _, err := link.Open(ctx, names[0], Kind); err != nil && link.ID() != names[0]; _, err = link.Open(ctx, names[0], Kind) {
			runtime.Gosched() // until it runs
		}
	}
	return names, func() { cancel(); runs.Wait() }
}

// BenchmarkFetch moves a file from disk to disk over QUIC on loopback.
func BenchmarkFetch(b *testing.B) {
	const size = 256 * mib
	for _, holders := range []int{1, 3} {
		b.Run(fmt.Sprint("holders=", holders), func(b *testing.B) {
			file := content(size)
			digest := digestOf(file)
			b.SetBytes(size)
			for b.Loop() {
				b.StopTimer()
				m := &mesh{peers: map[string]*peer{}}
				var stores []*store.Store
				names, stop := onLoopback(b, m, holders+1, func(i int) Store {
					s, err := store.Open(store.Config{Dir: b.TempDir()})
					if err != nil {
						b.Fatal(err)
					}
					stores = append(stores, s)
					if i > 0 {
						w, err := s.Blobs().Create(b.Context(), digest, size)
						if err == nil {
							_, err = w.Write(file)
						}
						if err == nil {
							err = w.Commit()
						}
						if err != nil {
							b.Fatal(err)
						}
					}
					return onDisk{s.Blobs()}
				})
				b.StartTimer()
				if err := m.peers[names[0]].Fetch(b.Context(), digest, size, names[1:]); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				stop()
				for _, s := range stores {
					_ = s.Close()
				}
				b.StartTimer()
			}
		})
	}
}

// BenchmarkMemory moves 5 GiB over QUIC on loopback, and says how much memory
// both ends together took at most.
func BenchmarkMemory(b *testing.B) {
	file := endless{5 << 30}
	digest, c, err := chain.Sum(io.NewSectionReader(file, 0, file.size), one)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(file.size)
	for b.Loop() {
		m := &mesh{peers: map[string]*peer{}}
		names, stop := onLoopback(b, m, 2, func(i int) Store { return &sink{file: file, chain: c, whole: i == 1} })
		runtime.GC()
		var before, now runtime.MemStats
		runtime.ReadMemStats(&before)
		most, ended := uint64(0), make(chan error)
		go func() { ended <- m.peers[names[0]].Fetch(b.Context(), digest, file.size, names[1:]) }()
		tick := time.NewTicker(50 * time.Millisecond)
		for err := error(os.ErrProcessDone); err != nil; {
			select {
			case err = <-ended:
				if err != nil {
					b.Fatal(err)
				}
			case <-tick.C:
				runtime.ReadMemStats(&now)
				most = max(most, now.HeapInuse-min(now.HeapInuse, before.HeapInuse))
			}
		}
		tick.Stop()
		stop()
		b.ReportMetric(float64(most)/mib, "MiB-heap")
	}
}
