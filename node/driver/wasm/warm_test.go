package wasm_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/drivertest"
	"github.com/hansa-mesh/hansa/node/driver/wasm"
)

// One instance answers one call after another, and what it keeps it has.
func TestWarmInstanceStays(t *testing.T) {
	d := running(t, wasm.Config{}, warmTask(t, "c/0"))
	if s := d.Stats(); s.Idle != 1 || s.InFlight != 0 {
		t.Errorf("before the first call: %+v", s)
	}
	for i := range 3 {
		if got := invoke(t, d, "c/0", get("/calls")); got.status != 200 || got.body != fmt.Sprint(i+1) {
			t.Errorf("call %d: %+v", i, got)
		}
	}
	// What a call leaves of its body is not the next one's.
	for _, body := range []string{"10:not a head", strings.Repeat("x", 300_000)} {
		if got := invoke(t, d, "c/0", post("/unread", strings.NewReader(body), int64(len(body)))); got.status != 200 {
			t.Errorf("%+v", got)
		}
	}
	if got := invoke(t, d, "c/0", get("/calls")); got.body != "6" {
		t.Errorf("after bodies that nobody read: %+v", got)
	}
	contains(t, "the log", drivertest.LogText(t, d, "c/0"), "stdout F begins")
	if err := d.Stop(t.Context(), "c/0", -1); err != nil {
		t.Fatal(err)
	}
	if s := d.Stats(); s != (wasm.Stats{Calls: s.Calls, Compiles: s.Compiles}) {
		t.Errorf("after the stop: %+v", s)
	}
}

// The request is the same that other functions have in their environment.
func TestWarmRequest(t *testing.T) {
	job := warmTask(t, "c/0")
	job.Env = map[string]string{"HANSA_SITE": "fra"}
	d := running(t, wasm.Config{RequestMax: 8 << 20}, job)
	r := &driver.Request{
		Method: "GET", ScriptName: "/v1/functions/default/shop/api", Path: "/goods/a\nREMOTE_ADDR=forged", RawQuery: "a=1",
		Host: "shop.example:8443", RemoteAddr: "192.0.2.1:5555", Header: http.Header{"X-Request-Id": {"7"}, "Cookie": {"no"}},
	}
	got := invoke(t, d, "c/0", r)
	contains(t, "the variables", got.body, "HANSA_SITE=fra\n", "SCGI=1\n", "REQUEST_METHOD=GET\n", "QUERY_STRING=a=1\n",
		"REMOTE_ADDR=192.0.2.1\n", "HTTP_X_REQUEST_ID=7\n", "CONTENT_LENGTH=0\n")
	if strings.Contains(got.body, "HTTP_COOKIE") {
		t.Errorf("the guest sees a cookie: %s", got.body)
	}
	for _, tc := range []struct {
		size, length int64
		status       int
		want         string
	}{
		{10, 10, 200, `10 <nil> "10"`},
		{10, -1, 200, `10 <nil> "10"`},
		{4 << 20, 4 << 20, 200, `4194304 <nil> "4194304"`},
		{4 << 20, -1, 200, `4194304 <nil> ""`},
		{9 << 20, 9 << 20, 413, "over the limit"},
		{9 << 20, -1, 413, "over the limit"},
	} {
		r := post("/count", io.LimitReader(neverEnding('x'), tc.size), tc.length)
		if got := invoke(t, d, "c/0", r); got.status != tc.status || !strings.Contains(got.body, tc.want) {
			t.Errorf("%d of %d bytes: %+v, want %d %s", tc.size, tc.length, got, tc.status, tc.want)
		}
	}
	if got := invoke(t, d, "c/0", get("/big/3000")); got.err != nil || len(got.body) != 3000<<10 {
		t.Errorf("a large answer: %d bytes, %v", len(got.body), got.err)
	}
}

