package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-mesh/hansa/gossip"
	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/artifact"
	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/invoke"
	"github.com/hansa-mesh/hansa/node/registry"
	"github.com/hansa-mesh/hansa/node/runner"
	"github.com/hansa-mesh/hansa/node/secrets"
	"github.com/hansa-mesh/hansa/node/volume"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/store"
	"github.com/hansa-mesh/hansa/transport"
	"github.com/hansa-mesh/hansa/transport/identity"
	"github.com/hansa-mesh/hansa/transport/trust"
)

// ErrKilled as the cause of a cancelled context ends a node without a
// goodbye, as a crash would.
var ErrKilled = errors.New("killed")

var errClosing = errors.New("this peer is stopping")

// Node is one peer.
type Node struct {
	cfg       Config
	deps      Deps
	log       *slog.Logger
	id        *identity.Identity
	member    membership
	trust     *trust.Set
	verified  verified
	vault     *secrets.Vault
	conn      net.PacketConn // until Run closes it
	store     *store.Store
	tables    map[string]*table.Replica
	link      *transport.Transport
	gossip    *gossip.Gossip
	images    *images
	loop      *loop
	events    *eventLog
	drivers   []driver.Driver
	runner    *runner.Runner
	mover     *artifact.Mover
	volumes   *volume.Dir
	disks     *disks
	gpus      []placement.Device // of this machine; set before the core is fed
	router    *invoke.Router
	registry  *registry.Registry
	engines   *engines // nil when no engine of this machine is used
	upstreams *upstreams
	pushes    *registryCounts
	server    *api.Server
	metrics   *prometheus.Registry

	// Made by Run, before the loop starts.
	ctx       context.Context
	work      sync.WaitGroup
	outboxes  *outboxes
	publisher *publisher
	started   chan struct{}
	panics    atomic.Int64 // that the core contained

	clock      *clock
	since      time.Time
	joining    sync.Mutex    // held while a newcomer is let in
	trustMoved chan struct{} // has one when the table of trust changed
	refresher  *refresher
	settled    settledSince
	told       map[recordKey][]table.Dot // what the core knows of each key; only the loop's goroutine
	usage      usage
	rulers     *rulers
	facts      ownFacts
	full       string          // why this peer takes no new work; only feed
	diskTold   placement.Bytes // that are free, as far as the mesh was told; only feed
	hostsTold  hostsTold       // of hosts beside this machine; only feed
	execs      chan struct{}   // one for each command that is run beside work here

	mu       sync.Mutex // guards what follows
	answers  map[uint64]chan placement.Result
	forcing  map[uint64]chan placement.Forced
	ticket   uint64
	here     map[invoke.Target][]string  // instances that run at this peer, by the driver's id
	heard    map[string]lastHeard        // what each peer answered last
	probed   map[string]facts            // what each peer said of its drivers last
	rtts     map[string]time.Duration    // as the core was last told
	fetching map[placement.Artifact]bool // artifacts that are under way
	dropping map[placement.VolumeID]bool // volumes that are being deleted
}

// New opens what a peer needs and wires it together; it starts nothing. When
// the peer is in no mesh yet it is let in first, with Config.Token, for which ctx
// says how long it may take.
func New(ctx context.Context, cfg Config, deps Deps) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg.withDefaults(), deps: deps, log: deps.Log, started: make(chan struct{}),
		answers: map[uint64]chan placement.Result{}, forcing: map[uint64]chan placement.Forced{}, here: map[invoke.Target][]string{}, heard: map[string]lastHeard{},
		probed: map[string]facts{}, execs: make(chan struct{}, execsMax),
		rtts: map[string]time.Duration{}, fetching: map[placement.Artifact]bool{}, dropping: map[placement.VolumeID]bool{}, told: map[recordKey][]table.Dot{},
		trustMoved: make(chan struct{}, 1), metrics: prometheus.NewRegistry(), since: time.Now(), clock: machineClock(),
	}
	if n.log == nil {
		n.log = slog.New(slog.DiscardHandler)
	}
	n.openUpstreams()
	for _, step := range []func() error{
		n.openIdentity, n.openConn, func() error { return n.enter(ctx) }, n.openStore, n.openTables, n.openDrivers, n.openCore,
		n.openTransport, n.openGossip, n.openRegistry, n.openEngines, n.openAPI,
	} {
		if err := step(); err != nil {
			return nil, errors.Join(err, n.close()) // a partial start is rolled back
		}
	}
	return n, nil
}

