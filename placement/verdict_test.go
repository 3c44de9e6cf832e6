package placement

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// machine is a core with a disk and work that starts at once, or ends at once
// when it is bad.
type machine struct {
	p    *Peer
	now  *Now
	disk map[[2]string][]byte
	runs map[AllocationID]WorkSpec
	bad  func(WorkSpec) bool
	said []Happened
	stop int // Stops so far
}

func newMachine() *machine {
	m := &machine{now: &Now{Wall: time.Unix(1_800_000_000, 0)}, disk: map[[2]string][]byte{}, runs: map[AllocationID]WorkSpec{}}
	m.bad = func(s WorkSpec) bool { return s.Spec.Env["V"] == "bad" }
	m.boot()
	return m
}

// boot starts the daemon on what its disk holds; its work runs on.
func (m *machine) boot() {
	tables := [3]map[string][]byte{{}, {}, {}}
	if m.p != nil {
		for _, a := range m.p.apps {
			tables[0][a.key.String()], tables[1][string(a.uid)] = Encode(a.win.signed), Encode(a.keepers.signed)
		}
	}
	m.p = New(Config{Self: PeerRef{Peer: "a", Incarnation: 1}, Name: "a", Site: "s", Seed: 1})
	for _, t := range m.p.Tables() {
		for at, value := range m.disk {
			if at[0] == t {
				if err := m.p.Load(t, at[1], value); err != nil {
					panic(err)
				}
			}
		}
	}
	for i, name := range []string{TableIntents, TableKeepers} {
		for key, value := range tables[i] {
			m.p.LoadTable(name, key, [][]byte{value})
		}
	}
	m.take(m.p.Begin(*m.now))
	m.do(HostChanged{Host: Host{ID: "h", Arch: "amd64", Drivers: []string{DriverProcess}, Capacity: Resources{CPU: 4000, Memory: 4 << 30}}})
	var found []Found
	for _, id := range slices.SortedFunc(maps.Keys(m.runs), func(a, b AllocationID) int { return a.compare(b) }) {
		found = append(found, Found{ID: id, Labels: Labels(id, m.runs[id]), State: WorkState{State: AllocRunning}, Since: 1})
	}
	m.do(WorkListed{Driver: DriverProcess, Work: found})
}

func (m *machine) do(ev Event) { m.take(m.p.Step(*m.now, ev)) }

func (m *machine) take(effects []Effect) {
	for _, e := range effects {
		switch e := e.(type) {
		case Persist:
			for _, w := range e.Writes {
				if m.disk[[2]string{w.Table, w.Key}] = w.Value; w.Value == nil {
					delete(m.disk, [2]string{w.Table, w.Key})
				}
			}
			m.do(Persisted{Token: e.Token})
		case Start:
			if e.Spec.Spec.Env["V"] == "gone" {
				m.do(WorkChanged{ID: e.ID, State: WorkState{State: AllocFailed, Reason: "no such image", Final: true}})
				continue
			}
			if m.bad(e.Spec) {
				m.do(WorkChanged{ID: e.ID, State: WorkState{State: AllocFailed, Reason: "exit code 7"}})
				continue
			}
			m.runs[e.ID] = e.Spec
			m.do(WorkChanged{ID: e.ID, State: WorkState{State: AllocRunning}})
		case Stop:
			m.stop++
			delete(m.runs, e.ID)
			m.do(WorkChanged{ID: e.ID, State: WorkState{State: AllocStopped}})
		case Record:
			if e.Event != nil {
				m.said = append(m.said, *e.Event)
			}
		}
	}
}

// pass lets time go by, and looks at the mesh meanwhile.
func (m *machine) pass(d time.Duration, look func()) {
	for end := m.now.Mono + d; m.now.Mono < end; {
		m.now.Mono, m.now.Wall = m.now.Mono+100*time.Millisecond, m.now.Wall.Add(100*time.Millisecond)
		m.do(TimerFired{Key: wakeTimer})
		if look != nil {
			look()
		}
	}
}

