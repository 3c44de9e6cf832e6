package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport"
)

const (
	// methodHosts asks a peer that has several hosts for some of them.
	methodHosts = "query/hosts/1"
	// hostsAnswerMax bounds the hosts of one answer.
	hostsAnswerMax = 1001
)

type hostsQuery struct {
	After string `json:"after"` // the id before the first that is wanted
	Limit int    `json:"limit"`
}

type hostsAnswer struct {
	Hosts []placement.HostView `json:"hosts"`
}

func (n *Node) serveHosts() {
	transport.HandleTyped(n.link, methodHosts, func(ctx context.Context, _ string, q hostsQuery) (hostsAnswer, error) {
		hosts, err := n.ownHosts(ctx, q)
		return hostsAnswer{hosts}, err
	})
}

// ownHosts are some of this peer's hosts, sorted by id.
func (n *Node) ownHosts(ctx context.Context, q hostsQuery) ([]placement.HostView, error) {
	var hosts []placement.HostView
	if err := n.loop.look(ctx, func(core *placement.Peer) { hosts = core.Hosts() }); err != nil {
		return nil, err
	}
	hosts = slices.DeleteFunc(hosts, func(h placement.HostView) bool { return h.Host.ID <= q.After })
	return hosts[:min(len(hosts), max(0, q.Limit), hostsAnswerMax)], nil
}

// hostsTold is what was told of the other hosts last.
type hostsTold struct {
	once     bool
	cordoned bool
	full     string
	offers   string // its architecture, drivers and fences, which the others have where they name none
}

// tellHosts tells the core of this machine, and of the other hosts as far as
// something about them is new. Hosts that only its ledger knows are gone.
func (n *Node) tellHosts(own placement.Host) {
	n.loop.post(placement.HostChanged{Host: own})
	now := hostsTold{true, own.Cordoned, own.Full, fmt.Sprint(own.Arch, own.Drivers, own.Fences)}
	if now == n.hostsTold {
		return
	}
	first := !n.hostsTold.once
	n.hostsTold = now
	for _, h := range n.deps.Hosts {
		if h.Arch == "" {
			h.Arch = own.Arch
		}
		if len(h.Drivers) == 0 {
			h.Drivers, h.Fences = own.Drivers, own.Fences
		}
		h.Cordoned = h.Cordoned || own.Cordoned
		if h.Full == "" {
			h.Full = own.Full
		}
		n.loop.post(placement.HostChanged{Host: h})
	}
	if !first {
		return
	}
	_ = n.loop.look(n.ctx, func(core *placement.Peer) {
		for _, h := range core.Hosts() {
			if !h.Known {
				n.log.Warn("a host that had work is no longer among those of this peer: its work goes elsewhere", "host", h.Host.ID)
				n.loop.post(placement.HostGone{ID: h.Host.ID})
			}
		}
	})
}

// manyHosts are the hosts of peers that have several: of each those after a key, as
// many as a page takes. Who does not answer is not among them.
func (n *Node) manyHosts(ctx context.Context, peers []api.Peer, page api.Page) map[string][]api.Host {
	q := hostsQuery{After: page.After, Limit: page.Limit + 1}
	if page.Limit <= 0 {
		q.Limit = hostsAnswerMax
	}
	byID := map[string]api.Peer{}
	var others []string
	for _, p := range peers {
		if p.Hosts <= 1 {
			continue
		}
		byID[p.ID] = p
		if !p.Self && p.State == string(placement.MemberAlive) {
			others = append(others, p.ID)
		}
	}
	out := map[string][]api.Host{}
	if len(byID) == 0 {
		return out
	}
	for _, a := range ask[hostsQuery, hostsAnswer](ctx, n, others, methodHosts, q) {
		if a.err == nil {
			out[a.peer] = hostRows(byID[a.peer], a.answer.Hosts)
		}
	}
	if p, ok := byID[n.id.ID()]; ok {
		if own, err := n.ownHosts(ctx, q); err == nil {
			out[p.ID] = hostRows(p, own)
		}
	}
	return out
}

// hostRows is what a peer says of its hosts, within bounds.
func hostRows(p api.Peer, hosts []placement.HostView) []api.Host {
	out := make([]api.Host, 0, len(hosts))
	now := time.Now().UTC()
	for _, v := range hosts[:min(len(hosts), hostsAnswerMax)] {
		h := api.Host{
			ID: short(v.Host.ID), Peer: p.ID, PeerName: p.Name, Site: p.Site, State: "ready", Arch: short(v.Host.Arch), Labels: p.Labels,
			Capacity: v.Host.Capacity, Free: v.Free, GPUs: v.GPUs[:min(len(v.GPUs), driver.DevicesMax)], Slots: v.Slots, AsOf: now, ProbedAt: now,
		}
		if len(v.Host.Labels) > 0 && len(v.Host.Labels) <= labelsMax {
			h.Labels = maps.Clone(p.Labels)
			maps.Copy(h.Labels, v.Host.Labels)
		}
		switch {
		case !v.Known:
			h.State, h.Reason = "unreachable", "its peer has not heard of it since its start"
		case v.Host.Cordoned:
			h.State, h.Reason = "cordoned", "it takes no new work"
		case v.Host.Full != "":
			h.State, h.Reason = "full", short(v.Host.Full)
		}
		for _, name := range v.Host.Drivers[:min(len(v.Host.Drivers), driversMax)] {
			h.Drivers = append(h.Drivers, api.HostDriver{Name: short(name), Available: true, Fence: slices.Contains(v.Host.Fences, name)})
		}
		sortDrivers(h.Drivers)
		out = append(out, h)
	}
	return out
}
