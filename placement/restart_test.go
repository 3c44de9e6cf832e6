package placement

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// placed is a peer with one slot of a component that starts there, and a way to
// step it that remembers effects.
type placed struct {
	*Peer
	t   *testing.T
	now *Now
	id  AllocationID
	got []Effect
}

func newPlaced(t *testing.T, edit func(*Component)) *placed {
	t.Helper()
	p, now := newTestPeer("a")
	app := testApp("x")
	c := app.Components["c"]
	edit(&c)
	app.Components["c"] = c
	s := intentBy("m", "u", app, nil)
	step(p, now, RecordChanged{Table: TableIntents, Key: "default/x", Siblings: [][]byte{Encode(s)}})
	say(p, now, "m", message{Ask: &askMsg{ID: AskID{"m", 1, 1}, UID: "u", Term: Term{1, "m"}, Intent: s, Component: "c", Slots: SlotsOf(0)}})
	return &placed{Peer: p, t: t, now: now, id: AllocationID{onlyClaim(t, p).ID, 0}}
}

// take steps the core after a while, answers what it persists, and keeps the
// rest of its effects.
func (p *placed) take(after time.Duration, ev Event) {
	p.t.Helper()
	p.now.Mono += after
	p.now.Wall = p.now.Wall.Add(after)
	p.got = nil
	queue := []Event{ev}
	for len(queue) > 0 {
		for _, e := range p.Step(*p.now, queue[0]) {
			if w, ok := e.(Persist); ok {
				queue = append(queue, Persisted{Token: w.Token})
			} else {
				p.got = append(p.got, e)
			}
		}
		queue = queue[1:]
	}
}

func (p *placed) news(state AllocState, reason string) {
	p.t.Helper()
	p.take(time.Millisecond, WorkChanged{ID: p.id, State: WorkState{State: state, Reason: reason}})
}

// starts and stops are the effects of the last step.
func (p *placed) starts() (starts, stops int, kept bool) {
	for _, e := range p.got {
		switch e := e.(type) {
		case Start:
			starts++
		case Stop:
			stops++
			kept = e.Keep
		}
	}
	return starts, stops, kept
}

func (p *placed) is(state AllocState) {
	p.t.Helper()
	a := p.work.allocs[p.id]
	if a == nil || a.state.State != state {
		p.t.Fatalf("the allocation is %+v, want %s", a, state)
	}
}

// told is the types of the events of the last step.
func (p *placed) told() string {
	var out []string
	for _, e := range p.got {
		if r, ok := e.(Record); ok && r.Event != nil {
			out = append(out, r.Event.Type)
		}
	}
	return strings.Join(out, " ")
}

func TestRestartPolicy(t *testing.T) {
	n := func(i int) *int { return &i }
	for _, c := range []struct {
		name     string
		restart  *Restart
		restarts int
		waits    []time.Duration
	}{
		{"the usual", nil, 5, []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second}},
		{"moved at once", &Restart{Budget: n(0)}, 0, nil},
		{"its own", &Restart{Budget: n(3), Backoff: Duration(10 * time.Second), BackoffMax: Duration(15 * time.Second)}, 3,
			[]time.Duration{10 * time.Second, 15 * time.Second, 15 * time.Second}},
		{"a back-off above the usual end", &Restart{Budget: n(1), Backoff: Duration(time.Minute)}, 1, []time.Duration{time.Minute}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlaced(t, func(comp *Component) { comp.Restart = c.restart })
			for _, wait := range c.waits {
				p.news(AllocRunning, "")
				p.news(AllocFailed, "exited with code 3")
				p.is(AllocPending)
				p.take(wait-2*time.Millisecond, TimerFired{})
				if starts, _, _ := p.starts(); starts != 0 {
					t.Fatalf("started before %v are over", wait)
				}
				p.take(3*time.Millisecond, TimerFired{})
				if starts, _, _ := p.starts(); starts != 1 {
					t.Fatalf("not started after %v", wait)
				}
			}
			if a := p.work.allocs[p.id]; a.restarts != c.restarts {
				t.Errorf("%d restarts, want %d", a.restarts, c.restarts)
			}
			p.news(AllocRunning, "")
			p.news(AllocFailed, "exited with code 3")
			if c := onlyClaim(t, p.Peer); c.Slots.Contains(0) {
				t.Error("its budget is used up, and it holds its slot")
			}
		})
	}
}

