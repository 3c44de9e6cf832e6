package drivertest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/hansa-mesh/hansa/node/driver"
)

func call(t *testing.T, d *daemon, id string, r *driver.Request) (int, string, error) {
	t.Helper()
	inv, ok := d.Driver.(driver.Invoker)
	if !ok {
		t.Fatalf("driver %s serves functions and is no Invoker", d.Name())
	}
	resp, err := inv.Invoke(t.Context(), id, r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.Status, string(b), err
}

func post(body string) *driver.Request {
	return &driver.Request{
		Method: http.MethodPost, Path: "/", Header: http.Header{},
		Body: strings.NewReader(body), ContentLength: int64(len(body)),
	}
}

func get(header http.Header) *driver.Request {
	return &driver.Request{Method: http.MethodGet, Path: "/", Header: header}
}

var functionTests = []test{
	{"InvokeEcho", func(t *testing.T, m Machine) {
		d := start(t, m)
		d.mustStart(m.Function(t, "c/0"))
		for _, body := range []string{"", "hello", strings.Repeat("0123456789", 20000)} {
			status, got, err := call(t, d, "c/0", post(body))
			if err != nil || status != http.StatusOK || !strings.Contains(got, body) {
				t.Errorf("a body of %d bytes: %d, %d bytes back, %v", len(body), status, len(got), err)
			}
		}
	}},
	{"InvokeUnknownAndStopped", func(t *testing.T, m Machine) {
		d := start(t, m)
		if _, _, err := call(t, d, "c/0", post("")); !errors.Is(err, driver.ErrUnknownTask) {
			t.Errorf("a function that never was: %v, want ErrUnknownTask", err)
		}
		d.mustStart(m.Function(t, "c/0"))
		d.mustStop("c/0", 0)
		if _, _, err := call(t, d, "c/0", post("")); !errors.Is(err, driver.ErrUnknownTask) {
			t.Errorf("a function that was stopped: %v, want ErrUnknownTask", err)
		}
	}},
	{"InvokeWhoseCallerLeft", func(t *testing.T, m Machine) {
		d := start(t, m)
		d.mustStart(m.Function(t, "c/0"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if resp, err := d.Driver.(driver.Invoker).Invoke(ctx, "c/0", post("hello")); !errors.Is(err, context.Canceled) {
			t.Errorf("answered %+v, %v, want the context's error", resp, err)
		}
		if status, _, err := call(t, d, "c/0", post("hello")); err != nil || status != http.StatusOK {
			t.Errorf("the next call: %d, %v", status, err)
		}
	}},
	{"CallsShareNothing", func(t *testing.T, m Machine) {
		d := start(t, m)
		d.mustStart(m.Function(t, "c/0"))
		if _, _, err := call(t, d, "c/0", post("word-of-the-first")); err != nil {
			t.Fatal(err)
		}
		if _, got, err := call(t, d, "c/0", get(http.Header{})); err != nil || strings.Contains(got, "word-of-the-first") {
			t.Errorf("a call sees another's: %q, %v", got, err)
		}
	}},
	{"InvokeConcurrently", func(t *testing.T, m Machine) {
		d := start(t, m)
		d.mustStart(m.Function(t, "c/0"))
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				status, got, err := call(t, d, "c/0", post("hello"))
				if err != nil || (status != http.StatusOK && status != http.StatusServiceUnavailable) {
					t.Errorf("%d %q %v", status, got, err)
				}
			})
		}
		wg.Wait()
	}},
	{"FunctionEnvironment", func(t *testing.T, m Machine) {
		t.Setenv("SECRET_OF_THE_DAEMON", "leaks")
		d := start(t, m)
		task := m.Function(t, "c/0")
		task.Env = map[string]string{"HANSA_SITE": "fra"}
		d.mustStart(task)
		_, got, err := call(t, d, "c/0", get(http.Header{"Authorization": {"bearer-word"}, "Cookie": {"cookie-word"}, "Proxy": {"proxy-word"}}))
		if err != nil || !strings.Contains(got, "HANSA_SITE") || !strings.Contains(got, "fra") {
			t.Errorf("the environment does not reach the function: %q %v", got, err)
		}
		for _, secret := range []string{"SECRET_OF_THE_DAEMON", "bearer-word", "cookie-word", "proxy-word"} {
			if strings.Contains(got, secret) {
				t.Errorf("the function sees %s", secret)
			}
		}
	}},
	{"FunctionsEndWithTheDaemon", func(t *testing.T, m Machine) {
		first := start(t, m)
		if first.Probe(t.Context()).Survives {
			t.Skip("this driver's tasks outlive the daemon")
		}
		task := m.Function(t, "c/0")
		first.mustStart(task)
		first.shutdown()
		if _, _, err := call(t, first, "c/0", post("")); err == nil {
			t.Error("a function answers after Run returned")
		}
		second := start(t, m)
		if all, err := second.List(t.Context()); err != nil || len(all) != 0 {
			t.Errorf("after a restart List has %v, %v", all, err)
		}
		second.mustStart(task)
		if status, _, err := call(t, second, "c/0", post("x")); err != nil || status != http.StatusOK {
			t.Errorf("re-instantiated it answers %d, %v", status, err)
		}
	}},
	{"WarmTwice", func(t *testing.T, m Machine) {
		d := start(t, m)
		w, ok := d.Driver.(driver.Warmer)
		if !ok {
			t.Skip("this driver gains nothing from warming")
		}
		task := m.Function(t, "c/0")
		for range 2 {
			if err := w.Warm(t.Context(), task.Function.Module, task.Artifacts[task.Function.Module]); err != nil {
				t.Errorf("Warm: %v", err)
			}
		}
		d.mustStart(task)
	}},
}
