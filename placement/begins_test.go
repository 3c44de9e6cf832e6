package placement

import (
	"testing"
	"time"
)

// Between an edit and the first step of its roll-out nobody is told that the
// roll-out is done, or that there is none.
func TestRollOutIsKnownFromTheEditOn(t *testing.T) {
	m := newMachine()
	m.do(Submit{Ticket: 1, App: shopOf("1", 3, nil)})
	m.pass(5*time.Second, nil)
	seen := 0
	for queue := []Event{Submit{Ticket: 2, App: shopOf("2", 3, nil)}}; len(queue) > 0; queue = queue[1:] {
		effects := m.p.Step(*m.now, queue[0])
		for _, e := range effects {
			if w, ok := e.(Persist); ok {
				queue = append(queue, Persisted{Token: w.Token})
				continue
			}
			m.take([]Effect{e})
		}
		v, ok := m.p.App(AppKey{"default", "shop"})
		if !ok || v.Intent.App.Components["c"].Env["V"] != "2" {
			continue
		}
		seen++
		r := v.Components[0].Rollout
		if r == nil || r.State != RolloutGoing || r.Version != v.Intent.Version || r.Previous.IsZero() || r.Settled != 0 {
			t.Fatalf("with %s at work the roll-out is %+v", m.at(), r)
		}
	}
	if seen == 0 {
		t.Fatal("the edit is not wanted: this shows nothing")
	}
	m.pass(30*time.Second, nil)
	if r := m.rollout(t); r.State != RolloutDone || m.at() != "map[2:3]" {
		t.Errorf("with %s at work the roll-out is %+v", m.at(), r)
	}
}
