package gossip

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base32"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/gossip/table"
)

// mesh is some peers on a wire.
type mesh struct {
	t    testing.TB
	wire *wire
	keys map[string]ed25519.PrivateKey

	mu     sync.Mutex
	events map[string][]eventAt // by the observer
	nodes  map[string]*node
	adapt  func(cfg *Config)
}

type eventAt struct {
	Event
	at time.Time
}

type node struct {
	*Gossip
	id     string
	port   *port
	table  *table.Replica
	cancel context.CancelFunc
	done   chan struct{}
}

func newMesh(t testing.TB, rtt time.Duration, loss float64) *mesh {
	m := &mesh{t: t, wire: newWire(rtt, loss), keys: map[string]ed25519.PrivateKey{},
		events: map[string][]eventAt{}, nodes: map[string]*node{}}
	t.Cleanup(m.stopAll)
	return m
}

// identity makes the key of a peer from its number, and its id from the key.
func (m *mesh) identity(n int) string {
	seed := sha256.Sum256([]byte{byte(n), byte(n >> 8)})
	key := ed25519.NewKeyFromSeed(seed[:])
	sum := sha256.Sum256(key.Public().(ed25519.PublicKey))
	id := strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(sum[:16]))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys[id] = key
	return id
}

func (m *mesh) keyOf(id string) (ed25519.PublicKey, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.keys[id]
	if !ok {
		return nil, false
	}
	return k.Public().(ed25519.PublicKey), true
}

// memoryLog keeps nothing: these tests restart nobody's disk, unless they keep
// the replica.
type memoryLog struct{}

func (memoryLog) Load(func(string, []byte) error) error      { return nil }
func (memoryLog) Apply(context.Context, []table.Write) error { return nil }

func (m *mesh) replica(id string, incarnation uint64) *table.Replica {
	r, err := table.Open(table.ReplicaConfig{Table: table.Config{Name: "things", Self: id, Incarnation: incarnation}, Log: memoryLog{}})
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

// start runs a peer that knows the given ones.
func (m *mesh) start(id string, r *table.Replica, known ...string) *node {
	m.t.Helper()
	p := m.wire.plug(id)
	cfg := Config{Self: id, Name: "n-" + id[:4], Site: "s", Addr: id[:8] + ":7600", Version: "test",
		PacketConn: p, Dial: p.dial, Accept: p.accept, Signer: m.keys[id], KeyOf: m.keyOf,
		Events: func(e Event) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.events[id] = append(m.events[id], eventAt{e, time.Now()})
		},
		Pull: func(ctx context.Context, peer string) ([]byte, error) {
			m.mu.Lock()
			n := m.nodes[peer]
			m.mu.Unlock()
			return n.WholeDigest()
		},
	}
	if r != nil {
		cfg.Tables = []*table.Replica{r}
		cfg.OpenSync = m.openSync(id)
	}
	for _, k := range known {
		cfg.Known = append(cfg.Known, Seed{ID: k, Addr: "seed"})
	}
	if m.adapt != nil {
		m.adapt(&cfg)
	}
	g, err := New(cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	n := &node{Gossip: g, id: id, port: p, table: r, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go func() {
		defer close(n.done)
		if err := g.Run(ctx); err != nil {
			m.t.Error(err)
		}
	}()
	m.mu.Lock()
	m.nodes[id] = n
	m.mu.Unlock()
	return n
}

func (m *mesh) openSync(from string) func(context.Context, string) (io.ReadWriteCloser, error) {
	return func(ctx context.Context, to string) (io.ReadWriteCloser, error) {
		m.mu.Lock()
		n := m.nodes[to]
		m.mu.Unlock()
		if _, ok := m.wire.reach(from, to); !ok || n == nil {
			return nil, io.ErrClosedPipe
		}
		here, there := m.wire.stream(from, to)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			_ = n.HandleSync(ctx, from, there) // the other end judges
			_ = there.Close()
		}()
		return here, nil
	}
}

// kill ends a peer without a word.
func (m *mesh) kill(n *node) {
	_ = n.port.Close()
	m.mu.Lock()
	delete(m.nodes, n.id)
	m.mu.Unlock()
	n.cancel()
	<-n.done
}

func (m *mesh) stopAll() {
	m.mu.Lock()
	nodes := m.nodes
	m.nodes = map[string]*node{}
	m.mu.Unlock()
	if len(nodes) == 0 {
		return
	}
	for _, n := range nodes {
		n.cancel()
	}
	for _, n := range nodes {
		<-n.done
	}
	time.Sleep(time.Minute) // virtual: memberlist does not wait for its last timers
}

// startMany runs n peers that know each other, and waits until all see all.
func (m *mesh) startMany(n int, tables bool) []*node {
	m.t.Helper()
	var ids []string
	for i := range n {
		ids = append(ids, m.identity(i))
	}
	var nodes []*node
	for i, id := range ids {
		var r *table.Replica
		if tables {
			r = m.replica(id, 1)
		}
		nodes = append(nodes, m.start(id, r, ids[max(0, i-3):i]...))
	}
	m.eventually(2*time.Minute, "everybody sees everybody", func() bool { return allAlive(nodes, nodes) })
	return nodes
}

func (m *mesh) eventually(limit time.Duration, what string, ok func() bool) time.Duration {
	m.t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > limit {
			m.t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(50 * time.Millisecond)
	}
	return time.Since(start)
}

// allAlive: each of the observers sees each of the others alive.
func allAlive(observers, others []*node) bool {
	for _, o := range observers {
		for _, p := range others {
			if p.id != o.id && stateOf(o, p.id) != StateAlive {
				return false
			}
		}
	}
	return true
}

// stateOf is cheaper than Members, for the many that look often.
func stateOf(o *node, id string) State {
	o.mu.Lock()
	defer o.mu.Unlock()
	if p, ok := o.peers[id]; ok {
		return p.state
	}
	return StateDead
}

// count is how many events of a kind the observers saw about a peer; "" is
// any.
func (m *mesh) count(kind EventKind, about string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, list := range m.events {
		for _, e := range list {
			if e.Kind == kind && (about == "" || e.Member.Peer == about) {
				n++
			}
		}
	}
	return n
}
