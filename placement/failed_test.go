package placement

import (
	"strings"
	"testing"
)

// A slot that ended once too often is given back, if not at once because the
// disk is full then, later.
func TestFailedIsGivenBackOnceTheDiskTakesIt(t *testing.T) {
	p, now := newTestPeer("a")
	s := intentBy("m", "u", testApp("x"), nil)
	step(p, now, RecordChanged{Table: TableIntents, Key: "default/x", Siblings: [][]byte{Encode(s)}})
	say(p, now, "m", message{Ask: &askMsg{ID: AskID{"m", 1, 1}, UID: "u", Term: Term{1, "m"}, Intent: s, Component: "c", Slots: SlotsOf(0)}})
	c := onlyClaim(t, p)
	full := false
	take := func(ev Event) {
		queue := []Event{ev}
		for len(queue) > 0 {
			effects := p.Step(*now, queue[0])
			queue = queue[1:]
			for _, e := range effects {
				if w, ok := e.(Persist); ok && full {
					queue = append(queue, PersistFailed{Token: w.Token, Err: "no space", Full: true})
				} else if ok {
					queue = append(queue, Persisted{Token: w.Token})
				}
			}
		}
	}
	full = true
	id := AllocationID{c.ID, 0}
	for range p.tune.RestartBudget + 1 {
		take(WorkChanged{ID: id, State: WorkState{State: AllocRunning}})
		take(WorkChanged{ID: id, State: WorkState{State: AllocFailed, Reason: "exit code 1"}})
		now.Mono += p.tune.RestartMax
		take(TimerFired{})
	}
	if a := p.work.allocs[id]; a == nil || a.state.State != AllocFailed || !c.Slots.Contains(0) {
		t.Fatalf("the allocation is %+v, the claim holds %s", a, c.Slots)
	}
	full = false
	now.Mono += p.tune.RoundMin * 2
	take(TimerFired{})
	if c.Slots.Contains(0) {
		t.Error("it holds its slot for ever, and nobody moves it")
	}
}

// A slot whose release is on its way to the disk is not stopped before it is
// there, whatever a driver lists meanwhile: should the disk refuse it, the slot
// runs on.
func TestListedWhileAReleaseIsUnderWay(t *testing.T) {
	p, now := newTestPeer("a")
	s := intentBy("m", "u", testApp("x"), nil)
	step(p, now, RecordChanged{Table: TableIntents, Key: "default/x", Siblings: [][]byte{Encode(s)}})
	say(p, now, "m", message{Ask: &askMsg{ID: AskID{"m", 1, 1}, UID: "u", Term: Term{1, "m"}, Intent: s, Component: "c", Slots: SlotsOf(0)}})
	c := onlyClaim(t, p)
	id := AllocationID{c.ID, 0}
	step(p, now, WorkChanged{ID: id, State: WorkState{State: AllocRunning}})
	var token uint64
	release := message{Release: &releaseMsg{UID: "u", Term: Term{1, "m"}, Version: c.Version, Claim: c.ID, Order: 1}}
	for _, e := range p.Step(*now, Receive{From: "m", Body: Encode(release)}) {
		if w, ok := e.(Persist); ok {
			token = w.Token
		}
	}
	if token == 0 || !c.Stopping.Contains(0) {
		t.Fatalf("the claim holds %s and stops %s: the test shows nothing", c.Slots, c.Stopping)
	}
	found := []Found{{ID: id, Labels: Labels(id, WorkSpec{UID: "u", Key: c.Key, Component: "c", Spec: c.Spec}), State: WorkState{State: AllocRunning}}}
	for _, e := range p.Step(*now, WorkListed{Driver: c.Spec.Driver(), Work: found}) {
		if stop, ok := e.(Stop); ok {
			t.Errorf("%s is stopped: %s", stop.ID, stop.Reason)
		}
	}
	delete(p.work.allocs, id) // as after a restart of the machine: nothing ran, and nothing was listed
	p.Step(*now, PersistFailed{Token: token, Err: "no space", Full: true})
	if a := p.work.allocs[id]; !c.Slots.Contains(0) || a == nil || a.state.State != AllocStarting {
		t.Errorf("the claim holds %s, and its work is %+v", c.Slots, a)
	}
}

// Of components that failed at one peer each has its own reason, and no reason,
// however it was cut short, makes a report that nobody can read.
func TestFailedEachForItsReason(t *testing.T) {
	p, now := newTestPeer("a")
	claims := map[string]*claim{}
	for _, name := range []string{"counter", "web"} {
		claims[name] = &claim{UID: "u", Component: name}
	}
	counter, web := "pull counter: "+strings.Repeat("é", 300), "pull web: \xff"
	p.out.now = *now
	p.failed(claims["counter"], 0, WorkState{Reason: counter})
	p.failed(claims["web"], 1, WorkState{Reason: web})
	sent := p.report("u", 0)
	var got reportMsg
	if err := Decode(Encode(sent), &got); err != nil {
		t.Fatalf("a report that can't be read: %v", err)
	}
	for name, want := range map[string]string{"counter": "pull counter: éé", "web": "pull web: ?"} {
		if why := got.failedWhy(name); !strings.HasPrefix(why, want) || len(why) > 256 {
			t.Errorf("%s failed for %q", name, why)
		}
	}
	old := reportMsg{Why: "one reason"} // of an older release
	if why := old.failedWhy("web"); why != "one reason" {
		t.Errorf("what an older release says is %q", why)
	}
}
