package dev

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport/memnet"
)

// SitesMax bounds the sites of a dev mesh: each costs some 30 MB.
const SitesMax = 20

// Config says which mesh to run. Zero fields are the documented defaults.
type Config struct {
	Sites   int           // default 3
	RTT     time.Duration // between neighbours; farther ones take longer; default 40 ms
	Socket  string        // path of the unix socket of Control; required
	APIPort int           // of the first peer, the others follow; 0 takes any free ones
	DataDir string        // default a temporary folder, removed at the end
	Log     *slog.Logger
	Version string
	// Ready is called once, when every peer sees all others.
	Ready func(peers []Peer)
}

// Peer is one peer of the mesh.
type Peer struct {
	Peer string `json:"peer"`
	Name string `json:"name"`
	Site string `json:"site"`
	API  string `json:"api"`
}

// endWorkMax is how long the end of a site's work may take.
const endWorkMax = 30 * time.Second

// cities name the sites and place them, so that latencies and maps look real.
var cities = []struct {
	site     string
	lat, lon float64
}{
	{"lubeck", 53.87, 10.69}, {"bergen", 60.39, 5.32}, {"novgorod", 58.52, 31.27}, {"london", 51.51, -0.13},
	{"bruges", 51.21, 3.22}, {"danzig", 54.35, 18.65}, {"riga", 56.95, 24.11}, {"visby", 57.64, 18.30},
	{"cologne", 50.94, 6.96}, {"hamburg", 53.55, 9.99}, {"rostock", 54.09, 12.13}, {"stralsund", 54.31, 13.09},
	{"reval", 59.44, 24.75}, {"stockholm", 59.33, 18.07}, {"bremen", 53.08, 8.80}, {"brunswick", 52.27, 10.52},
	{"magdeburg", 52.12, 11.63}, {"krakow", 50.06, 19.94}, {"antwerp", 51.22, 4.40}, {"kampen", 52.56, 5.91},
}

// Mesh is a running dev mesh.
type Mesh struct {
	cfg Config
	net *memnet.Network

	mu    sync.Mutex // guards what follows
	ctx   context.Context
	sites []*site
}

// site is one site with its one peer.
type site struct {
	name   string
	dir    string
	udp    string // address on the in-memory network
	api    string
	lat    float64
	lon    float64
	node   *node.Node
	cancel context.CancelCauseFunc
	done   chan struct{} // closed when the node's Run has returned
	err    error
}