// at is how many slots run as each version of the environment.
func (m *machine) at() string {
	count := map[string]int{}
	for _, s := range m.runs {
		count[s.Spec.Env["V"]]++
	}
	return fmt.Sprint(count)
}

func (m *machine) rollout(t *testing.T) RolloutView {
	t.Helper()
	v, ok := m.p.App(AppKey{"default", "shop"})
	if !ok || v.Components[0].Rollout == nil {
		t.Fatal("no roll-out is known")
	}
	return *v.Components[0].Rollout
}

func shopOf(env string, slots int, change func(*Component)) App {
	app := testApp("shop")
	c := app.Components["c"]
	healthy, deadline := Duration(2*time.Second), Duration(40*time.Second)
	c.Replicas, c.Env, c.Update = &slots, map[string]string{"V": env}, &Update{MinHealthy: &healthy, Deadline: &deadline}
	if change != nil {
		change(&c)
	}
	app.Components["c"] = c
	return app
}

func TestReplicasAndPolicyRestartNothing(t *testing.T) {
	m := newMachine()
	m.do(Submit{Ticket: 1, App: shopOf("1", 3, nil)})
	m.pass(5*time.Second, nil)
	if got := m.rollout(t); got.State != RolloutDone || m.at() != "map[1:3]" {
		t.Fatalf("%s, %+v", m.at(), got)
	}
	before := maps.Clone(m.runs)
	m.do(Submit{Ticket: 2, App: shopOf("1", 5, func(c *Component) {
		budget, lost := 9, Duration(time.Minute)
		c.Restart = &Restart{Budget: &budget}
		c.Place = Place{Prefer: map[string]int{"site=s": 10}, Spread: "site"}
		c.Disconnect = Disconnect{LostAfter: &lost, Replace: ReplaceAlways}
		c.Update.MaxSurge = number(4)
	})})
	m.pass(10*time.Second, nil)
	if m.stop > 0 || m.at() != "map[1:5]" || m.rollout(t).State != RolloutDone {
		t.Errorf("%d stopped, %s, %+v", m.stop, m.at(), m.rollout(t))
	}
	for id := range before {
		if _, ok := m.runs[id]; !ok {
			t.Errorf("%s was replaced", id)
		}
	}
}

func TestRollOutIsReverted(t *testing.T) {
	m := newMachine()
	m.do(Submit{Ticket: 1, App: shopOf("1", 4, nil)})
	m.pass(5*time.Second, nil)
	m.do(Submit{Ticket: 2, App: shopOf("bad", 4, nil)})
	least := 4
	m.pass(20*time.Second, func() { least = min(least, len(m.runs)) })
	if got := m.rollout(t); got.State != RolloutGoing || least < 3 {
		t.Fatalf("%d of 4 ran meanwhile, %+v", least, got)
	}
	m.pass(60*time.Second, func() { least = min(least, len(m.runs)) })
	got := m.rollout(t)
	if got.State != RolloutReverted || m.at() != "map[1:4]" || least < 3 || got.Settled != 4 {
		t.Fatalf("%d of 4 ran meanwhile, %s, %+v", least, m.at(), got)
	}
	if !strings.Contains(got.Why, "exit code 7") || !strings.Contains(got.Why, "0 of 4 slots healthy") {
		t.Errorf("it does not say why: %q", got.Why)
	}
	if v, _ := m.p.App(AppKey{"default", "shop"}); v.Intent.App.Components["c"].Env["V"] != "bad" {
		t.Error("what people want was edited")
	}
	if open := m.p.Open(); len(open) > 0 {
		t.Errorf("something is open: %q", open)
	}

	// The verdict outlives the daemon, and what follows is as it says.
	ran := maps.Clone(m.runs)
	m.boot()
	m.pass(90*time.Second, nil)
	if got := m.rollout(t); got.State != RolloutReverted || !maps.EqualFunc(ran, m.runs, func(a, b WorkSpec) bool { return true }) {
		t.Fatalf("after a restart: %s, %+v", m.at(), got)
	}
	m.do(Submit{Ticket: 3, App: shopOf("bad", 6, nil)})
	m.pass(5*time.Second, nil)
	if m.at() != "map[1:6]" || m.rollout(t).State != RolloutReverted {
		t.Errorf("scaled: %s, %+v", m.at(), m.rollout(t))
	}

	// The same once more tries again, now that it works.
	m.bad = func(WorkSpec) bool { return false }
	m.do(Submit{Ticket: 4, App: shopOf("bad", 6, nil)})
	m.pass(30*time.Second, nil)
	if m.at() != "map[bad:6]" || m.rollout(t).State != RolloutDone {
		t.Errorf("again: %s, %+v", m.at(), m.rollout(t))
	}
}