// close gives back what New took.
func (n *Node) close() error {
	var errs []error
	if n.server != nil {
		errs = append(errs, ignoreClosed(n.server.Close()))
	}
	if n.engines != nil {
		errs = append(errs, ignoreClosed(n.engines.listener.Close()))
	}
	if n.upstreams != nil && n.upstreams.registries != nil {
		n.upstreams.registries.Close()
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
	}
	if n.conn != nil && n.deps.Conn == nil {
		errs = append(errs, ignoreClosed(n.conn.Close()))
	}
	return errors.Join(errs...)
}

// ignoreClosed drops the error of closing twice: Run's parts close what is
// theirs.
func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (n *Node) openIdentity() (err error) {
	n.id, err = identityOf(n.cfg.DataDir)
	return err
}

func (n *Node) openConn() error {
	if n.conn = n.deps.Conn; n.conn != nil {
		return nil
	}
	addr, err := net.ResolveUDPAddr("udp", n.cfg.Listen)
	if err != nil {
		return fmt.Errorf("--listen %s: %w", n.cfg.Listen, err)
	}
	conn, err := net.ListenUDP("udp", addr)
	if err != nil {
		return fmt.Errorf("--listen %s: %w: is another daemon running? choose another port", n.cfg.Listen, err)
	}
	n.conn = conn
	if n.cfg.Advertise == "" {
		n.cfg.Advertise, err = advertised(conn.LocalAddr().(*net.UDPAddr))
	}
	return err
}

// advertised is the address that others dial: the one that is listened on or,
// where that is every address, the first of this machine that is not
// loopback.
func advertised(listen *net.UDPAddr) (string, error) {
	ip := listen.IP
	if ip == nil || ip.IsUnspecified() {
		ip = net.IPv4(127, 0, 0, 1)
		addrs, err := net.InterfaceAddrs()
		if err != nil {
			return "", fmt.Errorf("--advertise: %w", err)
		}
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && n.IP.IsGlobalUnicast() {
				ip = n.IP
				break
			}
		}
	}
	return (&net.UDPAddr{IP: ip, Port: listen.Port}).String(), nil
}

func (n *Node) openDrivers() (err error) {
	n.drivers, err = n.makeDrivers(func(e driver.Event) { n.runner.Exited(e) })
	if err != nil {
		return err
	}
	n.mover = n.newMover()
	n.volumes = volume.New(filepath.Join(n.cfg.DataDir, volumesDir))
	n.disks = newDisks(filepath.Join(n.cfg.DataDir, disksDir), n.store.Blobs(), n.roomForDisks)
	n.runner = runner.New(runner.Config{
		Drivers:  n.drivers,
		Path:     n.artifactPath,
		Disk:     n.disks.path,
		HasImage: func(digest string) bool { return n.images.trees.Whole(digest, ownArch) },
		Report:   n.workChanged,
		Fenced:   n.workFenced,
		Volumes:  n.volumeFolders,
		Mono:     n.clock.mono,
		Env: map[string]string{
			"HANSA_MESH": n.member.Mesh, "HANSA_SITE": n.member.Site, "HANSA_PEER": n.member.Name,
		},
		Labels:         placement.Labels,
		Secret:         n.vault.Get,
		SecretsChanged: n.vault.Changed,
		Credentials:    n.engineCredentials,
		Permit: func(ctx context.Context, spec placement.WorkSpec) error {
			return n.permitted(ctx, spec.Key.Namespace, spec.Spec, ownArch)
		},
		Address: n.cfg.WorkAddress,
		Log:     n.log.With("part", "runner"),
	})
	n.router = invoke.New(invoke.Config{
		Local: n.localInstances, Call: n.callInstance, Elsewhere: n.peersRunning,
		Open: func(ctx context.Context, peer string) (invoke.Stream, error) {
			return n.link.Open(ctx, peer, invoke.Kind)
		},
	})
	return nil
}

// artifactPath is where an artifact lies, verified; false when it is not here.
func (n *Node) artifactPath(digest string) (string, bool) {
	path, err := n.store.Blobs().Verified(digest)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		n.log.Error("an artifact can't be read from the disk; it is fetched again when it was dropped", "digest", digest, "err", err)
	}
	return path, err == nil
}

// self is this peer in this life of its store.
func (n *Node) self() placement.PeerRef {
	return placement.PeerRef{Peer: placement.PeerID(n.id.ID()), Incarnation: placement.Incarnation(n.store.Incarnation())}
}

