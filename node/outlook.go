package node

import (
	"fmt"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// policies are the disconnect policies of an app's components, in force.
func policies(app placement.App) map[string]placement.Policy {
	out := map[string]placement.Policy{}
	for name, c := range app.Components {
		out[name] = c.Policy()
	}
	return out
}

// place is what one peer has of a component, and what will be done about it.
func (n *Node) place(pol placement.Policy, p placement.SiteCount, now time.Time) api.PlaceStatus {
	s := api.PlaceStatus{
		Peer: n.ref(string(p.Peer)), States: states(p.States), Stale: p.Cut, AsOf: time.UnixMilli(p.AsOf).UTC(), Slots: p.Slots,
		Action: string(p.Next.Kind),
	}
	if p.Next.At > 0 {
		s.At = time.UnixMilli(p.Next.At).UTC()
	}
	if p.Next.StopsAt > 0 {
		s.StopsAt = time.UnixMilli(p.Next.StopsAt).UTC()
	}
	if s.Peer.Site == "" {
		s.Peer.Site = string(p.Site)
	}
	s.Next = outlookText(s, pol, p.Next.Here, now)
	return s
}

// outlookText is what will be done about what a peer has, in words.
func outlookText(s api.PlaceStatus, pol placement.Policy, here bool, now time.Time) string {
	var parts []string
	at := s.At.Format(time.TimeOnly)
	switch where := "replaced elsewhere"; placement.FateKind(s.Action) {
	case placement.FateReplaced:
		if here {
			where = "replaced on this side (replace: always)"
		}
		if s.At.After(now) {
			parts = append(parts, "lost at "+at+": "+where)
		} else {
			parts = append(parts, "lost: "+where)
		}
	case placement.FateNever:
		parts = append(parts, "never replaced (replace: never): waits for site "+s.Peer.Site)
	case placement.FateMass:
		parts = append(parts, "waits: more than a third of the sites were lost; until "+at)
	case placement.FateAnnounced:
		parts = append(parts, "waits until "+at+": it announced to be back")
	case placement.FateForgotten:
		parts = append(parts, "shut out of the mesh: "+where)
	case placement.FateElsewhere:
		parts = append(parts, "left alone: this side reaches no majority of the app's keepers, and does not know what the other does")
	case placement.FateUnknown:
		parts = append(parts, "not known here: it was not heard of since this peer started")
	}
	if stops := s.StopsAt.Format(time.TimeOnly); !s.StopsAt.IsZero() {
		after := fmt.Sprintf("%s (stop_after %s)", stops, pol.StopAfter)
		if s.Stale {
			after = "about " + after + ", if it is only cut off"
		}
		parts = append(parts, "stops itself at "+after)
	}
	return strings.Join(parts, "; ")
}
