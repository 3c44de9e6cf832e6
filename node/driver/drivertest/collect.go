package drivertest

import (
	"testing"

	"github.com/hansa-mesh/hansa/node/driver"
)

var collectTests = []test{
	{"CollectsOnlyWhatIsGone", func(t *testing.T, m Machine) {
		d := start(t, m)
		c, ok := d.Driver.(driver.Collector)
		if !ok {
			t.Fatalf("driver %s leaves things behind and is no Collector", d.Name())
		}
		d.mustStart(m.some(t, "runs/0"))
		for _, id := range []string{"gone/0", "unknown/0"} {
			m.Litter(t, id)
			if !m.Littered(t, id) {
				t.Fatalf("nothing is left of %s: this test shows nothing", id)
			}
		}
		collect := func(gone ...string) {
			t.Helper()
			err := c.Collect(t.Context(), func(id string) bool {
				for _, g := range gone {
					if g == id {
						return true
					}
				}
				return false
			})
			if err != nil {
				t.Fatalf("Collect: %v", err)
			}
		}
		collect() // absence from every list is no evidence
		if !m.Littered(t, "gone/0") || !m.Littered(t, "unknown/0") {
			t.Error("what nobody said is gone was removed")
		}
		collect("gone/0")
		if m.Littered(t, "gone/0") {
			t.Error("what is gone is still there")
		}
		if !m.Littered(t, "unknown/0") {
			t.Error("what nobody knows was removed")
		}
		if s, ok := d.status("runs/0"); !ok || s.State != driver.StateRunning {
			t.Errorf("what runs is %+v", s)
		}
		collect("gone/0", "unknown/0")
		if m.Littered(t, "unknown/0") {
			t.Error("what is gone now is still there")
		}
		d.mustStop("runs/0", -1)
	}},
}
