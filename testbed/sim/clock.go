package sim

import (
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// clocks is what a peer's clocks say, in comparison to the world's.
type clocks struct {
	skew   time.Duration // of the wall clock, ahead
	skewed time.Duration // of the wall clock when nothing meddles with it
	drift  int64         // of the monotonic clock: millionths faster
	booted time.Duration // when the machine did; its monotonic clock began then
}

const million = 1_000_000

func (w *world) drawClocks() clocks {
	skew := w.between(-200*time.Millisecond, 200*time.Millisecond)
	c := clocks{skew: skew, skewed: skew}
	if w.plan.Drift > 0 {
		c.drift = int64((2*w.rng.Float64() - 1) * w.plan.Drift * million)
	}
	return c
}

func (p *peer) clock() placement.Now {
	return placement.Now{Mono: p.mono(), Wall: epoch.Add(p.w.now + p.skew)}
}

// mono is the monotonic clock of the machine, which begins when that boots.
func (p *peer) mono() time.Duration {
	d := p.w.now - p.booted
	return d + d*time.Duration(p.drift)/million
}

// until is how long it takes to a time of the monotonic clock.
func (p *peer) until(mono time.Duration) time.Duration {
	d := max(0, mono-p.mono())
	if p.drift == 0 {
		return d
	}
	return d*million/time.Duration(million+p.drift) + 2 // and not before
}
