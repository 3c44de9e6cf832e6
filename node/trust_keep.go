package node

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/gossip"
	"github.com/hansa-mesh/hansa/gossip/table"
	"github.com/hansa-mesh/hansa/transport/trust"
)

const (
	// keepKnownEvery is how often mesh.json takes up the addresses of peers.
	keepKnownEvery = time.Minute
	// keepTrustEvery is how often the table is held against what is known of
	// trust for no reason; keepTrustWait how long, at most, after it lost
	// something: one peer putting it back is enough.
	keepTrustEvery = time.Minute
	keepTrustWait  = 5 * time.Second
	// keepTrustFirst is how long a peer whose table is empty waits for those of others,
	// which have what it knows: each newcomer would tell all of them once more.
	keepTrustFirst = 10 * time.Second
)

// putTrust writes a record beside what others say under the same key.
func (n *Node) putTrust(ctx context.Context, key string, raw []byte) error {
	replica := n.tables[tableTrust]
	siblings := replica.Siblings(key)
	var over []table.Dot
	for _, i := range n.trust.Replaced(valuesOf(siblings)) {
		over = append(over, siblings[i].Dot)
	}
	return replica.PutOver(ctx, key, raw, over)
}

func valuesOf(records []table.Record) [][]byte {
	values := make([][]byte, len(records))
	for i, r := range records {
		values[i] = r.Value
	}
	return values
}

// keepTrust puts back what the table lacks of what is known here: what
// mesh.json proves, at the first start and after the store was lost; and what
// somebody removed, as whoever may write a table can. A peer that is shut out
// is out, whatever its friends say.
func (n *Node) keepTrust(ctx context.Context) error {
	tick := time.NewTicker(keepTrustEvery)
	defer tick.Stop()
	if n.tables[tableTrust].Counts().Records == 0 && len(n.trust.Peers()) > 1 {
		n.awaitTrust(ctx, keepTrustFirst)
	}
	for {
		if err := n.restoreTrust(ctx); err != nil && ctx.Err() == nil {
			n.log.Warn("records of trust are not in the table yet", "err", err)
		}
		select {
		case <-tick.C:
		case <-n.trustMoved:
			pause(ctx, rand.N(keepTrustWait))
		case <-ctx.Done():
			return nil
		}
	}
}

// pause waits, and is false if ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// awaitTrust waits until the table has something, and a moment for the rest.
func (n *Node) awaitTrust(ctx context.Context, most time.Duration) {
	select {
	case <-n.trustMoved:
		pause(ctx, rand.N(keepTrustWait))
	case <-time.After(most):
	case <-ctx.Done():
	}
}

func (n *Node) restoreTrust(ctx context.Context) error {
	replica, restored := n.tables[tableTrust], 0
	level := slog.LevelWarn
	if replica.Counts().Records == 0 { // the first start, or after the store was lost
		level = slog.LevelDebug
	}
	for key, records := range n.trust.ByKey() {
		values := valuesOf(replica.Siblings(key))
		for _, raw := range records {
			if slices.ContainsFunc(values, func(v []byte) bool { return bytes.Equal(v, raw) }) {
				continue
			}
			if err := n.putTrust(ctx, key, raw); err != nil {
				return storeError(err)
			}
			restored++
		}
	}
	if restored > 0 {
		n.log.Log(ctx, level, "records of trust were not in the table and are put back", "records", restored)
	}
	return nil
}

// clockAheadMax is how far a peer's clock may be ahead of this one's before it
// is said.
const clockAheadMax = time.Minute

// clockAhead is how far a peer's clock is ahead of this one's, as its digest
// shows, which it numbers by its clock; 0 where that is within bounds. A clock
// that is behind does not show: the digest may be old.
func clockAhead(d gossip.Digest) time.Duration {
	const sane = 1 << 50 // milliseconds; a number beyond is no time
	if d.Sequence > sane {
		return 0
	}
	ahead := time.UnixMilli(int64(d.Sequence)).Sub(d.AsOf)
	if ahead <= clockAheadMax {
		return 0
	}
	return ahead.Round(time.Second)
}

// doubts are what people should know of peers, by peer: keys under one name,
// invitations that were used on both sides of a cut, and clocks that are ahead.
func (n *Node) doubts() map[string]string {
	doubts := map[string]string{}
	add := func(id, doubt string) {
		if doubts[id] != "" {
			doubt = doubts[id] + "; " + doubt
		}
		doubts[id] = doubt
	}
	for name, ids := range n.trust.NameConflicts() {
		for _, id := range ids {
			add(id, fmt.Sprintf("%d keys have the name %s", len(ids), name))
		}
	}
	for _, m := range n.gossip.Members() {
		if d, ok := n.gossip.Digest(m.Peer); ok && clockAhead(d) > 0 {
			add(m.Peer, fmt.Sprintf("its clock is %v ahead of this peer's", clockAhead(d)))
		}
	}
	for _, ids := range n.trust.SpentTwice() {
		in := slices.DeleteFunc(ids, func(id string) bool { return n.trust.Admitted(id) != nil })
		if len(in) < 2 {
			continue // decided
		}
		for _, id := range in {
			add(id, fmt.Sprintf("its invitation was used by %d peers", len(in)))
		}
	}
	return doubts
}

// displaced says whether another peer had this one's name before: then this
// one takes no work until somebody decides.
func (n *Node) displaced() bool {
	ids := n.trust.NameConflicts()[n.member.Name]
	return len(ids) > 0 && ids[0] != n.id.ID()
}

// proofs are the admissions of this peer and of those that it knows: without
// them it would take no word from those.
func (m membership) proofs(set *trust.Set, self string) [][]byte {
	ids := []string{self}
	for _, k := range m.Known {
		ids = append(ids, k.ID)
	}
	return set.Chains(ids)
}

// keepKnown writes the addresses of peers into mesh.json, apart from the
// store: a peer whose store is lost finds its mesh again.
func (n *Node) keepKnown() {
	members := n.gossip.Members() // by id
	slices.SortStableFunc(members, func(a, b gossip.Member) int { return -cmp.Compare(a.State, b.State) })
	var now []known
	for _, m := range members { // those that live first
		if m.Addr != "" && n.trust.Admitted(m.Peer) == nil && len(now) < seedsMax {
			now = append(now, known{m.Peer, m.Addr})
		}
	}
	if len(now) == 0 || slices.Equal(now, n.member.Known) {
		return
	}
	n.member.Known = now
	n.member.Records = n.member.proofs(n.trust, n.id.ID())
	if err := n.member.save(n.cfg.DataDir); err != nil {
		n.log.Warn("the addresses of peers were not kept", "err", err)
	}
}
