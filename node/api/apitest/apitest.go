package apitest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
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
	// NotReady is what Ready answers.
	NotReady error

	mu        sync.Mutex // guards what is below
	changed   chan struct{}
	artifacts map[string][]byte
	apps      map[placement.AppKey]*app
	keys      map[string]api.PutResult // by idempotency key
	events    []api.Event
	edits     uint32
	forgotten map[string]bool
	seen      []http.Header // of invocations
}

type app struct {
	spec    placement.App
	version placement.Version
	uid     string
	created time.Time
	updated time.Time
	logs    map[int][]string
}

// New is an empty backend of three peers.
func New() *Backend {
	return &Backend{
		changed: make(chan struct{}), artifacts: map[string][]byte{}, apps: map[placement.AppKey]*app{},
		keys: map[string]api.PutResult{}, forgotten: map[string]bool{},
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
	return api.Mesh{Self: refs[0], Root: "SHA256:root", Version: "test", Settled: true, AsOf: b.now(),
		Counts: api.Counts{Peers: map[string]int{"alive": len(refs)}, Sites: len(refs), Hosts: len(refs), Apps: len(b.apps)}}, nil
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
			Drivers: []api.HostDriver{{Name: "wasm", Available: true}, {Name: "docker", Reason: "no socket at /var/run/docker.sock"}}})
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

func etag(v placement.Version) string { return v.String() }

// PutApp stores an app.
func (b *Backend) PutApp(_ context.Context, req api.PutRequest) (api.PutResult, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if r, ok := b.keys[req.IdempotencyKey]; ok && req.IdempotencyKey != "" {
		r.Unchanged = true
		return r, nil
	}
	copies := len(refs)
	if b.Short {
		copies = 1
	}
	if req.MinCopies > copies {
		return api.PutResult{}, fmt.Errorf("%w: %d of %d can hold it", placement.ErrTooFew, copies, req.MinCopies)
	}
	var missing []string
	for _, d := range req.App.Artifacts() {
		if _, ok := b.artifacts[d]; !ok {
			missing = append(missing, d)
		}
	}
	if len(missing) > 0 {
		return api.PutResult{}, &api.MissingArtifacts{Digests: missing}
	}
	key := req.App.Key()
	have := b.apps[key]
	if err := checkMatch(have, key, req.IfMatch, req.IfNoneMatch); err != nil {
		return api.PutResult{}, err
	}
	b.edits++
	created := have == nil
	if created {
		have = &app{uid: "uid-" + key.App, created: b.now(), logs: map[int][]string{}}
		b.apps[key] = have
	}
	have.spec, have.updated = req.App, b.now()
	have.version = placement.Version{Millis: 1, Logical: b.edits, Peer: placement.PeerID(refs[0].ID)}
	b.tell(api.Event{Type: "deployed", Namespace: key.Namespace, App: key.App, PeerName: refs[0].Name, Peer: refs[0].ID, Message: "accepted"})
	r := api.PutResult{Namespace: key.Namespace, App: key.App, UID: have.uid, Revision: have.version.String(), ETag: etag(have.version),
		Created: created, Durability: api.Durability{Copies: copies, Keepers: len(refs), Quorum: copies > len(refs)/2, Peers: refs[:copies]}}
	if req.IdempotencyKey != "" {
		b.keys[req.IdempotencyKey] = r
	}
	return r, nil
}

func checkMatch(have *app, key placement.AppKey, ifMatch string, none bool) error {
	switch {
	case none && have != nil:
		return fmt.Errorf("%w: app %s is there already", placement.ErrConflict, key)
	case ifMatch != "" && have == nil:
		return fmt.Errorf("%w: there is no app %s", placement.ErrConflict, key)
	case ifMatch != "" && ifMatch != "*" && ifMatch != etag(have.version):
		return fmt.Errorf("%w: app %s is at %s now", placement.ErrConflict, key, etag(have.version))
	}
	return nil
}

// lookup finds an app; b.mu is held.
func (b *Backend) lookup(key placement.AppKey) (*app, error) {
	if a, ok := b.apps[key]; ok {
		return a, nil
	}
	return nil, fmt.Errorf("%w: there is no app %s: hansa apps lists those that are", placement.ErrNotFound, key)
}

