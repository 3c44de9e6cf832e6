package node

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/gossip"
	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/holdings"
	"github.com/hansa-mesh/hansa/node/secrets"
	"github.com/hansa-mesh/hansa/placement"
)

// backend answers people; it is the Node as the API sees it.
type backend struct{ *Node }

var _ api.Backend = backend{}

// Ready is nil when this peer takes new work.
func (n backend) Ready() error {
	select {
	case <-n.started:
	default:
		return fmt.Errorf("%w: this peer is starting", api.ErrUnavailable)
	}
	if err := n.outcast(); err != nil {
		return err
	}
	if err := n.store.Health(); err != nil {
		return fmt.Errorf("%w: %w", api.ErrUnavailable, err)
	}
	return n.turnedAway()
}

// memberOf is what gossip knows of a peer.
func (n *Node) memberOf(peer string) (gossip.Member, bool) {
	for _, m := range n.members() {
		if m.Peer == peer {
			return m, true
		}
	}
	return gossip.Member{}, false
}

// ref names a peer.
func (n *Node) ref(peer string) api.PeerRef {
	r := api.PeerRef{ID: peer}
	if a, ok := n.trust.Admission(peer); ok {
		r.Name, r.Site = a.Name, a.Site
	}
	return r
}

func (n *Node) refs(peers []placement.PeerID) []api.PeerRef {
	out := make([]api.PeerRef, len(peers))
	for i, p := range peers {
		out[i] = n.ref(string(p))
	}
	return out
}

// nameOf is a peer's name, or its id.
func (n *Node) nameOf(peer string) string {
	if r := n.ref(peer); r.Name != "" {
		return r.Name
	}
	return peer
}

