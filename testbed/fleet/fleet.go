package fleet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node"
	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/fake"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/testbed/load"
	"github.com/hansa-mesh/hansa/transport/memnet"
)

// PeersMax bounds a fleet: each peer costs some 40 MB with its connections to
// all others.
const PeersMax = 200

// Config says which fleet to start.
type Config struct {
	Dir      string // data folders
	Peers    int
	PerSite  int                 // peers of a site; default 1
	RTTMax   time.Duration       // between the farthest; sites lie at random
	Loss     float64             // share of packets, 0..1
	Seed     uint64              // of where the sites lie
	Hosts    int                 // of each peer; default 1, its own machine
	Capacity placement.Resources // of each host
	Log      *slog.Logger
	Progress func(up int) // called as peers know each other; nil for none
}

// Fleet is a running mesh.
type Fleet struct {
	cfg   Config
	net   *memnet.Network
	peers []*Peer
}

// Peer is one peer, up or down.
type Peer struct {
	Name, Site string
	Addr       string // on the in-memory network
	World      *fake.World
	Hosts      int // how many it has; a change is found at its next start

	dir string

	mu     sync.Mutex // guards what follows
	id     string
	node   *node.Node // nil while it is down
	cancel context.CancelCauseFunc
	done   chan error
}

// Start starts the peers: the first founds the mesh and lets the others in. It
// returns when each could place work at all others.
func Start(ctx context.Context, cfg Config) (*Fleet, error) {
	if cfg.Peers < 1 || cfg.Peers > PeersMax {
		return nil, fmt.Errorf("fleet: %d peers: 1 to %d", cfg.Peers, PeersMax)
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.PerSite = max(1, cfg.PerSite)
	f := &Fleet{cfg: cfg, net: memnet.New(cfg.Seed)}
	f.lay()
	if err := f.found(ctx); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// lay gives each site a place, and each pair of peers a link as long as they
// are apart.
func (f *Fleet) lay() {
	rng := rand.New(rand.NewPCG(f.cfg.Seed, 1))
	type point struct{ x, y float64 }
	var at []point
	for i := range f.cfg.Peers {
		site := i / f.cfg.PerSite
		if i%f.cfg.PerSite == 0 {
			at = append(at, point{rng.Float64(), rng.Float64()})
		}
		name := fmt.Sprintf("s%d", site+1)
		p := &Peer{
			Name: fmt.Sprintf("%s-%d", name, i%f.cfg.PerSite+1), Site: name,
			Addr: fmt.Sprintf("10.0.%d.%d:7600", i/200+1, i%200+1), World: fake.NewWorld(),
			Hosts: max(1, f.cfg.Hosts),
		}
		p.dir = filepath.Join(f.cfg.Dir, p.Name)
		for j, other := range f.peers {
			a, b := at[site], at[j/f.cfg.PerSite]
			apart := math.Hypot(a.x-b.x, a.y-b.y) / math.Sqrt2
			f.net.SetLink(p.Addr, other.Addr, memnet.Link{
				Latency: time.Duration(apart * float64(f.cfg.RTTMax) / 2), Loss: f.cfg.Loss,
			})
		}
		f.peers = append(f.peers, p)
	}
}

// wave is how many peers start at once beside n that run: each newcomer connects to all,
// and a few cores do the work of all, so that too many at once have no answer in time.
func wave(n int) int { return min(max(4, 512/n), 16) }

// found starts the peers in waves, each when those before know each other.
func (f *Fleet) found(ctx context.Context) error {
	first := f.peers[0]
	if _, err := node.Init(node.InitConfig{DataDir: first.dir, Name: first.Name, Site: first.Site}); err != nil {
		return err
	}
	if err := f.start(ctx, first); err != nil {
		return err
	}
	for n := 1; n < len(f.peers); {
		end := min(n+wave(n), len(f.peers))
		if err := f.letIn(ctx, f.peers[n:end]); err != nil {
			return err
		}
		if err := f.ready(ctx, f.peers[:end]); err != nil {
			return err
		}
		n = end
		if f.cfg.Progress != nil {
			f.cfg.Progress(n)
		}
	}
	return nil
}

// letIn lets all of a wave in before any of them runs.
func (f *Fleet) letIn(ctx context.Context, peers []*Peer) error {
	var runs []func()
	for _, p := range peers {
		token, err := f.peers[0].Node().Invite(ctx, node.InviteOptions{Name: p.Name, Site: p.Site})
		if err != nil {
			return fmt.Errorf("fleet: invite %s: %w", p.Name, err)
		}
		run, err := f.make(ctx, p, token)
		if err != nil {
			return err
		}
		runs = append(runs, run)
	}
	for _, run := range runs {
		run()
	}
	for _, p := range peers {
		<-p.Node().Started()
	}
	return nil
}

// ready waits until each of these could place work at all of them.
func (f *Fleet) ready(ctx context.Context, peers []*Peer) error {
	return load.Await(ctx, func() error {
		for _, p := range peers {
			if n := p.Node().PeersReady(ctx); n != len(peers) {
				return fmt.Errorf("fleet: %s could place work at %d of %d peers", p.Name, n, len(peers))
			}
		}
		return nil
	})
}

// start runs a peer that was let in, and waits until it does its work.
func (f *Fleet) start(ctx context.Context, p *Peer) error {
	run, err := f.make(ctx, p, "")
	if err != nil {
		return err
	}
	run()
	<-p.Node().Started()
	return nil
}

// make is a peer that is yet to run; with an invitation it is let in first.
func (f *Fleet) make(ctx context.Context, p *Peer, token string) (run func(), err error) {
	conn, err := f.net.Listen(p.Addr)
	if err != nil {
		return nil, fmt.Errorf("fleet: start %s: %w", p.Name, err)
	}
	cfg := node.Config{DataDir: p.dir, Listen: p.Addr, Advertise: p.Addr, API: "none", Capacity: f.cfg.Capacity}
	if token != "" {
		cfg.Token, cfg.Join = token, []string{f.peers[0].Addr}
	}
	n, err := node.New(ctx, cfg, node.Deps{Conn: conn, Version: "test", Log: f.cfg.Log.With("on", p.Name), Drivers: p.drivers, Hosts: f.hosts(p)})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("fleet: start %s: %w", p.Name, err), conn.Close())
	}
	return func() { p.run(n, conn) }, nil
}