// An instance whose call went wrong is gone, and the next call has another.
func TestWarmInstanceIsReplaced(t *testing.T) {
	for _, tc := range []struct {
		path   string
		status int
		cause  driver.Cause
		detail string
	}{
		{"/exit/7", 500, driver.CauseCrash, "exited with code 7"},
		{"/answer-and-exit", 200, "", "bye"},
		{"/panic", 500, driver.CauseCrash, ""},
		{"/spin", 504, driver.CauseTimeout, "timeout of 2s"},
		{"/sleep/60000", 504, driver.CauseTimeout, "timeout of 2s"},
		{"/nothing", 502, driver.CauseBad, "without an answer"},
		{"/hold/100", 507, driver.CauseMemory, "64 MiB"},
	} {
		t.Run(tc.path, func(t *testing.T) {
			t.Parallel()
			job := warmTask(t, "c/0")
			job.Function.Timeout = 2 * time.Second // within which the calls that end do so
			d := running(t, wasm.Config{}, job)
			if got := invoke(t, d, "c/0", get("/calls")); got.body != "1" {
				t.Fatalf("%+v", got)
			}
			got := invoke(t, d, "c/0", get(tc.path))
			if got.status != tc.status || got.cause != tc.cause || !strings.Contains(got.body, tc.detail) {
				t.Errorf("got %+v, want %d %q with %q", got, tc.status, tc.cause, tc.detail)
			}
			if s := d.Stats(); s.Idle != 0 || s.InFlight != 0 || s.MemoryBytes != 0 {
				t.Errorf("after it: %+v", s)
			}
			if got := invoke(t, d, "c/0", get("/calls")); got.body != "1" {
				t.Errorf("the next call came to the same instance: %+v", got)
			}
		})
	}
}

// A caller that goes away ends its call, and the instance with it.
func TestWarmCallerLeaves(t *testing.T) {
	d := running(t, wasm.Config{}, warmTask(t, "c/0"))
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := d.Invoke(ctx, "c/0", &driver.Request{Method: "GET", Path: "/sleep/60000"})
		gone <- err
	}()
	drivertest.Eventually(t, "the call to begin", func() bool { return d.Stats().InFlight == 1 })
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	resp, err := d.Invoke(t.Context(), "c/0", &driver.Request{Method: "GET", Path: "/big/3000"})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close() // in the midst of it
	if s := d.Stats(); s.InFlight != 0 || s.MemoryBytes != 0 || s.Canceled == 0 {
		t.Errorf("%+v", s)
	}
	if got := invoke(t, d, "c/0", get("/calls")); got.body != "1" {
		t.Errorf("%+v", got)
	}
}

// hold begins a call that takes so many MiB and lasts until the pipe is closed.
func hold(t *testing.T, d *wasm.Driver, mib int) (end func()) {
	t.Helper()
	pr, pw := io.Pipe()
	go pw.Write(make([]byte, readAhead))
	resp, err := d.Invoke(t.Context(), "c/0", post(fmt.Sprintf("/hold/%d", mib), pr, -1))
	if err != nil {
		t.Fatal(err)
	}
	if resp.Status != 200 {
		t.Fatalf("a call that holds %d MiB: %d", mib, resp.Status)
	}
	return func() {
		pw.Close()
		if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "holding\n" {
			t.Errorf("%q %v", b, err)
		}
		resp.Body.Close()
	}
}

// Instances come as calls do, stay for the next ones, and go when nobody has
// wanted them for long, but for one.
func TestWarmGrowsAndShrinks(t *testing.T) {
	d := running(t, wasm.Config{IdleMax: 200 * time.Millisecond}, warmTask(t, "c/0"))
	var ends []func()
	for range 4 {
		ends = append(ends, hold(t, d, 0))
	}
	if s := d.Stats(); s.InFlight != 4 || s.Idle != 0 {
		t.Errorf("with four calls: %+v", s)
	}
	for _, end := range ends {
		end()
	}
	many := d.Stats()
	drivertest.Eventually(t, "one instance to be left", func() bool {
		s := d.Stats()
		return s.InFlight == 0 && s.Idle == 1 && s.MemoryBytes < many.MemoryBytes/2
	})
}

