package node

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport"
)

const (
	// methodDrivers asks a peer what its machine can run, and why not.
	methodDrivers = "query/drivers/1"
	// factsFresh is for how long what was found of this machine is told again.
	factsFresh = 2 * time.Second
	// driversMax bounds the drivers that are taken of another peer.
	driversMax = 16
	// factMax bounds, in bytes, each text that one says of them.
	factMax = 512
)

type driversQuery struct{}

type driversAnswer struct {
	Drivers []api.HostDriver `json:"drivers"`
}

// facts is what a peer said of its drivers last.
type facts struct {
	at      time.Time
	drivers []api.HostDriver
}

// ownFacts are those of this machine, looked at anew when they are old.
type ownFacts struct {
	mu sync.Mutex // guards what follows; held while drivers are asked
	facts
}

func (n *Node) serveDrivers() {
	transport.HandleTyped(n.link, methodDrivers, func(ctx context.Context, _ string, _ driversQuery) (driversAnswer, error) {
		return driversAnswer{n.ownDrivers(ctx).drivers}, nil
	})
}

// Hosts are the hosts of all peers. One that has several is asked for them; where
// it does not answer they are one row, as its digest has them together.
func (n backend) Hosts(ctx context.Context, page api.Page) (api.Listing[api.Host], error) {
	peers, asOf, err := n.peers(ctx)
	if err != nil {
		return api.Listing[api.Host]{}, err
	}
	known, many := n.allFacts(ctx), n.manyHosts(ctx, peers, page)
	var out []api.Host
	for _, p := range peers {
		if len(p.Arch) == 0 && !p.Self {
			continue // nothing is known of its machine yet
		}
		if hosts, ok := many[p.ID]; ok {
			out = append(out, hosts...)
			continue
		}
		h := api.Host{
			ID: p.Name, Peer: p.ID, PeerName: p.Name, Site: p.Site, State: "ready", Labels: p.Labels,
			Capacity: p.Capacity, Free: p.Free, GPUs: p.GPUs, Slots: p.Slots, AsOf: p.AsOf, Arch: runtime.GOARCH,
		}
		if len(p.Arch) > 0 {
			h.Arch = p.Arch[0]
		}
		if p.Full != "" {
			h.State, h.Reason = "full", p.Full
		}
		if p.State != string(placement.MemberAlive) {
			h.State, h.Reason = "unreachable", "its peer is "+p.State
		}
		h.Drivers = p.DriverFacts
		if f, ok := known[p.ID]; ok {
			h.Drivers, h.ProbedAt = f.drivers, f.at
		}
		out = append(out, h)
	}
	return api.NewListing(out, func(h api.Host) string { return h.ID }, page, asOf), nil
}

// digestDrivers is what a digest says of drivers: less than their peer does.
func digestDrivers(d placement.Digest) []api.HostDriver {
	var out []api.HostDriver
	for _, name := range d.Drivers {
		out = append(out, api.HostDriver{Name: name, Available: true, Fence: slices.Contains(d.Fences, name)})
	}
	for name, why := range d.Lacks {
		out = append(out, api.HostDriver{Name: name, Reason: why})
	}
	sortDrivers(out)
	return out
}

func sortDrivers(drivers []api.HostDriver) {
	slices.SortFunc(drivers, func(a, b api.HostDriver) int { return strings.Compare(a.Name, b.Name) })
}

// allFacts asks all peers in reach; of the others it has what they said last.
func (n *Node) allFacts(ctx context.Context) map[string]facts {
	answers := ask[driversQuery, driversAnswer](ctx, n, n.others(), methodDrivers, driversQuery{})
	own, now := n.ownDrivers(ctx), time.Now().UTC()
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range answers {
		if a.err == nil {
			n.probed[a.peer] = facts{now, boundedDrivers(a.answer.Drivers)}
		}
	}
	n.probed[n.id.ID()] = own
	known := make(map[string]facts, len(n.probed))
	for peer, f := range n.probed {
		known[peer] = f
	}
	return known
}

// boundedDrivers is what another peer says of its drivers, within bounds.
func boundedDrivers(drivers []api.HostDriver) []api.HostDriver {
	out := []api.HostDriver{}
	for _, d := range drivers[:min(len(drivers), driversMax)] {
		d.Name, d.Version, d.Reason = short(d.Name), short(d.Version), short(d.Reason)
		d.Kinds, d.Runtimes = d.Kinds[:min(len(d.Kinds), driversMax)], d.Runtimes[:min(len(d.Runtimes), driversMax)]
		if len(d.Limits) > driversMax {
			d.Limits = nil
		}
		for resource, l := range d.Limits {
			l.Detail = short(l.Detail)
			d.Limits[resource] = l
		}
		out = append(out, d)
	}
	return out
}

// short is the beginning of a text of another peer.
func short(text string) string {
	if len(text) <= factMax {
		return text
	}
	return strings.ToValidUTF8(text[:factMax], "") + "…"
}

// ownDrivers is what this machine can run, and why not.
func (n *Node) ownDrivers(ctx context.Context) facts {
	n.facts.mu.Lock()
	defer n.facts.mu.Unlock()
	if time.Since(n.facts.at) < factsFresh {
		return n.facts.facts
	}
	var out []api.HostDriver
	for _, d := range n.drivers {
		out = append(out, hostDriver(d.Name(), d.Probe(ctx)))
	}
	sortDrivers(out)
	n.facts.facts = facts{time.Now().UTC(), out}
	return n.facts.facts
}

// hostDriver is what a driver says of itself, for people.
func hostDriver(name string, info driver.Info) api.HostDriver {
	h := api.HostDriver{
		Name: name, Available: info.Available, Version: info.Version, Reason: info.Reason,
		Kinds: info.Kinds, Runtimes: info.Runtimes, Fence: info.Fence, Survives: info.Survives,
	}
	for resource, limit := range info.Limits {
		if h.Limits == nil {
			h.Limits = map[string]api.DriverLimit{}
		}
		h.Limits[resource] = api.DriverLimit{Enforced: limit.Enforced, Detail: limit.Detail}
	}
	return h
}