func TestRollOutStalls(t *testing.T) {
	never := false
	m := newMachine()
	m.do(Submit{Ticket: 1, App: shopOf("1", 4, nil)})
	m.pass(5*time.Second, nil)
	m.do(Submit{Ticket: 2, App: shopOf("bad", 4, func(c *Component) { c.Update.AutoRevert = &never })})
	m.pass(90*time.Second, nil)
	if got := m.rollout(t); got.State != RolloutStalled || !strings.Contains(got.Why, "exit code 7") || len(m.runs) < 3 {
		t.Fatalf("%s, %+v", m.at(), got)
	}
	if open := m.p.Open(); len(open) == 0 || !strings.Contains(strings.Join(open, " "), "stalled") {
		t.Errorf("nobody is told: %q", open)
	}
	m.do(Submit{Ticket: 3, App: shopOf("2", 4, func(c *Component) { c.Update.AutoRevert = &never })})
	m.pass(60*time.Second, nil)
	if m.at() != "map[2:4]" || m.rollout(t).State != RolloutDone {
		t.Errorf("the next one: %s, %+v", m.at(), m.rollout(t))
	}
}

// A first deploy has nothing to go back to: it is tried for as long as it is wanted.
func TestFirstRollOutStallsAndGoesOn(t *testing.T) {
	m := newMachine()
	broken := true
	m.bad = func(WorkSpec) bool { return broken }
	m.do(Submit{Ticket: 1, App: shopOf("1", 2, nil)})
	m.pass(60*time.Second, nil)
	if got := m.rollout(t); got.State != RolloutStalled {
		t.Fatalf("%+v", got)
	}
	broken = false
	m.pass(10*time.Minute, nil)
	if m.at() != "map[1:2]" || m.rollout(t).State != RolloutDone {
		t.Errorf("%s, %+v", m.at(), m.rollout(t))
	}
}

func TestHistory(t *testing.T) {
	m := newMachine()
	for i := range 14 {
		m.do(Submit{Ticket: uint64(i), App: shopOf(fmt.Sprint(i), 2, nil)})
		m.pass(15*time.Second, nil)
	}
	m.do(Submit{Ticket: 90, App: shopOf("13", 3, nil)})
	m.pass(time.Second, nil)
	m.do(Submit{Ticket: 91, App: shopOf("13", 3, nil)}) // the same
	m.pass(time.Second, nil)
	list, ok := m.p.History(AppKey{"default", "shop"})
	if !ok || len(list) != revisionsMax {
		t.Fatalf("%d revisions, %t", len(list), ok)
	}
	for i, r := range list {
		if want := 15 - i; r.Number != want || r.Current != (i == 0) {
			t.Errorf("revision %d in place %d: %+v", r.Number, i, r)
		}
	}
	if list[0].What != "c: replicas" || list[1].What != "c: env" || list[3].App.Components["c"].Env["V"] != "11" {
		t.Errorf("%q, %q, %v", list[0].What, list[1].What, list[3].App.Components["c"].Env)
	}
}
