package node

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/gossip"
	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport/trust"
)

const (
	// digestSoon is how long after anything moved the digest is looked at, and
	// digestEvery the least time between two looks.
	digestSoon  = 50 * time.Millisecond
	digestEvery = 200 * time.Millisecond
	// rttEvery is how often round-trip times are looked at.
	rttEvery = time.Second
	// probeEvery is how often drivers are asked what they can do.
	probeEvery = 30 * time.Second
	// listRetry is the first pause after a driver could not say what it runs,
	// listRetryMax the longest.
	listRetry    = 2 * time.Second
	listRetryMax = 15 * time.Second
	// digestMax bounds a digest of another peer.
	digestMax = 64 << 10
)

// feed tells the core what it cannot see: this machine, what already runs on
// it, the other peers and how far they are.
func (n *Node) feed(ctx context.Context) error {
	n.findGPUs(ctx)
	n.probe(ctx)
	n.findVolumes()
	for _, d := range n.drivers {
		n.work.Go(func() {
			n.listWork(ctx, d)
			n.keepCollected(ctx, d)
		})
	}
	for _, m := range n.gossip.Members() {
		n.memberChanged(m)
	}
	for _, a := range n.trust.Peers() {
		if errors.Is(n.trust.Admitted(a.ID()), trust.ErrRevoked) {
			n.loop.post(placement.MemberChanged{Peer: placement.PeerID(a.ID()), State: placement.MemberForgotten})
		}
	}
	keep := time.NewTicker(keepKnownEvery)
	defer keep.Stop()
	digest := time.NewTimer(digestEvery)
	defer digest.Stop()
	due, shown := true, time.Now()
	rtt := time.NewTicker(rttEvery)
	defer rtt.Stop()
	probe := time.NewTicker(probeEvery)
	defer probe.Stop()
	disk := time.NewTicker(diskEvery)
	defer disk.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-probe.C:
			n.probe(ctx)
		case <-keep.C:
			n.keepKnown()
		case <-n.loop.stirred:
			if !due {
				due = true
				digest.Reset(max(digestSoon, digestEvery-time.Since(shown)))
			}
		case <-digest.C:
			due, shown = false, time.Now()
			n.showDigest(ctx)
		case <-rtt.C:
			n.tellRTTs()
		case <-disk.C:
			n.lookAtDisk(ctx)
		}
	}
}

// probe tells the core what this machine can run.
func (n *Node) probe(ctx context.Context) {
	host := placement.Host{
		ID: n.member.Name, Labels: n.hostLabels(), GPUs: n.gpus, Arch: runtime.GOARCH,
		Capacity: machine(n.cfg.DataDir, n.cfg.Capacity), Cordoned: n.displaced(), Full: n.full,
	}
	if n.cfg.Capacity.Disk == 0 { // found: what the store keeps free is not to be had
		n.diskTold = steady(n.diskTold, max(0, host.Capacity.Disk-placement.Bytes(n.store.Stats().Floor)))
		host.Capacity.Disk = n.diskTold
	}
	for _, d := range n.drivers {
		info := d.Probe(ctx)
		if !info.Available {
			if host.Lacks == nil {
				host.Lacks = map[string]string{}
			}
			host.Lacks[d.Name()] = info.Reason
			continue
		}
		host.Drivers = append(host.Drivers, d.Name())
		if info.Fence {
			host.Fences = append(host.Fences, d.Name())
		}
	}
	slices.Sort(host.Drivers)
	slices.Sort(host.Fences)
	n.tellHosts(host)
}