// New checks the configuration; it starts nothing.
func New(cfg Config) (*Mesh, error) {
	if cfg.Sites == 0 {
		cfg.Sites = 3
	}
	if cfg.RTT == 0 {
		cfg.RTT = 40 * time.Millisecond
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Socket == "" {
		return nil, errors.New("dev: Config.Socket is required")
	}
	if cfg.Sites < 1 || cfg.Sites > SitesMax {
		return nil, fmt.Errorf("--sites %d: a dev mesh has 1 to %d sites", cfg.Sites, SitesMax)
	}
	if cfg.RTT < 0 || cfg.RTT > 2*time.Second {
		return nil, fmt.Errorf("--rtt %v: from 0 to 2s", cfg.RTT)
	}
	return &Mesh{cfg: cfg}, nil
}

// Run runs the mesh until ctx ends, then stops it politely.
func (m *Mesh) Run(ctx context.Context) (err error) {
	listener, err := listen(m.cfg.Socket)
	if err != nil {
		return err
	}
	defer listener.Close()
	dir := m.cfg.DataDir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "hansa-dev-"); err != nil {
			return fmt.Errorf("dev: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	m.net = memnet.New(1)
	defer m.net.Close()
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	m.ctx = runCtx
	defer m.stopAll()
	if err := m.startAll(ctx, dir); err != nil {
		return err
	}
	control := m.serve(listener)
	defer control.Close()
	if m.cfg.Ready != nil {
		m.cfg.Ready(m.Peers())
	}
	<-ctx.Done()
	return nil
}

// startAll makes the first peer found the mesh, lets the others in and waits
// until all see all. Peers that were there before, in a folder that was kept, go on.
func (m *Mesh) startAll(ctx context.Context, dir string) error {
	for i := range m.cfg.Sites {
		c := cities[i]
		api, err := m.address(i)
		if err != nil {
			return err
		}
		m.sites = append(m.sites, &site{
			name: c.site, dir: filepath.Join(dir, c.site), api: api, lat: c.lat, lon: c.lon,
			udp: fmt.Sprintf("10.0.%d.1:7600", i+1),
		})
	}
	for i, a := range m.sites {
		for j, b := range m.sites[:i] {
			m.net.SetLink(a.udp, b.udp, memnet.Link{Latency: m.latency(j, i)})
		}
	}
	for _, s := range m.sites {
		token, err := m.admit(ctx, s)
		if err != nil {
			return err
		}
		if err := m.start(s, token); err != nil {
			return err
		}
	}
	return m.awaitAll(ctx)
}

// admit makes the peer of a site one of the mesh, unless it is: it is the invitation
// for one that comes.
func (m *Mesh) admit(ctx context.Context, s *site) (token string, err error) {
	name := s.name + "-1"
	if in, err := node.InMesh(s.dir); in || err != nil {
		return "", err
	}
	first := m.sites[0]
	if s == first {
		_, err = node.Init(node.InitConfig{DataDir: s.dir, Name: name, Site: s.name})
		return "", err
	}
	if token, err = first.node.Invite(ctx, node.InviteOptions{Name: name, Site: s.name}); err != nil {
		return "", fmt.Errorf("dev: invite %s: %w", s.name, err)
	}
	return token, nil
}

// latency is one way between two sites: half the RTT between neighbours, and
// a quarter more for each site between.
func (m *Mesh) latency(i, j int) time.Duration {
	hops := math.Abs(float64(i - j))
	return time.Duration(float64(m.cfg.RTT) / 2 * (1 + (hops-1)/4))
}

// address is the address of the admin API of the i-th peer.
func (m *Mesh) address(i int) (string, error) {
	if m.cfg.APIPort != 0 {
		return fmt.Sprintf("127.0.0.1:%d", m.cfg.APIPort+i), nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("dev: find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// start starts the peer of a site, in the folder that it left.
func (m *Mesh) start(s *site, token string) error {
	conn, err := m.net.Listen(s.udp)
	if err != nil {
		return fmt.Errorf("dev: start %s: %w", s.name, err)
	}
	cfg := node.Config{
		DataDir: s.dir, Name: s.name + "-1", Site: s.name, Lat: s.lat, Lon: s.lon,
		Listen: s.udp, Advertise: s.udp, API: s.api, Capacity: m.share(),
		Labels: map[string]string{"region": s.name},
	}
	if token != "" {
		cfg.Join, cfg.Token = []string{m.sites[0].udp}, token
	}
	n, err := node.New(m.ctx, cfg, node.Deps{Log: m.cfg.Log.With("site", s.name), Conn: conn, Version: m.cfg.Version})
	if err != nil {
		return errors.Join(fmt.Errorf("dev: start %s: %w", s.name, err), conn.Close())
	}
	ctx, cancel := context.WithCancelCause(m.ctx)
	done := make(chan struct{})
	s.node, s.cancel, s.done = n, cancel, done
	go func() {
		defer close(done)
		s.err = n.Run(ctx)
		_ = conn.Close()
	}()
	select {
	case <-n.Started():
		return nil
	case <-done:
		return fmt.Errorf("dev: start %s: %w", s.name, s.err)
	}
}

// Least that a site of a dev mesh has, so that a small machine can play too,
// even if it is then promised more than once.
const (
	cpuLeast    = 1000 // a core
	memoryLeast = 1 << 30
)

// share divides this machine between the sites, so that they do not promise
// it many times over.
func (m *Mesh) share() placement.Resources {
	all := node.Machine(os.TempDir())
	n := int64(m.cfg.Sites)
	return placement.Resources{
		CPU:    max(cpuLeast, all.CPU/placement.CPU(n)),
		Memory: max(memoryLeast, all.Memory/placement.Bytes(n)&^(1<<20-1)), // whole mebibytes, to be read
		Disk:   all.Disk / placement.Bytes(n),
	}
}

// awaitAll waits until every peer could place work at all others.
func (m *Mesh) awaitAll(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		ready := true
		for _, s := range m.sites {
			ready = ready && s.node.PeersReady(ctx) == len(m.sites)
		}
		if ready {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// stopAll stops what runs, all at once.
func (m *Mesh) stopAll() {
	m.mu.Lock()
	defer m.mu.Unlock()
	var wg sync.WaitGroup
	for _, s := range m.sites {
		if s.node == nil {
			continue
		}
		wg.Go(func() {
			s.cancel(node.ErrKilled) // all go at once: there is nobody to say goodbye to
			<-s.done
			// A throw-away mesh leaves nothing behind: its work ends with it.
			ctx, cancel := context.WithTimeout(context.WithoutCancel(m.ctx), endWorkMax)
			defer cancel()
			if err := s.node.EndWork(ctx, 0); err != nil {
				m.cfg.Log.Warn("work was left running", "site", s.name, "err", err)
			}
		})
	}
	wg.Wait()
}

// Peers are the peers of the mesh, also those that are down.
func (m *Mesh) Peers() []Peer {
	m.mu.Lock()
	defer m.mu.Unlock()
	var peers []Peer
	for _, s := range m.sites {
		p := Peer{Name: s.name + "-1", Site: s.name, API: s.api}
		if s.node != nil {
			p.Peer = s.node.ID()
		}
		peers = append(peers, p)
	}
	return peers
}

// find returns the named site. The caller holds mu.
func (m *Mesh) find(name string) (*site, error) {
	i := slices.IndexFunc(m.sites, func(s *site) bool { return s.name == name })
	if i < 0 {
		var names []string
		for _, s := range m.sites {
			names = append(names, s.name)
		}
		return nil, fmt.Errorf("no site %q: there are %s", name, strings.Join(names, ", "))
	}
	return m.sites[i], nil
}

// Kill ends a site as a power failure would: no goodbye, its work included.
func (m *Mesh) Kill(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.find(name)
	if err != nil {
		return err
	}
	if s.node == nil {
		return fmt.Errorf("site %s is down already", name)
	}
	s.cancel(node.ErrKilled)
	<-s.done
	ctx, cancel := context.WithTimeout(context.WithoutCancel(m.ctx), endWorkMax)
	defer cancel()
	err = s.node.EndWork(ctx, -1)
	s.node = nil
	return err
}

// Restart starts a site that was killed, with the disk that it left.
func (m *Mesh) Restart(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, err := m.find(name)
	if err != nil {
		return err
	}
	if s.node != nil {
		return fmt.Errorf("site %s is running: kill it first", name)
	}
	return m.start(s, "")
}

// Partition cuts the named sites off from the rest; they still reach each
// other.
func (m *Mesh) Partition(names ...string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var inside, outside []string
	for _, name := range names {
		if _, err := m.find(name); err != nil {
			return err
		}
	}
	for _, s := range m.sites {
		if slices.Contains(names, s.name) {
			inside = append(inside, s.udp)
		} else {
			outside = append(outside, s.udp)
		}
	}
	if len(inside) == 0 || len(outside) == 0 {
		return errors.New("a partition needs at least one site on either side")
	}
	m.net.Partition(inside, outside)
	return nil
}

// Heal mends every cut.
func (m *Mesh) Heal() error {
	m.net.Heal()
	return nil
}
