package artifact

import (
	"context"
	"flag"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/transport"
	"github.com/hansa-mesh/hansa/transport/identity"
	"github.com/hansa-mesh/hansa/transport/memnet"
	"github.com/hansa-mesh/hansa/transport/trust"
)

var (
	quicPeers = flag.Int("swarm-peers", 8, "peers of TestSwarmOverQUIC")
	quicMiB   = flag.Int("swarm-mib", 32, "size of what they fetch, in MiB")
)

// meshOverQUIC is a mesh whose peers speak over QUIC, each behind a link of its
// own, 20 ms apart.
type meshOverQUIC struct {
	*mesh
	net   *memnet.Network
	addrs map[string]string
	stop  func()
}

func newMeshOverQUIC(t *testing.T, n int, size int, rate int64) (m *meshOverQUIC, names []string, digest string) {
	m = &meshOverQUIC{mesh: newMesh(t), net: memnet.New(1), addrs: map[string]string{}}
	root, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	var ids []*identity.Identity
	var records [][]byte
	for i := range n {
		id, err := identity.New()
		if err != nil {
			t.Fatal(err)
		}
		record, err := trust.Admit(root, trust.Admission{Key: id.Public(), Name: fmt.Sprint("peer", i), Site: "s"})
		if err != nil {
			t.Fatal(err)
		}
		ids, records = append(ids, id), append(records, record)
	}
	file := content(size)
	c := newMemory(file).chains[digestOf(file)]
	ctx, cancel := context.WithCancel(context.Background())
	var runs sync.WaitGroup
	var links []*transport.Transport
	for i, id := range ids {
		addr := fmt.Sprintf("10.0.%d.1:7600", i)
		conn, err := m.net.Listen(addr)
		if err != nil {
			t.Fatal(err)
		}
		m.net.SetCap(addr, memnet.Cap{Up: rate, Down: rate})
		for j := range i {
			m.net.SetLink(addr, fmt.Sprintf("10.0.%d.1:7600", j), memnet.Link{Latency: 10 * time.Millisecond})
		}
		set := trust.NewSet(root.Public())
		for _, r := range records {
			if _, err := set.Add(r); err != nil {
				t.Fatal(err)
			}
		}
		link, err := transport.New(transport.Config{Identity: id, Trust: set, Conn: conn})
		if err != nil {
			t.Fatal(err)
		}
		p := m.add(link.ID())
		p.cfg.Store = &mirror{file: file, chain: c, whole: i == 0, written: newBitset(c.Chunks())}
		p.cfg.Open = func(ctx context.Context, to string) (Stream, error) { return link.Open(ctx, to, Kind) }
		link.HandleStream(Kind, func(ctx context.Context, from string, s *transport.Stream) error { return p.Serve(ctx, from, s) })
		links, names = append(links, link), append(names, link.ID())
		m.addrs[link.ID()] = addr
		runs.Go(func() {
			if err := link.Run(ctx); err != nil {
				t.Error(err)
			}
			conn.Close()
		})
	}
	for _, link := range links {
		for name, addr := range m.addrs {
			if name != link.ID() {
				link.Learn(name, addr)
			}
		}
	}
	m.stop = func() { cancel(); runs.Wait(); m.net.Close() }
	return m, names, c.Digest()
}

// The same over QUIC, with its packets, acknowledgements and congestion.
func TestSwarmOverQUIC(t *testing.T) {
	n, size, rate := *quicPeers, *quicMiB*mib, int64(4<<20)
	if testing.Short() {
		n, size = min(n, 4), min(size, 16*mib)
	}
	synctest.Test(t, func(t *testing.T) {
		m, names, digest := newMeshOverQUIC(t, n, size, rate)
		defer m.stop()
		synctest.Wait() // all of them run
		begin := time.Now()
		var wg sync.WaitGroup
		for _, name := range names[1:] {
			wg.Go(func() {
				if err := m.peers[name].Fetch(context.Background(), digest, int64(size), names[:1]); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		wg.Wait()
		took, alone := time.Since(begin).Seconds(), float64(size)/float64(rate)
		up, _ := m.net.Carried(m.addrs[names[0]])
		copies := float64(up) / float64(size)
		var twice int64
		for _, name := range names[1:] {
			_, down := m.net.Carried(m.addrs[name])
			twice += down
		}
		t.Logf("%d peers: %.1f s, a link takes %.1f; the origin sent %.2f copies; %.2f copies came to each other peer",
			n, took, alone, copies, float64(twice)/float64(size)/float64(n-1))
		if took > 2*alone || copies > 3 {
			t.Errorf("%.1f s where a link takes %.1f; the origin sent %.2f copies", took, alone, copies)
		}
	})
}