func (b *Backend) row(a *app) api.App {
	row := api.App{Namespace: a.spec.Key().Namespace, App: a.spec.Name, UID: a.uid, State: "running", Revision: a.version.String(),
		ETag: etag(a.version), Steward: refs[0], Created: a.created, Updated: a.updated, AsOf: b.now(), Components: []api.ComponentCount{}}
	for _, name := range a.spec.ComponentNames() {
		c := a.spec.Components[name]
		row.Wanted += c.Wanted()
		row.Running += c.Wanted()
		row.Components = append(row.Components, api.ComponentCount{Name: name, Kind: c.Kind(), Wanted: c.Wanted(), Running: c.Wanted()})
	}
	return row
}

// GetApp is an app.
func (b *Backend) GetApp(_ context.Context, key placement.AppKey) (api.AppDetail, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, err := b.lookup(key)
	if err != nil {
		return api.AppDetail{}, err
	}
	return api.AppDetail{App: b.row(a), Spec: a.spec, Keepers: refs, Epoch: 1, Term: 1}, nil
}

// DeleteApp removes an app.
func (b *Backend) DeleteApp(_ context.Context, key placement.AppKey, ifMatch string) (api.DeleteResult, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, err := b.lookup(key)
	if err != nil {
		return api.DeleteResult{}, err
	}
	if err := checkMatch(a, key, ifMatch, false); err != nil {
		return api.DeleteResult{}, err
	}
	delete(b.apps, key)
	b.tell(api.Event{Type: "removed", Namespace: key.Namespace, App: key.App, Message: "removed"})
	return api.DeleteResult{Namespace: key.Namespace, App: key.App, UID: a.uid, Revision: a.version.String(),
		Durability: api.Durability{Copies: len(refs), Keepers: len(refs), Quorum: true, Peers: refs}}, nil
}

// ListApps are the apps.
func (b *Backend) ListApps(_ context.Context, q api.AppQuery) (api.Listing[api.App], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var rows []api.App
	for key, a := range b.apps {
		if q.Namespace == "" || q.Namespace == key.Namespace {
			rows = append(rows, b.row(a))
		}
	}
	return api.NewListing(rows, api.AppKey, q.Page, b.asOf()), nil
}

// slots are "0-2", or "" for none.
func slots(n int) string {
	switch n {
	case 0:
		return ""
	case 1:
		return "0"
	}
	return "0-" + strconv.Itoa(n-1)
}

func decision(name string, c placement.Component) api.Decision {
	d := api.Decision{Component: name, Slots: slots(c.Wanted()), Reason: "missing", Outcome: "all placed", By: refs[0], Term: 1}
	for i, r := range refs {
		taken := len(places(c, i))
		d.Considered = append(d.Considered, api.Considered{Peer: r, AgeMillis: int64(i) * 1000, Score: 10 - float64(i), Fits: 14, Taken: taken, Reason: "room"})
	}
	return d
}

// places are the slots of c at peer i: dealt round.
func places(c placement.Component, peer int) []int {
	var at []int
	for slot := range c.Wanted() {
		if slot%len(refs) == peer {
			at = append(at, slot)
		}
	}
	return at
}

// Plan deals the slots round.
func (b *Backend) Plan(_ context.Context, spec placement.App) (api.Plan, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := api.Plan{Namespace: spec.Key().Namespace, App: spec.Name, Change: "create", Complete: true, AsOf: b.now()}
	if b.apps[spec.Key()] != nil {
		p.Change = "update"
	}
	for _, name := range spec.ComponentNames() {
		c := spec.Components[name]
		placed := min(c.Wanted(), 100)
		p.Complete = p.Complete && placed == c.Wanted()
		d := decision(name, c)
		d.At, d.By, d.Term = time.Time{}, api.PeerRef{}, 0
		p.Components = append(p.Components, api.PlanComponent{Name: name, Kind: c.Kind(), Driver: c.Driver(), Wanted: c.Wanted(), Placed: placed, Decision: d})
	}
	return p, nil
}

// Status says that all runs; the third peer's part is old.
func (b *Backend) Status(_ context.Context, key placement.AppKey) (api.Status, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, err := b.lookup(key)
	if err != nil {
		return api.Status{}, err
	}
	s := api.Status{Namespace: key.Namespace, App: key.App, UID: a.uid, State: "running", Revision: a.version.String(), ETag: etag(a.version),
		Keepers: refs, Steward: refs[0], Term: 1, AsOf: b.now()}
	for _, name := range a.spec.ComponentNames() {
		c := a.spec.Components[name]
		cs := api.ComponentStatus{Name: name, Kind: c.Kind(), Driver: c.Driver(), Wanted: c.Wanted(), Running: c.Wanted(), States: map[string]int{"running": c.Wanted()}}
		for i, r := range refs {
			if n := len(places(c, i)); n > 0 {
				cs.Places = append(cs.Places, api.PlaceStatus{Peer: r, States: map[string]int{"running": n}, Stale: i == 2, AsOf: b.now().Add(-time.Duration(i) * time.Minute)})
			}
		}
		if b.Crashing[key.App] != "" {
			s.State, s.Open = "deploying", []string{name + " does not run yet"}
			cs.Running, cs.States, cs.Places = 0, map[string]int{"pending": c.Wanted()}, nil
		}
		s.Components = append(s.Components, cs)
	}
	return s, nil
}