// hosts are those of a peer beside its own machine, each as large as that.
func (f *Fleet) hosts(p *Peer) []placement.Host {
	var out []placement.Host
	for i := 1; i < p.Hosts; i++ {
		out = append(out, placement.Host{ID: fmt.Sprintf("%s-h%04d", p.Name, i), Capacity: f.cfg.Capacity})
	}
	return out
}

// drivers are pretended ones, on the machine that outlives the daemon.
func (p *Peer) drivers(_ string, events func(driver.Event), _ *slog.Logger) ([]driver.Driver, error) {
	return []driver.Driver{fake.New(fake.Config{Name: "process", World: p.World, Events: events})}, nil
}

func (p *Peer) run(n *node.Node, conn net.PacketConn) {
	ctx, cancel := context.WithCancelCause(context.Background())
	done := make(chan error, 1)
	p.mu.Lock()
	p.id, p.node, p.cancel, p.done = n.ID(), n, cancel, done
	p.mu.Unlock()
	go func() {
		err := n.Run(ctx)
		done <- errors.Join(err, conn.Close())
	}()
}

// Node is the peer while it is up.
func (p *Peer) Node() *node.Node {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.node
}

// ID is the peer's id.
func (p *Peer) ID() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.id
}

// errDown is the answer of a peer that is down.
var errDown = fmt.Errorf("the peer is down: %w", api.ErrNoAnswer)

// Door is how people reach the peer, in all of its lives.
func (p *Peer) Door() load.Door { return door{p} }

// Doors are those of all peers, by name.
func (f *Fleet) Doors() map[string]load.Door {
	doors := map[string]load.Door{}
	for _, p := range f.peers {
		doors[p.Name] = p.Door()
	}
	return doors
}

// Peers are all peers, up or down.
func (f *Fleet) Peers() []*Peer { return f.peers }

// Network is what lies between the peers.
func (f *Fleet) Network() *memnet.Network { return f.net }

// Kill ends a peer without a goodbye, and its work with it when the machine
// lost its power.
func (f *Fleet) Kill(p *Peer, work bool) error {
	p.mu.Lock()
	n, cancel, done := p.node, p.cancel, p.done
	p.node = nil
	p.mu.Unlock()
	if n == nil {
		return fmt.Errorf("fleet: kill %s: it is down already", p.Name)
	}
	cancel(node.ErrKilled)
	err := <-done
	if work {
		p.World.KillAll()
	}
	return err
}

// Restart starts a peer with the disk that it has.
func (f *Fleet) Restart(p *Peer) error { return f.start(context.Background(), p) }

// Wipe empties the disk of a peer that is down, but for its identity.
func (f *Fleet) Wipe(p *Peer) error { return Wipe(p.dir) }

// Wipe empties a data folder, but for the identity, which lies apart.
func Wipe(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("wipe: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if e.Name() != "identity" && e.Name() != "work" {
			errs = append(errs, os.RemoveAll(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// Partition cuts the chosen peers off from all others, and the others from
// them; it is in addition to what is cut already.
func (f *Fleet) Partition(inside func(*Peer) bool) {
	var in, out []string
	for _, p := range f.peers {
		if inside(p) {
			in = append(in, p.Addr)
		} else {
			out = append(out, p.Addr)
		}
	}
	f.net.Partition(in, out)
}

// Work is what really runs.
func (f *Fleet) Work() ([]load.Work, error) {
	var all []load.Work
	for _, p := range f.peers {
		for _, t := range p.World.Tasks() {
			w := load.Work{App: t.Env["HANSA_APP"], Component: t.Env["HANSA_COMPONENT"], Where: p.Name, Host: t.Host}
			if _, err := fmt.Sscan(t.Env["HANSA_SLOT"], &w.Slot); err != nil {
				return nil, fmt.Errorf("fleet: task %s at %s has no slot: %w", t.ID, p.Name, err)
			}
			all = append(all, w)
		}
	}
	return all, nil
}

// Close ends all peers, their work included. memberlist's last probes end by
// themselves, within a minute: inside a bubble that has to be waited for.
func (f *Fleet) Close() error {
	var wg sync.WaitGroup
	errs := make([]error, len(f.peers))
	for i, p := range f.peers {
		if p.Node() != nil {
			wg.Go(func() { errs[i] = f.Kill(p, true) })
		}
	}
	wg.Wait()
	for _, p := range f.peers {
		p.World.KillAll()
	}
	return errors.Join(append(errs, f.net.Close())...)
}
