package apitest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// Backend keeps everything in memory.
type Backend struct {
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// ArtifactSpace is how many bytes of artifacts fit; 0 is no limit.
	ArtifactSpace int64
	// Short makes every PUT end below a majority of the keepers.
	Short bool
	// Crashing are apps of which nothing runs, and why.
	Crashing map[string]string
	// Torn are apps of which a second PUT stands beside the first.
	Torn map[string]bool
	// NotReady is what Ready answers.
	NotReady error

	mu         sync.Mutex // guards what is below
	changed    chan struct{}
	artifacts  map[string][]byte
	apps       map[placement.AppKey]*app
	keys       map[string]api.PutResult // by idempotency key
	events     []api.Event
	edits      uint32
	forgotten  map[string]bool
	secrets    map[string]*secrets // by namespace
	policies   map[string][]placement.SignatureRule
	policySets map[string]int
	restarts   map[string]int // by allocation
	seen       []http.Header  // of invocations
	images     []api.Image
}

type app struct {
	spec    placement.App
	version placement.Version
	uid     string
	created time.Time
	updated time.Time
	other   *app // stands beside it
	logs    map[int][]string
	replace int            // how often its allocations were replaced by others
	past    []api.Revision // oldest first
}

// New is an empty backend of three peers.
func New() *Backend {
	return &Backend{
		changed: make(chan struct{}), artifacts: map[string][]byte{}, apps: map[placement.AppKey]*app{},
		keys: map[string]api.PutResult{}, forgotten: map[string]bool{}, restarts: map[string]int{},
	}
}

// refs are the peers, each at a site of its own.
var refs = []api.PeerRef{
	{ID: "aaaaaaaaaaaaaaaaaaaaaaaaaa", Name: "fra-1", Site: "fra"},
	{ID: "bbbbbbbbbbbbbbbbbbbbbbbbbb", Name: "nyc-1", Site: "nyc"},
	{ID: "cccccccccccccccccccccccccc", Name: "syd-1", Site: "syd"},
}

var _ api.Backend = (*Backend)(nil)

func (b *Backend) now() time.Time {
	if b.Now != nil {
		return b.Now().UTC()
	}
	return time.Now().UTC()
}

// tell wakes whoever waits for news; b.mu is held.
func (b *Backend) tell(e api.Event) {
	e.ID, e.At = strconv.Itoa(len(b.events)+1), b.now()
	b.events = append(b.events, e)
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *Backend) asOf() map[string]time.Time {
	m := map[string]time.Time{}
	for i, r := range refs {
		m[r.ID] = b.now().Add(-time.Duration(i) * time.Second)
	}
	return m
}

// Ready is NotReady.
func (b *Backend) Ready() error { return b.NotReady }

// Mesh is the mesh.
func (b *Backend) Mesh(context.Context) (api.Mesh, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return api.Mesh{Self: refs[0], Root: "SHA256:root", Version: "test", Settled: true, Since: b.now().Add(-90 * time.Second), AsOf: b.now(),
		Unheard: []api.Unheard{{PeerRef: refs[2], State: "dead", Since: b.now().Add(-time.Minute)}},
		Counts:  api.Counts{Peers: map[string]int{"alive": len(refs)}, Sites: len(refs), Hosts: len(refs), Apps: len(b.apps)}}, nil
}

// Peers are the peers.
func (b *Backend) Peers(_ context.Context, page api.Page) (api.Listing[api.Peer], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var peers []api.Peer
	for i, r := range refs {
		if b.forgotten[r.ID] {
			continue
		}
		p := api.Peer{ID: r.ID, Name: r.Name, Site: r.Site, Self: i == 0, State: "alive", Since: b.now().Add(-time.Hour), Version: "test",
			Address: r.Name + ":7600", Labels: map[string]string{"site": r.Site}, Drivers: []string{"process", "wasm"}, Arch: []string{"amd64"},
			Capacity: placement.Resources{CPU: 4000, Memory: 8 << 30}, Free: placement.Resources{CPU: 3500, Memory: 7 << 30},
			AsOf: b.now().Add(-time.Duration(i) * time.Second)}
		if i > 0 {
			ms := 40.5 * float64(i)
			p.RTTMillis = &ms
		}
		if i == 2 {
			p.State, p.Since = "dead", b.now().Add(-90*time.Second)
		}
		peers = append(peers, p)
	}
	return api.NewListing(peers, func(p api.Peer) string { return p.ID }, page, b.asOf()), nil
}

