package wasm_test

import (
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/wasm"
)

// Requests are counted by component, by how they ended and by how long that
// took, and the count does not go down when one of several functions ends.
func TestRequestsAreCounted(t *testing.T) {
	job := warmTask(t, "c/0")
	job.Env = map[string]string{"HANSA_NAMESPACE": "default", "HANSA_APP": "shop", "HANSA_COMPONENT": "api"}
	job.Function.Timeout = 2 * time.Second
	d := running(t, wasm.Config{}, job)
	second, other := job.Clone(), task(t, "d/0", asm{text: okHead + "ok", code: opPrint}.file(t))
	second.ID = "c/1"
	for _, more := range []driver.Task{second, other} {
		if _, err := d.Start(t.Context(), more); err != nil {
			t.Fatal(err)
		}
	}
	for _, call := range []struct{ id, path string }{
		{"c/0", "/calls"}, {"c/0", "/calls"}, {"c/1", "/calls"}, {"c/1", "/exit/1"}, {"c/0", "/spin"}, {"d/0", "/"},
	} {
		invoke(t, d, call.id, get(call.path))
	}
	all := d.Requests()
	if len(all) != 2 || all[0].Component != "" || all[1].Component != "api" {
		t.Fatalf("%+v", all)
	}
	cold, r := all[0], all[1]
	if cold.Outcomes[driver.OutcomeAnswered] != 1 || cold.Count != 1 || cold.Busy+cold.Idle != 0 {
		t.Errorf("%+v", cold)
	}
	if r.Outcomes[driver.OutcomeAnswered] != 3 || r.Outcomes["crash"] != 1 || r.Outcomes["timeout"] != 1 || r.Count != 5 {
		t.Errorf("%+v", r)
	}
	if r.Idle != 0 || r.Busy != 0 || r.Queued != 0 || r.Memory != 0 {
		t.Errorf("both lost their instance with the last call: %+v", r)
	}
	// One took 2 s at the least, of which a guest that burns CPU was on
	// a core for some; the others are within half a minute.
	if last := r.Within[len(r.Within)-1]; last != 5 || r.Sum < 2*time.Second || r.CPU <= 0 || r.CPU > r.Sum {
		t.Errorf("times: %+v", r)
	}
	for i, n := range r.Within {
		if driver.RequestBounds[i] < 2 && n > 4 || i > 0 && n < r.Within[i-1] {
			t.Errorf("within %v s are %d: %v", driver.RequestBounds[i], n, r.Within)
		}
	}
	invoke(t, d, "c/0", get("/calls"))
	used, err := d.Usage(t.Context())
	if err != nil || len(used) != 3 || used["c/0"].Requests != 4 || used["c/0"].Memory < 1<<20 || used["c/1"].Memory != 0 || used["c/1"].Requests != 2 || used["d/0"].Requests != 1 || used["c/0"].CPU <= 0 || used["c/0"].At.IsZero() {
		t.Errorf("%+v %v", used, err)
	}
	if err := d.Stop(t.Context(), "c/0", -1); err != nil {
		t.Fatal(err)
	}
	if all := d.Requests(); all[1].Count != 6 {
		t.Errorf("after one of two has ended: %+v", all)
	}
	if err := d.Stop(t.Context(), "c/1", -1); err != nil {
		t.Fatal(err)
	}
	if all := d.Requests(); len(all) != 1 {
		t.Errorf("after both have ended: %+v", all)
	}
}
