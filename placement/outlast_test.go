package placement

import (
	"testing"
	"time"
)

// A duplicate that was granted from a version that came to nothing is given back
// within two rounds, when its own peer does not know that version either; for a
// peer of an older release, which does not say, as long as it would wait itself.
func TestDuplicateOfNothingIsGoneInTwoRounds(t *testing.T) {
	for name, c := range map[string]struct {
		unlisted bool
		least    time.Duration
		most     time.Duration
	}{
		"it says so":         {true, 0, 2 * Tuning{}.withDefaults().RoundMax},
		"an older release's": {false, Tuning{}.withDefaults().ConfirmExpiry, Tuning{}.withDefaults().ConfirmExpiry + 2*Tuning{}.withDefaults().RoundMax},
	} {
		t.Run(name, func(t *testing.T) {
			p, now, shop := cutShop(t, Disconnect{})
			own := onlyClaim(t, p)
			step(p, now, WorkChanged{ID: AllocationID{own.ID, own.Slots.Slice()[0]}, State: WorkState{State: AllocRunning}})
			nothing := shop.win.intent.Version
			nothing.Millis, nothing.Peer = nothing.Millis+1, "c"
			double := claimStatus{
				ID: ClaimID{AskID{"c", 1, 5}, PeerRef{"b", 1}}, Component: "c", Version: nothing, Spec: own.SpecHash,
				Slots: own.Slots, Running: own.Slots, FirstRunning: now.Wall.UnixMilli() + 1000, Unlisted: c.unlisted,
			}
			began := now.Mono
			released := func() bool {
				for end := now.Mono + 100*time.Millisecond; now.Mono < end; now.Mono += 50 * time.Millisecond {
					for _, s := range step(p, now, TimerFired{Key: wakeTimer}) {
						if m, err := decodeMessage(s.Body); err == nil && m.Release != nil && m.Release.Claim == double.ID &&
							m.Release.Version.Compare(nothing) >= 0 { // else its peer refuses
							return true
						}
					}
				}
				return false
			}
			rows := shop.rows["b"].report.Claims
			for i := 0; ; i++ {
				if i%100 == 0 { // it repeats its report
					say(p, now, "b", message{Report: &reportMsg{UID: shop.uid, Peer: PeerRef{"b", 1},
						Order: order{1, 2, uint64(i)}, Claims: append(rows[:len(rows):len(rows)], double)}})
				}
				if released() {
					break
				}
				if now.Mono-began > c.most {
					t.Fatalf("not released after %v: %v", now.Mono-began, p.Open())
				}
			}
			if took := now.Mono - began; took < c.least {
				t.Errorf("released after %v: the version may yet turn up", took)
			}
		})
	}
}
