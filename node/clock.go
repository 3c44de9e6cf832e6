package node

import (
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/driver/boottime"
	"github.com/hansa-mesh/hansa/node/runner"
	"github.com/hansa-mesh/hansa/placement"
)

// clock is the core's time. Mono is CLOCK_BOOTTIME counted from the start: it
// goes on while the machine is suspended, which leases rest on, and Go's own
// clock does not. It is put together of that clock, which is virtual in a
// synctest bubble, and of what the machine was suspended for since, so that it
// is virtual there too. Where the system does not say how long it was suspended
// (boottime.Counts) Mono stands still in suspend, and leases are only as good
// as machines that are never suspended.
type clock struct {
	suspended func() time.Duration          // since the machine was started, or a little less
	apart     func(time.Time) time.Duration // by how much the calendar and Go's clock moved apart

	start time.Time
	slept time.Duration // suspended when it was made

	mu    sync.Mutex    // guards what follows
	since time.Duration // suspended since then
	last  time.Duration // Mono
	read  time.Duration // time by Go's clock, and apart, when suspended was read last
	moved time.Duration
}

// readEvery is how long a reading of suspended is good for if nothing hints at a
// suspend: reading it takes two system calls, and the core asks for the time at
// every step. A hint is that the calendar went on while Go's clock stood, which
// one call tells and the kernel does in one step with CLOCK_BOOTTIME. Only
// somebody who sets the calendar back by as much in the same moment hides it, for
// this long.
const readEvery = 50 * time.Millisecond

// slack is by how much a reading of suspended may be too small: the two clocks
// that it compares are not read at one time. What was suspended counts once it
// is more than that, and then whole.
const slack = runner.ClockSlack

// readings is how often suspended is read to begin with, for one of them to be
// exact.
const readings = 8

func newClock(suspended func() time.Duration) *clock {
	c := &clock{suspended: suspended, start: time.Now()}
	c.apart = func(now time.Time) time.Duration { return now.Round(0).Sub(c.start.Round(0)) - now.Sub(c.start) }
	for range readings {
		c.slept = max(c.slept, suspended())
	}
	return c
}

// now is the time in the core's terms.
func (c *clock) now() placement.Now {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now() // first: a suspend after it is counted, and none is missed
	passed, apart := now.Sub(c.start), c.apart(now)
	if passed > c.read+readEvery || (apart-c.moved).Abs() > slack {
		c.read, c.moved = passed, apart
		if since := c.suspended() - c.slept; since > c.since+slack {
			c.since = since
		}
	}
	c.last = max(c.last, passed+c.since)
	return placement.Now{Mono: c.last, Wall: now}
}

// mono is now's Mono.
func (c *clock) mono() time.Duration { return c.now().Mono }

// machineClock is the clock of this machine.
func machineClock() *clock { return newClock(boottime.Suspended) }
