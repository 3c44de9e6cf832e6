package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport/trust"
)

// ForceEpoch goes on without a peer in the keeper lists that have lost their
// majority with it. It was forgotten before: a peer that may still act as a
// keeper is not to be passed over.
func (n backend) ForceEpoch(ctx context.Context, peer string) (api.ForceResult, error) {
	var none api.ForceResult
	id, err := n.findPeer(peer)
	if err != nil {
		return none, err
	}
	if !errors.Is(n.trust.Admitted(id), trust.ErrRevoked) {
		return none, fmt.Errorf("force the keepers of %s: %w: it is in the mesh: forget it first", n.nameOf(id), placement.ErrInvalid)
	}
	ctx, cancel := context.WithTimeout(ctx, submitMax)
	defer cancel()
	n.happened("force-epoch", "a person orders to go on without "+n.nameOf(id)+" in keeper lists that have lost their majority with it")
	forced, err := n.force(ctx, placement.PeerID(id))
	if err != nil {
		return none, err
	}
	out := n.forceResult(id, forced)
	n.happened("force-epoch", forceText(out))
	return out, nil
}

// force hands the order to the core and waits for its answer.
func (n *Node) force(ctx context.Context, id placement.PeerID) (placement.Forced, error) {
	waiting := make(chan placement.Forced, 1)
	n.mu.Lock()
	n.ticket++
	ticket := n.ticket
	n.forcing[ticket] = waiting
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		delete(n.forcing, ticket)
	}()
	n.loop.post(placement.ForceEpoch{Ticket: ticket, Peer: id})
	select {
	case forced := <-waiting:
		return forced, nil
	case <-n.loop.done:
		return placement.Forced{}, errClosing
	case <-ctx.Done():
		return placement.Forced{}, ctx.Err()
	}
}

// forced takes the core's answer.
func (n *Node) forced(e placement.Forced) {
	n.mu.Lock()
	waiting := n.forcing[e.Ticket]
	delete(n.forcing, e.Ticket)
	n.mu.Unlock()
	if waiting != nil {
		waiting <- e // has room for one
	}
}

func (n *Node) forceResult(id string, f placement.Forced) api.ForceResult {
	out := api.ForceResult{Peer: n.ref(id), Forced: []api.AppName{}}
	for _, key := range f.Apps {
		out.Forced = append(out.Forced, api.AppName{Namespace: key.Namespace, App: key.App})
	}
	for key, why := range f.Refused {
		out.Refused = append(out.Refused, api.AppRefusal{AppName: api.AppName{Namespace: key.Namespace, App: key.App}, Reason: n.named(why)})
	}
	slices.SortFunc(out.Forced, func(a, b api.AppName) int { return strings.Compare(a.String(), b.String()) })
	slices.SortFunc(out.Refused, func(a, b api.AppRefusal) int { return strings.Compare(a.String(), b.String()) })
	return out
}

// forceText is for the audit: what was changed over whose head.
func forceText(r api.ForceResult) string {
	var names []string
	for _, app := range r.Forced {
		names = append(names, app.String())
	}
	if len(names) == 0 {
		return fmt.Sprintf("no keepers were changed for want of %s", r.Peer.Name)
	}
	return fmt.Sprintf("the keepers of %s were changed by force, without %s: what only lost keepers held is given up", strings.Join(names, ", "), r.Peer.Name)
}