// Idle instances make room for one at work that grows, and calls that find
// neither an instance nor memory wait for either.
func TestWarmMemory(t *testing.T) {
	d := running(t, wasm.Config{QueueMax: 1, QueueWait: 20 * time.Second}, warmTask(t, "c/0"))
	first, second := hold(t, d, 0), hold(t, d, 0)
	first()
	second()
	if s := d.Stats(); s.Idle != 2 {
		t.Fatalf("%+v", s)
	}
	large := hold(t, d, 60) // of 64
	if s := d.Stats(); s.Idle != 0 || s.InFlight != 1 || s.MemoryBytes < 60<<20 {
		t.Errorf("what was idle did not make room: %+v", s)
	}
	large()
	large = hold(t, d, 1) // in the instance that grew, which leaves no room for what is usual
	waiting := make(chan answer)
	go func() { waiting <- invoke(t, d, "c/0", get("/calls")) }()
	drivertest.Eventually(t, "a call to wait", func() bool { return d.Stats().Queued == 1 })
	if got := invoke(t, d, "c/0", get("/calls")); got.status != 503 || got.cause != driver.CauseBusy {
		t.Errorf("past the queue: %+v", got)
	}
	large()
	if got := <-waiting; got.status != 200 || got.body == "1" {
		t.Errorf("the one that waited: %+v, want it to have the same instance", got)
	}
	if s := d.Stats(); s.Idle != 1 || s.InFlight != 0 || s.MemoryBytes < 60<<20 {
		t.Errorf("an instance has what it grew to: %+v", s)
	}
}

// Many calls at once find as many instances as can grow to what calls need, once
// some have shown that: none fails because others were let in beside it.
func TestWarmBurst(t *testing.T) {
	d := running(t, wasm.Config{QueueWait: 20 * time.Second}, warmTask(t, "c/0"))
	for round := range 3 {
		var wg sync.WaitGroup
		for range 40 {
			wg.Go(func() {
				body := strings.Repeat("x", 10_000)
				if got := invoke(t, d, "c/0", post("/hold/1", strings.NewReader(body), -1)); got.status != 200 && (round > 0 || got.cause != driver.CauseMemory) {
					t.Errorf("round %d: %+v", round, got)
				}
			})
		}
		wg.Wait()
	}
	s := d.Stats()
	t.Logf("%d instances with %d MiB", s.Idle, s.MemoryBytes>>20)
	if s.Idle < 2 || s.MemoryBytes > 64<<20 || s.Queued != 0 || s.InFlight != 0 {
		t.Errorf("%+v", s)
	}
}

// Nothing of an exclusive function is left after its deadline, be it at work or
// idle.
func TestWarmEndsAtTheDeadline(t *testing.T) {
	job := warmTask(t, "c/0")
	d := running(t, wasm.Config{}, job) // which takes its time to compile
	if err := d.Stop(t.Context(), "c/0", -1); err != nil {
		t.Fatal(err)
	}
	job.Fence = &driver.Fence{Number: 7, Until: d.Boottime() + driver.FenceMargin + 3*time.Second}
	job.Function.Timeout = time.Hour
	if _, err := d.Start(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	first, second := hold(t, d, 0), hold(t, d, 0)
	second()
	drivertest.Eventually(t, "the end", func() bool {
		all, err := d.List(t.Context())
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		return all[0].State.Ended() && all[0].Fenced
	})
	_ = first // it never ends by itself
	if s := d.Stats(); s.InFlight != 0 || s.Idle != 0 || s.MemoryBytes != 0 {
		t.Errorf("after the deadline: %+v", s)
	}
}

// A guest that can't begin is told of at the start, in words.
func TestWarmCannotBegin(t *testing.T) {
	for init, want := range map[string]string{"exit": "_initialize", "hold": "64 MiB"} {
		t.Run(init, func(t *testing.T) {
			job := warmTask(t, "c/0")
			job.Env = map[string]string{"INIT": init}
			d := open(t, wasm.Config{})
			if _, err := d.Start(t.Context(), job); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
			if s := d.Stats(); s.Functions != 0 || s.MemoryBytes != 0 {
				t.Errorf("%+v", s)
			}
		})
	}
	job := warmTask(t, "c/0")
	job.Env = map[string]string{"INIT": "spin"}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := open(t, wasm.Config{}).Start(ctx, job); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("one that never is ready: %v", err)
	}
}