// listWork asks a driver what it runs until it answers: nothing is granted on
// it before. A runtime that is not on this machine may come while it runs, so it
// is asked for ever, and less and less often; each reason is told once.
func (n *Node) listWork(ctx context.Context, d driver.Driver) {
	told := ""
	for wait := listRetry; ; wait = min(2*wait, listRetryMax) {
		err := n.runner.List(ctx, d.Name(), func(found []placement.Found) {
			n.loop.post(placement.WorkListed{Driver: d.Name(), Work: found})
		})
		if err == nil {
			return
		}
		if ctx.Err() == nil && err.Error() != told {
			told = err.Error()
			level := slog.LevelWarn
			if !d.Probe(ctx).Available { // as on most machines: hansa hosts says why
				level = slog.LevelInfo
			}
			n.log.Log(ctx, level, "a driver can't say what it runs; nothing is granted on it meanwhile", "driver", d.Name(), "err", err)
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

// gossiped takes an event of gossip. It does not block.
func (n *Node) gossiped(e gossip.Event) {
	n.memberChanged(e.Member)
	if e.Member.Peer != n.id.ID() && (e.Kind == gossip.EventDigest || e.Kind == gossip.EventAlive) {
		n.refresher.ask(e.Member.Peer)
	}
}

func (n *Node) memberChanged(m gossip.Member) {
	if m.Peer == n.id.ID() {
		return
	}
	n.vault.Poke()
	n.loop.post(placement.MemberChanged{
		Peer: placement.PeerID(m.Peer), Site: placement.SiteID(m.Site), State: memberState(m.State),
		BackWithin: max(0, m.BackWithin-time.Since(m.Since)),
	})
}

// refreshDigest pulls a peer's digest whole, if it changed, for the core.
func (n *Node) refreshDigest(ctx context.Context, peer string) error {
	ctx, cancel := context.WithTimeout(ctx, queryMax)
	defer cancel()
	d, err := n.gossip.Refresh(ctx, peer)
	if err != nil {
		return err
	}
	if len(d.Whole) == 0 || len(d.Whole) > digestMax {
		return nil
	}
	var digest placement.Digest
	if err := placement.Decode(d.Whole, &digest); err != nil || string(digest.Peer.Peer) != peer {
		n.log.Warn("a digest can't be read", "peer", peer, "err", err)
		return nil
	}
	n.loop.post(placement.DigestChanged{Digest: digest})
	return nil
}

// isAlive says whether a peer is, as far as gossip knows.
func (n *Node) isAlive(peer string) bool {
	state, known := n.gossip.StateOf(peer)
	return known && state == gossip.StateAlive
}

// showDigest gossips this peer's digest when it changed.
func (n *Node) showDigest(ctx context.Context) {
	var digest placement.Digest
	if err := n.loop.look(ctx, func(core *placement.Peer) { digest = core.Digest() }); err != nil {
		return
	}
	if err := n.gossip.SetDigest(digestClass(digest), placement.Encode(digest)); err != nil {
		n.log.Error("the digest can't be gossiped", "err", err)
	}
}

// digestClassLen is the length of a class summary.
const digestClassLen = 8

// digestClass says in a few bytes how full a peer is, for those that have not
// pulled the whole: free CPU and memory in sixteenths, and flags.
func digestClass(d placement.Digest) []byte {
	class := make([]byte, digestClassLen)
	sixteenths := func(free, capacity int64) byte {
		if capacity <= 0 {
			return 0
		}
		return byte(max(0, min(16, free*16/capacity)))
	}
	class[0] = 1 // version
	class[1] = sixteenths(int64(d.Free.CPU), int64(d.Capacity.CPU))
	class[2] = sixteenths(int64(d.Free.Memory), int64(d.Capacity.Memory))
	class[3] = sixteenths(int64(d.Free.Disk), int64(d.Capacity.Disk))
	if d.Full != "" {
		class[4] |= 1
	}
	return class
}

// tellRTTs tells the core of round-trip times that changed.
func (n *Node) tellRTTs() {
	for _, m := range n.gossip.Members() {
		rtt, _, ok := n.gossip.RTT(n.id.ID(), m.Peer)
		if !ok || m.Peer == n.id.ID() {
			continue
		}
		n.mu.Lock()
		old := n.rtts[m.Peer]
		changed := rtt < old*9/10 || rtt > old*11/10
		if changed {
			n.rtts[m.Peer] = rtt
		}
		n.mu.Unlock()
		if changed {
			n.loop.post(placement.RTTChanged{Peer: placement.PeerID(m.Peer), RTT: rtt})
		}
	}
}

// rttBetween is how far two other peers are apart, for the core: from their
// coordinates.
func (n *Node) rttBetween(a, b placement.PeerID) (time.Duration, bool) {
	rtt, _, ok := n.gossip.RTT(string(a), string(b))
	return rtt, ok
}
