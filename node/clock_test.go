package node

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/driver/boottime"
)

// sleeper is a machine that can be suspended, as far as its clocks show.
type sleeper struct {
	mu    sync.Mutex // guards what follows
	slept time.Duration
	noise []time.Duration // of the next readings
}

func (s *sleeper) suspend(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slept += d
}

func (s *sleeper) suspended() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	less := time.Duration(0)
	if len(s.noise) > 0 {
		less, s.noise = s.noise[0], s.noise[1:]
	}
	return s.slept - less
}

// clock is one of that machine, whose calendar goes on in suspend.
func (m *sleeper) clock() *clock {
	c := newClock(m.suspended)
	before := m.slept
	c.apart = func(time.Time) time.Duration {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.slept - before
	}
	return c
}

// Mono counts what the machine was suspended for, once, and is exact but for
// the slack.
func TestClockCountsSuspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &sleeper{slept: time.Hour}
		c := m.clock()
		if now := c.mono(); now != 0 {
			t.Errorf("it begins at %v", now)
		}
		time.Sleep(time.Minute)
		if now := c.mono(); now != time.Minute {
			t.Errorf("%v after a minute", now)
		}
		m.suspend(8 * time.Hour)
		if now := c.mono(); now != 8*time.Hour+time.Minute {
			t.Errorf("%v after a minute and 8h of suspend", now)
		}
		for range 1000 { // short ones add up
			m.suspend(time.Millisecond)
			c.mono()
		}
		if late := 8*time.Hour + time.Minute + time.Second - c.mono(); late < 0 || late > slack {
			t.Errorf("it is %v late, at most %v is allowed", late, slack)
		}
	})
}

// A suspend that the calendar hides is counted a little later.
func TestClockWithoutAHint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &sleeper{}
		c := newClock(m.suspended) // the bubble's calendar knows of no suspend
		c.mono()
		m.suspend(time.Hour)
		time.Sleep(readEvery + 1)
		if now := c.mono(); now != time.Hour+readEvery+1 {
			t.Errorf("%v after an hour of suspend and %v", now, readEvery+1)
		}
	})
}

// A reading that was interrupted makes the clock neither run ahead nor go back.
func TestClockOfInexactReadings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &sleeper{noise: []time.Duration{5 * time.Second, slack, 0, time.Hour}}
		c := m.clock()
		m.suspend(time.Minute)
		last := time.Duration(0)
		passed := func() time.Duration { return time.Since(c.start) }
		for _, noise := range []time.Duration{0, time.Hour, slack, 0, 3 * time.Second} {
			time.Sleep(2 * readEvery)
			m.noise = []time.Duration{noise}
			if now := c.mono(); now < last || now > time.Minute+passed() {
				t.Errorf("a reading that is %v short makes it %v, after %v", noise, now, last)
			} else {
				last = now
			}
		}
		if last != time.Minute+passed() {
			t.Errorf("it is %v, want a minute more than %v", last, passed())
		}
	})
}

// The machine's own clock agrees with CLOCK_BOOTTIME.
func TestClockIsBoottime(t *testing.T) {
	before := boottime.Now()
	c := machineClock()
	for range 1000 {
		mono, now := c.mono(), boottime.Now()
		if mono > now-before+slack {
			t.Fatalf("%v passed since the start, the clock says %v", now-before, mono)
		}
	}
	made := boottime.Now()
	if least, mono := made-before, c.mono(); mono < least-time.Minute { // for a pause within newClock
		t.Errorf("%v passed since the start, the clock says %v", least, mono)
	}
}

// A timer whose time came while the machine was suspended fires soon after the
// resume, though Go's timers stood still meanwhile.
func TestTimersAfterAResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &sleeper{}
		l := newLoop(nil, machineClock(), nil, nil)
		l.clock = m.clock()
		l.timers.set("lease", time.Hour)
		if wait := l.sleep(); wait > lookEvery {
			t.Errorf("the loop sleeps for %v with a machine that may be suspended", wait)
		}
		m.suspend(2 * time.Hour)
		if wait := l.sleep(); wait != 0 {
			t.Errorf("after the resume it sleeps for %v", wait)
		}
		if due := l.timers.due(l.now().Mono); len(due) != 1 {
			t.Errorf("due: %v", due)
		}
	})
}