// findPeer is the id of a peer that is named by id or by name.
func (n *Node) findPeer(name string) (string, error) {
	var found, out []string
	for _, a := range n.trust.Peers() {
		id := a.ID()
		switch {
		case id == name:
			return id, nil
		case a.Name == name && n.trust.Admitted(id) == nil:
			found = append(found, id)
		case a.Name == name:
			out = append(out, id)
		}
	}
	if len(found) == 0 { // one that was shut out, if no other has its name now
		found = out
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("peer %q: %w: 'hansa peers' lists them", name, placement.ErrNotFound)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("peer %q: %w: %d keys have that name: use one of %s", name, placement.ErrInvalid, len(found), strings.Join(found, ", "))
}

// Mesh is the mesh as this peer sees it.
func (n backend) Mesh(ctx context.Context) (api.Mesh, error) {
	m := api.Mesh{
		Self: n.ref(n.id.ID()), Root: n.member.Mesh, Version: n.deps.Version, AsOf: time.Now().UTC(),
		Counts: api.Counts{Peers: map[string]int{}},
	}
	var apps []placement.AppView
	if err := n.loop.look(ctx, func(core *placement.Peer) {
		m.Open = core.Open()
		apps = core.Apps()
	}); err != nil {
		return m, err
	}
	digests, err := n.digests(ctx)
	if err != nil {
		return m, err
	}
	sites := map[string]bool{}
	for _, member := range n.members() {
		m.Counts.Peers[member.State.String()]++
		if member.State == gossip.StateAlive {
			m.Counts.Hosts += max(1, digests[placement.PeerID(member.Peer)].Digest.Hosts)
		}
		sites[member.Site] = true
		if member.Peer != n.id.ID() && member.State != gossip.StateAlive {
			m.Unheard = append(m.Unheard, api.Unheard{PeerRef: n.ref(member.Peer), State: member.State.String(), Since: member.Since.UTC()})
		}
	}
	m.Counts.Sites = len(sites)
	for _, a := range apps {
		m.Counts.Apps++
		if a.Conflict {
			m.Counts.Conflicts++
		}
		for _, c := range a.Components {
			m.Counts.Allocations += c.States[placement.AllocRunning]
		}
	}
	m.Open = n.allNamed(append(m.Open, n.gossipOpen()...))
	m.Since = n.settled.note(len(m.Open) == 0, m.AsOf)
	m.Settled = !m.Since.IsZero()
	return m, nil
}

// PeersReady is how many peers this one could place work at now, itself
// included: alive, and it is known what they have.
func (n *Node) PeersReady(ctx context.Context) int {
	digests, err := n.digests(ctx)
	if err != nil {
		return 0
	}
	ready := 0
	for _, m := range n.members() {
		d := digests[placement.PeerID(m.Peer)].Digest
		if m.State == gossip.StateAlive && len(d.Drivers) > 0 && d.Capacity.CPU > 0 {
			ready++
		}
	}
	return ready
}

// digests are the newest digests of all peers that the core has, by peer.
func (n *Node) digests(ctx context.Context) (map[placement.PeerID]placement.Candidate, error) {
	all := map[placement.PeerID]placement.Candidate{}
	err := n.loop.look(ctx, func(core *placement.Peer) {
		for _, c := range core.Candidates(n.loop.now()) {
			all[c.Digest.Peer.Peer] = c
		}
	})
	return all, err
}

// Peers are all peers that this one knows of.
func (n backend) Peers(ctx context.Context, page api.Page) (api.Listing[api.Peer], error) {
	peers, asOf, err := n.peers(ctx)
	if err != nil {
		return api.Listing[api.Peer]{}, err
	}
	return api.NewListing(peers, func(p api.Peer) string { return p.ID }, page, asOf), nil
}

func (n *Node) peers(ctx context.Context) ([]api.Peer, map[string]time.Time, error) {
	digests, err := n.digests(ctx)
	if err != nil {
		return nil, nil, err
	}
	conflicts := n.doubts()
	now := time.Now().UTC()
	asOf := map[string]time.Time{}
	seen := map[string]bool{}
	var out []api.Peer
	for _, m := range n.members() {
		seen[m.Peer] = true
		p := api.Peer{
			ID: m.Peer, Name: m.Name, Site: m.Site, Self: m.Peer == n.id.ID(), State: m.State.String(), Since: m.Since.UTC(),
			Address: m.Addr, Version: m.Version, Note: conflicts[m.Peer], AsOf: now,
		}
		if rtt, _, ok := n.gossip.RTT(n.id.ID(), m.Peer); ok && !p.Self {
			ms := float64(rtt.Microseconds()) / 1000
			p.RTTMillis = &ms
		}
		if c, ok := digests[placement.PeerID(m.Peer)]; ok {
			fromDigest(&p, c, now)
		}
		if left := m.BackWithin - time.Since(m.Since); m.State == gossip.StateLeft && left > 0 {
			p.Note = fmt.Sprintf("back within %v, it said: its work is left where it is", left.Round(time.Second))
		}
		if err := n.trust.Admitted(m.Peer); err != nil {
			p.State, p.Note = "forgotten", n.named(err.Error())
		}
		asOf[p.ID] = p.AsOf
		out = append(out, p)
	}
	for _, a := range n.trust.Peers() {
		if id := a.ID(); !seen[id] {
			p := api.Peer{ID: id, Name: a.Name, Site: a.Site, State: "unknown", Note: conflicts[id]}
			if err := n.trust.Admitted(id); err != nil {
				p.State, p.Note = "forgotten", n.named(err.Error())
			}
			out = append(out, p)
		}
	}
	return out, asOf, nil
}

func fromDigest(p *api.Peer, c placement.Candidate, now time.Time) {
	d := c.Digest
	p.Incarnation, p.Labels, p.Drivers, p.Arch = uint64(d.Peer.Incarnation), d.Labels, d.Drivers, d.Arch
	p.DriverFacts = digestDrivers(d)
	p.GPUs, p.Hosts = d.GPUs, d.Hosts
	p.Capacity, p.Free, p.Slots, p.Price, p.Full = d.Capacity, d.Free, d.Slots, d.Price, d.Full
	if d.Lat != 0 || d.Lon != 0 {
		p.Position = &api.Position{Lat: d.Lat, Lon: d.Lon}
	}
	if !p.Self {
		p.AsOf = now.Add(-time.Duration(c.Age) * time.Millisecond)
	}
}

// Sites are the sites of all peers.
func (n backend) Sites(ctx context.Context, page api.Page) (api.Listing[api.Site], error) {
	peers, asOf, err := n.peers(ctx)
	if err != nil {
		return api.Listing[api.Site]{}, err
	}
	bySite := map[string]*api.Site{}
	for _, p := range peers {
		if p.State == "forgotten" {
			continue
		}
		s := bySite[p.Site]
		if s == nil {
			s = &api.Site{Name: p.Site, AsOf: p.AsOf}
			bySite[p.Site] = s
		}
		s.Peers++
		s.Hosts += max(1, p.Hosts)
		if p.State == string(placement.MemberAlive) {
			s.PeersAlive++
		}
		s.Capacity, s.Free, s.Slots = s.Capacity.Add(p.Capacity), s.Free.Add(p.Free), s.Slots+p.Slots
		if s.Position == nil {
			s.Position = p.Position
		}
		if p.RTTMillis != nil && (s.RTTMillis == nil || *p.RTTMillis < *s.RTTMillis) {
			s.RTTMillis = p.RTTMillis
		}
		if p.AsOf.Before(s.AsOf) {
			s.AsOf = p.AsOf
		}
	}
	var out []api.Site
	for _, s := range bySite {
		switch {
		case s.PeersAlive == s.Peers:
			s.State = "up"
		case s.PeersAlive > 0:
			s.State = "degraded"
		default:
			s.State = "unreachable"
		}
		out = append(out, *s)
	}
	return api.NewListing(out, func(s api.Site) string { return s.Name }, page, asOf), nil
}

// DebugState writes what this peer is doing.
func (n backend) DebugState(w io.Writer) error {
	ctx, cancel := context.WithTimeout(context.Background(), queryMax)
	defer cancel()
	fmt.Fprintf(w, "peer %s name %s site %s mesh %s incarnation %d\n", n.id.ID(), n.member.Name, n.member.Site, n.member.Mesh, n.store.Incarnation())
	fmt.Fprintf(w, "\nstore %+v\noutbox waiting %d\nartifacts %+v\ncalls %+v\n", n.store.Stats(), n.outboxes.waiting(), n.mover.Moved(), n.router.Counts())
	fmt.Fprintf(w, "\nconnections\n")
	for _, c := range n.link.Peers() {
		fmt.Fprintf(w, "  %+v\n", c)
	}
	fmt.Fprintf(w, "\nmembers\n")
	for _, m := range n.members() {
		fmt.Fprintf(w, "  %s %s %s %s since %s\n", m.Peer, m.Name, m.Site, m.State, m.Since.UTC().Format(time.RFC3339))
	}
	fmt.Fprintf(w, "\ntables\n")
	for _, name := range append(slices.Clone(coreTables), tableTrust, secrets.Table, holdings.Table) {
		fmt.Fprintf(w, "  %s %x %+v\n", name, n.tables[name].Hash(), n.tables[name].Counts())
	}
	fmt.Fprintf(w, "\nsecrets\n")
	if err := n.vault.Describe(w); err != nil {
		return err
	}
	fmt.Fprintf(w, "\ncore\n")
	return n.loop.look(ctx, func(core *placement.Peer) { core.Dump(w) })
}