func (n *Node) openCore() error {
	var seed [8]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	core := placement.New(placement.Config{
		Self: n.self(), Name: n.member.Name, Site: placement.SiteID(n.member.Site), Labels: n.labels(),
		Lat: n.cfg.Lat, Lon: n.cfg.Lon, Price: n.cfg.Price, Version: n.deps.Version,
		Seed: binary.LittleEndian.Uint64(seed[:]),
		Sign: n.signRecord, Verify: n.verifyRecord,
		Has: n.holds,
		RTT: n.rttBetween, Panicked: n.corePanicked,
	})
	n.publisher = newPublisher(&n.work, n.tables, n.self(), n.recordChanged, n.log.With("part", "tables"))
	if err := n.loadCore(core); err != nil {
		return err
	}
	n.events = newEventLog()
	n.tellQuarantine()
	n.loop = newLoop(core, n.clock, n.carry, n.stepTaken)
	n.vault.TellSites() // before the core plans anything
	n.images.holdings.Tell()
	if n.deps.Trace != nil {
		n.loop.trace = n.traceStep
	}
	for _, name := range coreTables {
		n.tables[name].OnChange(func(keys []string) {
			for _, key := range keys {
				n.recordChanged(recordKey{name, strings.Clone(key)})
			}
		})
	}
	return nil
}

// labels of this peer, its own over those of its site.
func (n *Node) labels() map[string]string {
	labels := map[string]string{
		"site": n.member.Site, "region": n.member.Site, "peer": n.member.Name,
		"os": runtime.GOOS, "arch": runtime.GOARCH,
	}
	for k, v := range n.cfg.Labels {
		labels[k] = v
	}
	return labels
}

// Run runs the peer until ctx ends, and returns when nothing of it runs any
// more, except for work whose runtime outlives the daemon.
func (n *Node) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, n.close()) }()
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	n.ctx = runCtx
	n.outboxes = newOutboxes(runCtx, &n.work, n.sendBatch, func(to placement.PeerID, body []byte) {
		n.loop.post(placement.Undelivered{To: to, Body: body})
	})
	n.publisher.ctx = runCtx
	n.refresher = newRefresher(n.refreshDigest, func(peer string) bool { return n.ctx.Err() == nil && n.isAlive(peer) })

	failed := make(chan error, 8)
	part := func(name string, run func(context.Context) error) {
		n.work.Go(func() {
			if err := run(runCtx); err != nil && runCtx.Err() == nil {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	part("store", n.store.Run)
	part("transport", n.link.Run)
	part("gossip", n.gossip.Run)
	part("runner", n.runner.Run)
	part("core", func(ctx context.Context) error { n.loop.run(ctx); return nil })
	part("trust", n.keepTrust)
	part("secrets", n.vault.Run)
	part("feed", n.feed)
	part("digests", n.refresher.run)
	part("settled", n.watchSettled)
	part("usage", n.watchUsage)
	part("holdings", n.images.holdings.Run)
	part("sweeps", n.keepSwept)
	part("checks", n.keepChecked)
	if n.engines != nil {
		part("engines", n.engines.run)
	}
	if n.server != nil {
		part("api", n.server.Run)
	}
	close(n.started)
	n.log.Info("this peer runs", "peer", n.id.ID(), "name", n.member.Name, "site", n.member.Site,
		"mesh", n.member.Mesh, "peers_at", n.cfg.Advertise, "api", n.cfg.API)

	select {
	case err = <-failed:
		n.log.Error("a part of this peer failed; it stops", "err", err)
	case <-ctx.Done():
		n.log.Info("this peer stops", "peer", n.id.ID(), "name", n.member.Name)
	}
	if !errors.Is(context.Cause(ctx), ErrKilled) {
		n.goodbye()
	}
	cancel()
	n.work.Wait()
	return err
}

// goodbye tells the others that this peer goes, so that they need not find
// out.
func (n *Node) goodbye() {
	ctx, cancel := context.WithTimeout(n.ctx, leaveMax)
	defer cancel()
	if err := n.gossip.Leave(ctx, n.cfg.BackWithin); err != nil {
		n.log.Warn("the others were not told that this peer stops", "err", err)
	}
}

// leaveMax is how long the goodbye may take.
const leaveMax = 3 * time.Second

// Started is closed when Run has started everything.
func (n *Node) Started() <-chan struct{} { return n.started }

// ID is the peer's id.
func (n *Node) ID() string { return n.id.ID() }