// Explain is one decision for each component.
func (b *Backend) Explain(_ context.Context, key placement.AppKey, component string) (api.Listing[api.Decision], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, err := b.lookup(key)
	if err != nil {
		return api.Listing[api.Decision]{}, err
	}
	l := api.Listing[api.Decision]{AsOf: b.asOf()}
	for _, name := range a.spec.ComponentNames() {
		if component == "" || component == name {
			d := decision(name, a.spec.Components[name])
			d.At = a.updated
			l.Items = append(l.Items, d)
		}
	}
	return l, nil
}

// Conflicts are none.
func (b *Backend) Conflicts(context.Context, api.Page) (api.Listing[api.Conflict], error) {
	return api.Listing[api.Conflict]{AsOf: b.asOf()}, nil
}

// all is every allocation; b.mu is held.
func (b *Backend) all() []api.Allocation {
	var all []api.Allocation
	for key, a := range b.apps {
		for name, c := range a.spec.Components {
			for i, r := range refs {
				for _, slot := range places(c, i) {
					all = append(all, api.Allocation{
						ID:        allocationID(key, name, r, slot),
						Namespace: key.Namespace, App: key.App, Component: name, Slot: slot, Site: r.Site, Peer: r.ID, PeerName: r.Name, Host: r.Name,
						Kind: c.Kind(), Driver: c.Driver(), State: "running", Since: a.updated, Ports: map[string]string{}, Revision: a.version.String(),
						UID: a.uid, Stale: i == 2, AsOf: b.now().Add(-time.Duration(i) * time.Minute)})
					if why := b.Crashing[key.App]; why != "" {
						all[len(all)-1].State, all[len(all)-1].Reason = "pending", why
					}
				}
			}
		}
	}
	return all
}

func allocationID(key placement.AppKey, component string, r api.PeerRef, slot int) string {
	sum := sha256.Sum256([]byte(key.String() + "/" + component))
	id := placement.AllocationID{Slot: placement.Slot(slot), Claim: placement.ClaimID{
		Ask:   placement.AskID{Asker: placement.PeerID(hex.EncodeToString(sum[:8])), Incarnation: 1, Counter: 1},
		Owner: placement.PeerRef{Peer: placement.PeerID(r.ID), Incarnation: 1}}}
	return id.String()
}

// Allocations are those that q selects.
func (b *Backend) Allocations(_ context.Context, q api.AllocationQuery) (api.Listing[api.Allocation], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := slices.DeleteFunc(b.all(), func(a api.Allocation) bool { return !q.Matches(a) })
	return api.NewListing(found, api.AllocationKey, q.Page, b.asOf()), nil
}

// Allocation is one.
func (b *Backend) Allocation(_ context.Context, id string) (api.Allocation, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, a := range b.all() {
		if a.ID == id {
			return a, nil
		}
	}
	return api.Allocation{}, fmt.Errorf("%w: there is no allocation %s", placement.ErrNotFound, id)
}

// Log adds a line, as "TIME STREAM TAG TEXT", to a slot's log.
func (b *Backend) Log(key placement.AppKey, slot int, line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	a, err := b.lookup(key)
	if err != nil {
		panic(err)
	}
	a.logs[slot] = append(a.logs[slot], line)
	close(b.changed)
	b.changed = make(chan struct{})
}