// Exits that lie further back than the window do not count.
func TestRestartWindow(t *testing.T) {
	one := 1
	p := newPlaced(t, func(c *Component) { c.Restart = &Restart{Budget: &one, Window: Duration(time.Minute)} })
	for range 5 {
		p.news(AllocRunning, "")
		p.news(AllocFailed, "exited with code 3")
		p.is(AllocPending)
		p.take(2*time.Minute, TimerFired{})
		p.is(AllocStarting)
	}
}

// An unhealthy slot is no running one, is held all the same, and one that
// recovers goes on with its run.
func TestUnhealthySlot(t *testing.T) {
	p := newPlaced(t, func(*Component) {})
	p.news(AllocStarting, "waits for its first successful check")
	p.news(AllocRunning, "")
	c := onlyClaim(t, p.Peer)
	began := c.FirstRunning
	p.take(time.Minute, WorkChanged{ID: p.id, State: WorkState{State: AllocUnhealthy, Reason: "3 checks failed"}})
	p.is(AllocUnhealthy)
	if p.told() != "unhealthy" {
		t.Errorf("told %q", p.told())
	}
	if r := p.report("u", 0); !r.Claims[0].Running.IsEmpty() || !r.Claims[0].Unhealthy.Contains(0) || !r.Claims[0].Slots.Contains(0) {
		t.Errorf("reported %+v", r.Claims[0])
	}
	p.take(time.Minute, WorkChanged{ID: p.id, State: WorkState{State: AllocRunning}})
	p.is(AllocRunning)
	if c.FirstRunning != began || len(c.Again) != 0 {
		t.Errorf("it counts as begun anew: %d, %v", c.FirstRunning, c.Again)
	}
	p.news(AllocUnhealthy, "3 checks failed")
	p.news(AllocFailed, "unhealthy: 6 checks failed")
	p.is(AllocPending)
	view := p.Allocations()[0]
	if view.Last == nil || view.Last.Reason != "unhealthy: 6 checks failed" || view.Restarts != 1 {
		t.Errorf("shown as %+v", view)
	}
}

// A person's restart ends a run and begins another, at once, and uses up
// nothing of the budget.
func TestRestartByAPerson(t *testing.T) {
	p := newPlaced(t, func(*Component) {})
	p.news(AllocRunning, "")
	for i := range 10 { // more than the budget
		p.take(time.Second, RestartWork{Ticket: 7, ID: p.id})
		if starts, stops, kept := p.starts(); starts != 0 || stops != 1 || !kept {
			t.Fatalf("%d starts, %d stops, kept %t", starts, stops, kept)
		}
		if a, ok := answerOf(p.got, 7); !ok || a.Err != nil {
			t.Fatalf("answered %+v", a)
		}
		p.is(AllocStopping)
		p.news(AllocFailed, "ended by signal 15") // its own end is not the answer to the Stop
		p.is(AllocStopping)
		p.news(AllocStopped, "")
		if starts, _, _ := p.starts(); starts != 1 {
			t.Fatalf("restart %d: it is not started again: %+v", i, p.got)
		}
		p.news(AllocRunning, "")
		p.is(AllocRunning)
	}
	if c := onlyClaim(t, p.Peer); !c.Slots.Contains(0) {
		t.Error("its slot was given back")
	}
}

// One that waits for its back-off begins at once; what is not here, or goes, is
// refused with the reason.
func TestRestartOfWhatDoesNotRun(t *testing.T) {
	p := newPlaced(t, func(*Component) {})
	p.news(AllocRunning, "")
	p.news(AllocFailed, "exited with code 3")
	p.take(time.Millisecond, RestartWork{Ticket: 1, ID: p.id})
	if starts, _, _ := p.starts(); starts != 1 {
		t.Fatalf("it is not started: %+v", p.got)
	}
	p.take(time.Minute, TimerFired{})
	if starts, _, _ := p.starts(); starts != 0 {
		t.Error("the back-off starts it again")
	}
	other := p.id
	other.Slot = 9
	p.take(time.Millisecond, RestartWork{Ticket: 2, ID: other})
	if a, ok := answerOf(p.got, 2); !ok || !errors.Is(a.Err, ErrNotFound) {
		t.Errorf("answered %+v", a)
	}
	p.news(AllocRunning, "")
	p.releaseSlots(onlyClaim(t, p.Peer), SlotsOf(0), "scaled down")
	p.take(time.Millisecond, TimerFired{})
	p.is(AllocStopping)
	p.take(time.Millisecond, RestartWork{Ticket: 3, ID: p.id})
	if a, ok := answerOf(p.got, 3); !ok || !errors.Is(a.Err, ErrUnavailable) || !strings.Contains(a.Err.Error(), "scaled down") {
		t.Errorf("answered %+v", a)
	}
}

