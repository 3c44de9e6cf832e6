package node

import (
	"fmt"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

const (
	// pendingPartsMax bounds the components with slots that have no place that one
	// peer tells of, and pendingRowsMax the slots that are listed one by one.
	pendingPartsMax = 1000
	pendingRowsMax  = 1000
)

func pendingOf(core *placement.Peer) []placement.PendingView {
	all := core.Pending()
	return all[:min(len(all), pendingPartsMax)]
}

// pendingRows are the slots that have no place, as those say that drive their
// apps and answered just now; but for slots that somebody has after all.
func (n *Node) pendingRows(rows []api.Allocation, asOf map[string]time.Time) []api.Allocation {
	held := map[string]bool{}
	for _, r := range rows {
		if !r.Stale {
			held[slotKey(r)] = true
		}
	}
	now := asOf[n.id.ID()]
	var pending []placement.PendingView
	n.mu.Lock()
	for _, h := range n.heard {
		if h.at.Equal(now) {
			pending = append(pending, h.pending...)
		}
	}
	n.mu.Unlock()
	var out []api.Allocation
	for _, v := range pending {
		slots, err := placement.ParseSlots(v.Slots)
		if err != nil {
			continue // of a peer that is not well
		}
		for slot := range slots.All() {
			row := api.Allocation{
				ID: fmt.Sprintf("pending-%s-%s-%d", v.UID, v.Component, slot), Namespace: v.Key.Namespace, App: v.Key.App, Component: v.Component,
				Slot: int(slot), Kind: v.Kind, Driver: v.Driver, State: string(placement.AllocPending), Reason: n.named(v.Reason),
				Since: time.UnixMilli(v.Since).UTC(), Ports: map[string]string{}, Revision: v.Version.String(), UID: string(v.UID), AsOf: now,
			}
			if key := slotKey(row); !held[key] {
				held[key] = true
				out = append(out, row)
			}
			if len(out) >= pendingRowsMax {
				return out
			}
		}
	}
	return out
}
