package drivertest

import (
	"testing"

	"github.com/hansa-mesh/hansa/node/driver"
)

var haltTests = []test{
	{"HaltKeepsTheTask", func(t *testing.T, m Machine) {
		d := start(t, m)
		h, ok := d.Driver.(driver.Halter)
		if !ok {
			t.Skip("this driver keeps nothing that a restart would find")
		}
		if err := h.Halt(t.Context(), "never/0", 0); err != nil {
			t.Errorf("Halt of what is not there: %v", err)
		}
		task := m.some(t, "c/0")
		for turn := 1; turn <= 2; turn++ {
			if s := d.mustStart(task); s.State != driver.StateRunning || s.Starts != turn {
				t.Fatalf("start %d answered %+v", turn, s)
			}
			for range 2 { // what has ended is halted
				if err := h.Halt(t.Context(), task.ID, 0); err != nil {
					t.Fatalf("Halt: %v", err)
				}
			}
			s, listed := d.status(task.ID)
			if !listed || !s.State.Ended() || s.Labels["app"] != "shop" {
				t.Fatalf("after Halt it is listed as %+v", s)
			}
			if m.Leftovers != nil && m.Leftovers(t) != 0 {
				t.Fatalf("%d tasks run after Halt", m.Leftovers(t))
			}
		}
		d.mustStop(task.ID, 0)
		if s, listed := d.status(task.ID); listed {
			t.Errorf("after Stop it is listed as %+v", s)
		}
	}},
}
