package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport"
	"github.com/hansa-mesh/hansa/transport/trust"
)

// A peer that is shut out is told so by whoever does it, with the record that
// proves it, while it can still be reached: nobody answers it afterwards. One that
// was away then learns it from those that turn it away. They may be wrong, so it
// only says so; with the record it also stops what it runs.
//
//	in the mesh ── the record comes ──▶ forgotten: unready, refuses edits, stops its work
//	   │  ▲
//	   │  └── one lets it in again
//	   ▼
//	refused: unready; its work goes on
const methodForgotten = "trust/forgotten/1"

// tellMax is how long a peer that is shut out may take to hear it.
const tellMax = 2 * time.Second

type forgottenNote struct {
	Record []byte `json:"record"`
}

// tellForgotten shows a peer the record that shuts it out. What is not heard is
// not repeated: the record counts all the same.
func (n *Node) tellForgotten(ctx context.Context, id string, record []byte) {
	ctx, cancel := context.WithTimeout(ctx, tellMax)
	defer cancel()
	if !slices.Contains(n.others(), id) {
		return
	}
	if _, err := transport.CallTyped[forgottenNote, struct{}](ctx, n.link, id, methodForgotten, forgottenNote{record}); err != nil {
		n.log.Debug("the peer that is shut out did not hear it", "peer", id, "err", err)
	}
}

func (n *Node) serveForgotten() {
	transport.HandleTyped(n.link, methodForgotten, func(ctx context.Context, from string, note forgottenNote) (struct{}, error) {
		key, err := trust.RecordKey(note.Record)
		if err == nil {
			err = n.trust.Check(key, note.Record)
		}
		if err == nil {
			err = n.publishTrust(ctx, note.Record)
		}
		if err != nil {
			return struct{}{}, &transport.Error{Kind: transport.KindInvalid, Msg: err.Error()}
		}
		return struct{}{}, nil
	})
}

// outcast is nil, or says that this peer was shut out, and by whom.
func (n *Node) outcast() error {
	err := n.trust.Admitted(n.id.ID())
	if !errors.Is(err, trust.ErrRevoked) {
		return nil
	}
	return fmt.Errorf("%w: this peer was forgotten (%s): to come back it needs an empty data folder and a new invitation", api.ErrForbidden, n.named(err.Error()))
}

// turnedAway is nil, or says that the peers that answer turn this one away.
func (n *Node) turnedAway() error {
	if len(n.others()) > 0 {
		return nil
	}
	for id, why := range n.link.Refusals() {
		if n.trust.Admitted(id) == nil {
			return fmt.Errorf("%w: no peer is in reach, and %s turns this one away: %s", api.ErrUnavailable, n.nameOf(id), n.named(why))
		}
	}
	return nil
}

// wasForgotten acts on that this peer itself was shut out.
func (n *Node) wasForgotten() {
	n.log.Error("this peer was shut out of the mesh: it takes nothing new, and what it runs stops, since it is placed elsewhere", "why", n.outcast())
	n.loop.post(placement.MemberChanged{Peer: n.self().Peer, State: placement.MemberForgotten})
}