// Logs reads a slot's lines; following ends with ctx alone.
func (b *Backend) Logs(ctx context.Context, id string, o api.LogOptions) (io.ReadCloser, error) {
	a, err := b.Allocation(ctx, id)
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	key := placement.AppKey{Namespace: a.Namespace, App: a.App}
	lines, changed := b.lines(key, a.Slot)
	next := 0
	if o.Tail > 0 {
		next = max(0, len(lines)-o.Tail)
	}
	go func() {
		for {
			for ; next < len(lines); next++ {
				if at := api.ParseLogLine(lines[next]).Time; !at.IsZero() && at.Before(o.Since) {
					continue
				}
				if _, err := io.WriteString(w, lines[next]+"\n"); err != nil {
					return
				}
			}
			if !o.Follow {
				_ = w.Close()
				return
			}
			select {
			case <-ctx.Done():
				_ = w.CloseWithError(ctx.Err())
				return
			case <-changed:
			}
			lines, changed = b.lines(key, a.Slot)
		}
	}()
	return r, nil
}

func (b *Backend) lines(key placement.AppKey, slot int) ([]string, <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if a := b.apps[key]; a != nil {
		return slices.Clone(a.logs[slot]), b.changed
	}
	return nil, b.changed
}

// Invocations are the headers that functions saw.
func (b *Backend) Invocations() []http.Header {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.seen)
}

// Invoke echoes the request as JSON; the path /fail answers 500, and /panic
// panics.
func (b *Backend) Invoke(w http.ResponseWriter, r *http.Request, key placement.AppKey, component, path string) {
	b.mu.Lock()
	a, err := b.lookup(key)
	b.seen = append(b.seen, r.Header.Clone())
	b.mu.Unlock()
	if err == nil && a.spec.Components[component].Function == nil {
		err = fmt.Errorf("%w: %s has no function %s", placement.ErrNotFound, key, component)
	}
	if err != nil {
		api.WriteProblem(w, r, err)
		return
	}
	switch path {
	case "/panic":
		panic("the function's backend panics")
	case "/fail":
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		api.WriteProblem(w, r, err)
		return
	}
	w.Header().Set("Content-Security-Policy", "default-src *")
	w.Header().Set("Set-Cookie", "a=b")
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"method": r.Method, "path": path, "query": r.URL.RawQuery, "body": string(body)})
}

// HasArtifact says how large an artifact is.
func (b *Backend) HasArtifact(_ context.Context, digest string) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	data, ok := b.artifacts[digest]
	if !ok {
		return 0, fmt.Errorf("%w: artifact %s is not here", placement.ErrNotFound, digest)
	}
	return int64(len(data)), nil
}

// PutArtifact keeps an artifact.
func (b *Backend) PutArtifact(ctx context.Context, digest string, _ int64, r io.Reader) (bool, error) {
	if _, err := b.HasArtifact(ctx, digest); err == nil {
		return false, nil
	}
	data, err := io.ReadAll(r)
	if err != nil {
		return false, fmt.Errorf("put artifact %s: %w", digest, err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	used := int64(len(data))
	for _, other := range b.artifacts {
		used += int64(len(other))
	}
	if b.ArtifactSpace > 0 && used > b.ArtifactSpace {
		return false, fmt.Errorf("%w: artifact %s of %d bytes", placement.ErrFull, digest, len(data))
	}
	b.artifacts[digest] = data
	return true, nil
}

// Events are the past.
func (b *Backend) Events(_ context.Context, q api.EventQuery) (api.Listing[api.Event], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	found := b.after(q)
	l := api.Listing[api.Event]{Items: found, AsOf: b.asOf()}
	switch {
	case len(found) <= q.Limit:
	case q.Newest:
		l.Items = found[len(found)-q.Limit:]
	default:
		l.Items = found[:q.Limit]
		l.Next = l.Items[q.Limit-1].ID
	}
	return l, nil
}

// after are the events that q selects; b.mu is held.
func (b *Backend) after(q api.EventQuery) []api.Event {
	after, _ := strconv.Atoi(cmp.Or(q.After, "0"))
	var found []api.Event
	for i, e := range b.events {
		if i+1 > after && q.Matches(e) {
			found = append(found, e)
		}
	}
	return found
}

// Happen records an event.
func (b *Backend) Happen(e api.Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tell(e)
}

// WatchEvents sends what happens.
func (b *Backend) WatchEvents(ctx context.Context, q api.EventQuery, send func(api.Event) error) error {
	b.mu.Lock()
	if q.After == "" {
		q.After = strconv.Itoa(len(b.events))
	}
	b.mu.Unlock()
	for {
		b.mu.Lock()
		found, changed := b.after(q), b.changed
		b.mu.Unlock()
		for _, e := range found {
			if err := send(e); err != nil {
				return err
			}
			q.After = e.ID
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
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

// ArtifactDigests are the digests that are kept, sorted.
func (b *Backend) ArtifactDigests() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Sorted(maps.Keys(b.artifacts))
}
