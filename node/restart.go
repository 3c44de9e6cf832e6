package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport"
)

// methodRestart begins an allocation anew at the peer that has it, on a person's
// word that another peer took.
const methodRestart = "work/restart/1"

type restartOrder struct {
	ID string `json:"id"`
}

// restartAnswer says why not, or nothing.
type restartAnswer struct {
	Gone bool   `json:"gone"` // it is not here
	Why  string `json:"why"`
}

func (n *Node) serveRestart() {
	transport.HandleTyped(n.link, methodRestart, func(ctx context.Context, from string, o restartOrder) (restartAnswer, error) {
		id, err := placement.ParseAllocationID(o.ID)
		if err != nil {
			return restartAnswer{}, &transport.Error{Kind: transport.KindInvalid, Msg: err.Error()}
		}
		err = n.restartHere(ctx, id)
		switch {
		case err == nil:
			n.log.Info("an allocation is begun anew", "allocation", o.ID, "asked_at", n.nameOf(from))
			return restartAnswer{}, nil
		case errors.Is(err, placement.ErrNotFound), errors.Is(err, placement.ErrUnavailable):
			return restartAnswer{Gone: errors.Is(err, placement.ErrNotFound), Why: err.Error()}, nil
		}
		return restartAnswer{}, err
	})
}

func (n *Node) restartHere(ctx context.Context, id placement.AllocationID) error {
	_, err := n.submit(ctx, func(ticket uint64) placement.Event { return placement.RestartWork{Ticket: ticket, ID: id} })
	return err
}

// Restart begins an allocation anew at the peer that has it.
func (n backend) Restart(ctx context.Context, id string) (api.Allocation, error) {
	parsed, err := placement.ParseAllocationID(id)
	if err != nil {
		return api.Allocation{}, fmt.Errorf("%w: %w", placement.ErrInvalid, err)
	}
	if owner := string(parsed.Claim.Owner.Peer); owner == n.id.ID() {
		err = n.restartHere(ctx, parsed)
	} else {
		err = n.restartThere(ctx, owner, parsed)
	}
	if err != nil {
		return api.Allocation{}, err
	}
	return n.Allocation(ctx, id)
}

func (n *Node) restartThere(ctx context.Context, peer string, id placement.AllocationID) error {
	ctx, cancel := context.WithTimeout(ctx, queryMax)
	defer cancel()
	a, err := transport.CallTyped[restartOrder, restartAnswer](ctx, n.link, peer, methodRestart, restartOrder{id.String()})
	switch {
	case err != nil:
		return fmt.Errorf("restart %s: %w: %s: %w", id, api.ErrUnreachable, n.nameOf(peer), err)
	case a.Gone:
		return refusal{placement.ErrNotFound, a.Why}
	case a.Why != "":
		return refusal{placement.ErrUnavailable, a.Why}
	}
	return nil
}

// refusal is why another peer does not do what it was asked, as it says it.
type refusal struct {
	kind error
	text string
}

func (r refusal) Error() string { return r.text }
func (r refusal) Unwrap() error { return r.kind }