// Sites are the sites.
func (b *Backend) Sites(_ context.Context, page api.Page) (api.Listing[api.Site], error) {
	var sites []api.Site
	for i, r := range refs {
		s := api.Site{Name: r.Site, State: "up", Peers: 1, PeersAlive: 1, Hosts: 1, AsOf: b.now(),
			Capacity: placement.Resources{CPU: 4000, Memory: 8 << 30}, Free: placement.Resources{CPU: 3500, Memory: 7 << 30},
			Position: &api.Position{Lat: 50.5, Lon: float64(i)}}
		if i == 2 {
			s.State, s.PeersAlive = "unreachable", 0
		}
		sites = append(sites, s)
	}
	return api.NewListing(sites, func(s api.Site) string { return s.Name }, page, b.asOf()), nil
}

// Hosts are the hosts.
func (b *Backend) Hosts(_ context.Context, page api.Page) (api.Listing[api.Host], error) {
	var hosts []api.Host
	for _, r := range refs {
		hosts = append(hosts, api.Host{ID: r.Name, Peer: r.ID, PeerName: r.Name, Site: r.Site, State: "ready", Arch: "amd64", AsOf: b.now(),
			ProbedAt: b.now(),
			Drivers: []api.HostDriver{
				{Name: "docker", Reason: "no socket at /var/run/docker.sock"},
				{Name: "wasm", Available: true, Version: "1.12", Kinds: []string{"function"}, Limits: map[string]api.DriverLimit{
					"memory": {Enforced: true, Detail: "pages"}, "cpu": {Detail: "a function may use a core"}}},
			}})
	}
	return api.NewListing(hosts, func(h api.Host) string { return h.ID }, page, b.asOf()), nil
}

// DebugState writes how much there is.
func (b *Backend) DebugState(w io.Writer) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, err := fmt.Fprintf(w, "apps %d\nartifacts %d\n", len(b.apps), len(b.artifacts))
	return err
}

// Invite is a token that says what it is for.
func (b *Backend) Invite(_ context.Context, req api.InviteRequest) (api.Invite, error) {
	ttl := time.Duration(req.TTL)
	if ttl == 0 {
		ttl = time.Hour
	}
	return api.Invite{Token: "hansa-token-for-" + req.Name, Name: req.Name, Root: "SHA256:root", Address: []string{"fra-1:7600"}, Expires: b.now().Add(ttl)}, nil
}

// Forget removes a peer from the list.
func (b *Backend) Forget(_ context.Context, peer string, _ bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range refs {
		if r.ID == peer || r.Name == peer {
			b.forgotten[r.ID] = true
			return nil
		}
	}
	return fmt.Errorf("%w: there is no peer %s", placement.ErrNotFound, peer)
}

// ForceEpoch changes the keepers of every app.
func (b *Backend) ForceEpoch(_ context.Context, peer string) (api.ForceResult, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := api.ForceResult{Peer: api.PeerRef{ID: peer, Name: peer}, Forced: []api.AppName{}}
	for key := range b.apps {
		out.Forced = append(out.Forced, api.AppName{Namespace: key.Namespace, App: key.App})
	}
	slices.SortFunc(out.Forced, func(a, b api.AppName) int { return strings.Compare(a.String(), b.String()) })
	out.Refused = []api.AppRefusal{{AppName: api.AppName{Namespace: "default", App: "kept"}, Reason: "its keepers have a majority"}}
	return out, nil
}

// Backup is what a backup begins with.
func (b *Backend) Backup(_ context.Context, w io.Writer) error {
	_, err := io.WriteString(w, "hansa backup 1\n")
	return err
}
