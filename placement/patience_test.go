package placement

import (
	"testing"
	"time"
)

// TestPatience: the pauses between asks follow how long the answers take, within limits,
// and come back when they do.
func TestPatience(t *testing.T) {
	tune := Tuning{}.withDefaults()
	var p patience
	check := func(when string, resend, third, giveUp time.Duration) {
		t.Helper()
		if r, again, g := p.resend(&tune, 0), p.resend(&tune, 2), p.giveUp(&tune); r != resend || again != third || g != giveUp {
			t.Errorf("%s: sends again after %v, the third time after %v, gives up after %v; want %v, %v, %v", when, r, again, g, resend, third, giveUp)
		}
	}
	quiet := func(when string) { check(when, tune.Resend, 4*tune.Resend, tune.AskGiveUp) }
	quiet("before any answer")
	for range 20 {
		p.answered(20 * time.Millisecond)
	}
	quiet("answers in 20 ms")
	for range 100 {
		p.answered(3 * time.Second)
	}
	if r, g := p.resend(&tune, 0), p.giveUp(&tune); r < 3*time.Second || r > 4*time.Second || g < 6*time.Second || g > 8*time.Second {
		t.Errorf("answers in 3 s: sends again after %v, gives up after %v", r, g)
	}
	for range 100 {
		p.answered(time.Hour)
	}
	check("answers in an hour", resendMost*tune.Resend, resendMost*tune.Resend, giveUpMost*tune.AskGiveUp)
	for range 300 {
		p.answered(20 * time.Millisecond)
	}
	quiet("answers in 20 ms again")
}
