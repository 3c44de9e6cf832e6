package wasm_test

import (
	"errors"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/drivertest"
	"github.com/hansa-mesh/hansa/node/driver/wasm"
)

// Whatever its calls do, nothing of a function runs after its deadline, and
// with another right to run it serves again.
func TestCallsEndAtTheDeadline(t *testing.T) {
	never, _ := io.Pipe()
	for _, tc := range []struct {
		name    string
		file    func(testing.TB) string
		request *driver.Request
		begun   bool // the guest sees such a call
	}{
		{"endless loop", asm{code: opForever}.file, get("/"), true},
		{"output without end", asm{text: okHead + "hello", code: cat(opPrint, opLoop(opPrint))}.file, get("/"), true},
		{"long sleep", guest, get("/sleep/3600000"), true},
		{"body that does not come", guest, post("/", never, -1), false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			job := task(t, "c/0", tc.file(t))
			job.Function.Timeout, job.Grace = time.Hour, time.Hour
			d := running(t, wasm.Config{}, job) // which takes its time to compile
			if err := d.Stop(t.Context(), "c/0", -1); err != nil {
				t.Fatal(err)
			}
			job.Fence = &driver.Fence{Number: 7, Until: d.Boottime() + driver.FenceMargin + 10*time.Second} // calls begin until then
			if _, err := d.Start(t.Context(), job); err != nil {
				t.Fatal(err)
			}
			var calls sync.WaitGroup
			for range 4 {
				calls.Go(func() {
					r := *tc.request
					r.Header = http.Header{}
					resp, err := d.Invoke(t.Context(), "c/0", &r)
					if err != nil {
						return // it came too late
					}
					_, _ = io.Copy(io.Discard, resp.Body) // which ends with an error, or was a refusal
					resp.Body.Close()
					if resp.Cause == driver.CauseTimeout {
						t.Errorf("answered %+v", resp)
					}
				})
			}
			drivertest.Eventually(t, "the end", func() bool {
				all, err := d.List(t.Context())
				if err != nil || len(all) != 1 {
					t.Fatal(all, err)
				}
				return all[0].State.Ended()
			})
			calls.Wait()
			all, _ := d.List(t.Context())
			if s := all[0]; !s.Fenced || s.Fence.Number != 7 {
				t.Errorf("it ended as %+v", s)
			}
			if s := d.Stats(); s.InFlight != 0 || s.MemoryBytes != 0 || (s.Calls > 0) != tc.begun {
				t.Errorf("after the deadline: %+v", s)
			}
			if _, err := d.Invoke(t.Context(), "c/0", get("/")); !errors.Is(err, driver.ErrUnknownTask) {
				t.Errorf("a call after the deadline: %v", err)
			}
			job.Fence = &driver.Fence{Number: 8, Until: d.Boottime() + time.Hour}
			if s, err := d.Start(t.Context(), job); err != nil || s.State != driver.StateRunning || s.Starts != 2 {
				t.Errorf("with a lease again: %+v, %v", s, err)
			}
		})
	}
}