// A slot that is given back while it begins anew does not come back.
func TestReleaseDuringARestart(t *testing.T) {
	p := newPlaced(t, func(*Component) {})
	p.news(AllocRunning, "")
	p.take(time.Millisecond, RestartWork{Ticket: 1, ID: p.id})
	p.releaseSlots(onlyClaim(t, p.Peer), SlotsOf(0), "scaled down")
	p.take(time.Millisecond, TimerFired{})
	p.news(AllocStopped, "")
	if starts, _, _ := p.starts(); starts != 0 || p.work.allocs[p.id] != nil {
		t.Errorf("it came back: %+v", p.work.allocs[p.id])
	}
}

// Of a slot that goes round in circles not every turn is told.
func TestCrashLoopIsToldSeldom(t *testing.T) {
	many := 100
	p := newPlaced(t, func(c *Component) {
		c.Restart = &Restart{Budget: &many, Window: Duration(time.Hour), Backoff: Duration(time.Second), BackoffMax: Duration(time.Second)}
	})
	events := 0
	count := func() { events += len(strings.Fields(p.told())) }
	const turns = 100
	for range turns {
		p.news(AllocRunning, "")
		count()
		p.news(AllocFailed, "exited with code 3")
		count()
		p.take(time.Second, TimerFired{})
		count()
		p.is(AllocStarting)
	}
	if events < 3*exitsTold || events > 3*(exitsTold+4) {
		t.Errorf("%d events of %d turns", events, turns)
	}
}

// What ran before the daemon did is watched, once it is known what it is.
func TestAdoptedWorkIsWatched(t *testing.T) {
	p := newPlaced(t, func(c *Component) { c.Health, c.Ports = &Health{TCP: &TCPCheck{}}, map[string]int{"http": 80} })
	claim := onlyClaim(t, p.Peer)
	delete(p.work.allocs, p.id)
	found := Found{ID: p.id, Labels: Labels(p.id, p.workSpec(claim)), State: WorkState{State: AllocRunning}, Since: p.now.Wall.Add(-time.Hour).UnixMilli()}
	p.take(time.Millisecond, WorkListed{Driver: DriverProcess, Work: []Found{found}})
	watched := 0
	for _, e := range p.got {
		if w, ok := e.(Watch); ok && w.ID == p.id && w.Spec.Spec.Health != nil {
			watched++
		}
	}
	if watched != 1 {
		t.Errorf("watched %d times: %+v", watched, p.got)
	}
	if v := p.Allocations()[0]; v.State.Started != found.Since || v.Made != found.Since {
		t.Errorf("it began %d, and is shown as %+v", found.Since, v)
	}
}

func (p *placed) workSpec(c *claim) WorkSpec {
	return WorkSpec{UID: c.UID, Key: c.Key, Component: c.Component, Spec: c.Spec, Version: c.Version}
}

func answerOf(effects []Effect, ticket uint64) (Result, bool) {
	for _, e := range effects {
		if a, ok := e.(Answer); ok && a.Ticket == ticket {
			return a.Result, true
		}
	}
	return Result{}, false
}

// A change of the policy holds at once for what runs, and restarts nothing.
func TestRestartPolicyIsTheOneThatStands(t *testing.T) {
	p := newPlaced(t, func(*Component) {})
	p.news(AllocRunning, "")
	app, none := testApp("x"), 0
	c := app.Components["c"]
	c.Restart = &Restart{Budget: &none}
	app.Components["c"] = c
	newer := intentBy("m", "u", app, func(i *Intent) { i.Version.Millis++ })
	p.take(time.Millisecond, RecordChanged{Table: TableIntents, Key: "default/x", Siblings: [][]byte{Encode(newer)}})
	if starts, stops, _ := p.starts(); starts+stops != 0 {
		t.Fatalf("the edit starts %d and stops %d", starts, stops)
	}
	p.is(AllocRunning)
	p.news(AllocFailed, "exited with code 3")
	if c := onlyClaim(t, p.Peer); c.Slots.Contains(0) {
		t.Error("it is restarted by the policy that it was granted under")
	}
}
