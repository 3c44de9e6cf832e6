package placement

import "testing"

// An offer and the reports before and after it arrive in any order, the offer also
// twice: its claim counts once.
func TestOfferCountsOnce(t *testing.T) {
	id := ClaimID{Owner: PeerRef{"b", 1}, Ask: AskID{"a", 1, 7}}
	c := claimStatus{ID: id, Component: "web", Slots: SlotsOf(1, 2)}
	at := func(seq uint64) order { return order{1, 1, seq} }
	report := func(seq uint64, claims ...claimStatus) reportMsg {
		return reportMsg{Peer: id.Owner, Order: at(seq), Claims: claims}
	}
	for _, tc := range []struct {
		name string
		do   func(r *row)
		want int
	}{
		{"the offer alone", func(r *row) { r.offer(c, at(5)) }, 1},
		{"a report from before it", func(r *row) { r.offer(c, at(5)); r.take(report(4), 0) }, 1},
		{"a report after it", func(r *row) { r.offer(c, at(5)); r.take(report(6, c), 0) }, 1},
		{"a report after it, without the claim", func(r *row) { r.offer(c, at(5)); r.take(report(6), 0) }, 0},
		{"the report came first", func(r *row) { r.take(report(6, c), 0); r.offer(c, at(5)) }, 1},
		{"it has ended since", func(r *row) { r.take(report(6), 0); r.offer(c, at(5)) }, 0},
		{"offered again after a report of it", func(r *row) { r.take(report(4, c), 0); r.offer(c, at(5)) }, 1},
		{"offered again, and a report of it comes late", func(r *row) { r.offer(c, at(5)); r.take(report(4, c), 0) }, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := &row{granted: map[ClaimID]grantedClaim{}}
			tc.do(r)
			if n := len(r.claims()); n != tc.want {
				t.Errorf("%d claims, want %d: %v", n, tc.want, r.claims())
			}
		})
	}
}
