package node

import (
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// What a person is told of slots that are not in reach, and of those that stop
// by themselves.
func TestOutlookText(t *testing.T) {
	now := time.Date(2026, 1, 31, 14, 3, 0, 0, time.UTC)
	later := now.Add(20 * time.Second)
	for want, c := range map[string]struct {
		kind      placement.FateKind
		at, stops time.Time
		here      bool
		stale     bool
	}{
		"":                                     {},
		"lost at 14:03:20: replaced elsewhere": {kind: placement.FateReplaced, at: later, stale: true},
		"lost: replaced elsewhere":             {kind: placement.FateReplaced, at: now, stale: true},
		"shut out of the mesh: replaced elsewhere":                                                              {kind: placement.FateForgotten, stale: true},
		"lost at 14:03:20: replaced on this side (replace: always)":                                             {kind: placement.FateReplaced, at: later, here: true, stale: true},
		"never replaced (replace: never): waits for site syd":                                                   {kind: placement.FateNever, stale: true},
		"waits: more than a third of the sites were lost; until 14:03:20":                                       {kind: placement.FateMass, at: later, stale: true},
		"waits until 14:03:20: it announced to be back":                                                         {kind: placement.FateAnnounced, at: later, stale: true},
		"left alone: this side reaches no majority of the app's keepers, and does not know what the other does": {kind: placement.FateElsewhere, stale: true},
		"not known here: it was not heard of since this peer started":                                           {kind: placement.FateUnknown, stale: true},
		"stops itself at 14:03:20 (stop_after 10m)":                                                             {stops: later},
		"never replaced (replace: never): waits for site syd; stops itself at about 14:03:20 (stop_after 10m), if it is only cut off": {
			kind: placement.FateNever, stops: later, stale: true},
	} {
		s := api.PlaceStatus{Peer: api.PeerRef{Site: "syd"}, Action: string(c.kind), At: c.at, StopsAt: c.stops, Stale: c.stale}
		if got := outlookText(s, placement.Policy{StopAfter: placement.OrNever(10 * time.Minute)}, c.here, now); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}

func TestSettledSince(t *testing.T) {
	var s settledSince
	at := func(i int) time.Time { return time.Unix(int64(i), 0) }
	for i, c := range []struct {
		settled bool
		want    time.Time
	}{{false, time.Time{}}, {true, at(1)}, {true, at(1)}, {false, time.Time{}}, {true, at(4)}} {
		if got := s.note(c.settled, at(i)); !got.Equal(c.want) {
			t.Errorf("look %d: since %v, want %v", i, got, c.want)
		}
	}
}