// Hostile handlers end in an answer with a reason, as other functions do.
func TestHostileHandlers(t *testing.T) {
	for _, tc := range []struct {
		name   string
		a      asm
		status int
		cause  driver.Cause
		stays  bool
	}{
		{"an answer", asm{text: okHead + "ok", code: opPrint}, 200, "", true},
		{"endless loop", asm{code: opForever}, 504, driver.CauseTimeout, false},
		{"trap", asm{code: opTrap}, 500, driver.CauseCrash, false},
		{"memory, and goes on", asm{text: okHead + "ok", code: cat(opGrow, opPrint)}, 200, "", false},
		{"endless headers", asm{text: "X: " + strings.Repeat("y", 1000) + "\n", code: opLoop(opPrint)}, 502, driver.CauseBad, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.a.start = "handle"
			job := task(t, "c/0", tc.a.file(t))
			job.Function.Handler, job.Memory = "handle", 1<<20
			if tc.status == http.StatusGatewayTimeout {
				job.Function.Timeout = 300 * time.Millisecond
			}
			d := running(t, wasm.Config{}, job)
			for range 2 {
				if got := invoke(t, d, "c/0", get("/")); got.status != tc.status || got.cause != tc.cause {
					t.Fatalf("got %+v, want %d %q", got, tc.status, tc.cause)
				}
				if s := d.Stats(); s.InFlight != 0 || s.Idle == 1 != tc.stays {
					t.Errorf("after the call: %+v", s)
				}
			}
		})
	}
}

// What can't have a handler is refused before it runs.
func TestCheckHandler(t *testing.T) {
	reactor := asm{start: "handle", code: opPrint}
	for _, tc := range []struct {
		name, path, handler, want string
	}{
		{"a reactor", reactor.file(t), "handle", ""},
		{"a reactor without a handler", reactor.file(t), "", "no function _start"},
		{"another handler", reactor.file(t), "serve", `"serve"`},
		{"a command", asm{code: opPrint}.file(t), "_start", "exports _start"},
		{"a memory", reactor.file(t), "memory", `"memory"`},
	} {
		f, err := os.Open(tc.path)
		if err != nil {
			t.Fatal(err)
		}
		err = wasm.CheckModule(f, tc.handler)
		f.Close()
		job := task(t, "c/0", tc.path)
		job.Function.Handler = tc.handler
		_, startErr := open(t, wasm.Config{}).Start(t.Context(), job)
		if tc.want == "" {
			if err != nil || startErr != nil {
				t.Errorf("%s: %v, %v", tc.name, err, startErr)
			}
			continue
		}
		if !errors.Is(err, driver.ErrInvalid) || !strings.Contains(err.Error(), tc.want) || !errors.Is(startErr, driver.ErrInvalid) {
			t.Errorf("%s: %v, and at the start %v, want %q", tc.name, err, startErr, tc.want)
		}
	}
	job := task(t, "c/0", asm{start: "handle", takes: 2, code: opPrint}.file(t))
	job.Function.Handler = "handle"
	if _, err := open(t, wasm.Config{}).Start(t.Context(), job); !errors.Is(err, driver.ErrInvalid) {
		t.Errorf("a handler that takes a number: %v", err)
	}
}

// Many callers at one time get each their own answer, whatever fails between.
func TestWarmUnderLoad(t *testing.T) {
	d := running(t, wasm.Config{ConcurrencyMax: 4, QueueWait: 20 * time.Second}, warmTask(t, "c/0"))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 25 {
				word := fmt.Sprintf("%d-%d", i, j)
				if j%10 == 9 {
					if got := invoke(t, d, "c/0", get("/exit/1")); got.status != 500 {
						t.Errorf("%+v", got)
					}
				} else if got := invoke(t, d, "c/0", post("/", strings.NewReader(word), -1)); got.status != 200 || got.body != word {
					t.Errorf("the answer to %s is %+v", word, got)
				}
			}
		})
	}
	wg.Wait()
	if s := d.Stats(); s.InFlight != 0 || s.Queued != 0 || s.Idle > 4 || s.Crashes != 16 {
		t.Errorf("%+v", s)
	}
}
