package driver_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

func process(command ...string) driver.Task {
	return driver.Task{ID: "c/0", Process: &driver.Process{Command: command}}
}

func TestValidate(t *testing.T) {
	good := process("true")
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*driver.Task){
		"no id":             func(t *driver.Task) { t.ID = "" },
		"long id":           func(t *driver.Task) { t.ID = strings.Repeat("x", driver.IDBytesMax+1) },
		"nothing to run":    func(t *driver.Task) { t.Process = nil },
		"two things to run": func(t *driver.Task) { t.Function = &driver.Function{} },
		"negative memory":   func(t *driver.Task) { t.Memory = -1 },
		"no command":        func(t *driver.Task) { t.Process.Command = nil },
		"empty command":     func(t *driver.Task) { t.Process.Command = []string{""} },
		"NUL in command":    func(t *driver.Task) { t.Process.Command = []string{"a", "b\x00"} },
		"long command":      func(t *driver.Task) { t.Process.Command = make([]string, driver.CommandMax+1) },
		"missing artifact":  func(t *driver.Task) { t.Process.Artifact = "sha256:00" },
		"bad variable":      func(t *driver.Task) { t.Env = map[string]string{"A=B": ""} },
		"NUL in a variable": func(t *driver.Task) { t.Env = map[string]string{"A": "\x00"} },
		"large environment": func(t *driver.Task) { t.Env = map[string]string{"A": strings.Repeat("x", driver.EnvBytesMax)} },
		"port 0":            func(t *driver.Task) { t.Ports = map[string]driver.Port{"http": {}} },
		"port of words":     func(t *driver.Task) { t.Ports = map[string]driver.Port{"http": {Host: "1.2.3.4:http"}} },
		"missing module":    func(t *driver.Task) { t.Process, t.Function = nil, &driver.Function{Module: "sha256:00"} },
	} {
		task := good.Clone()
		change(&task)
		if err := task.Validate(); !errors.Is(err, driver.ErrInvalid) {
			t.Errorf("%s: %v, want ErrInvalid", name, err)
		}
	}
}

func TestExpandCommand(t *testing.T) {
	task := process("./meter", "--port=${port.http}", "${port.http}${port.x-y}", "$HOME", "$${port.http}", "${", "$")
	task.Ports = map[string]driver.Port{"http": {Inside: 9000, Host: "10.0.0.1:20001"}, "x-y": {Inside: 81}}
	got, err := task.ExpandCommand()
	want := []string{"./meter", "--port=20001", "2000181", "$HOME", "${port.http}", "${", "$"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v, want %q", got, err, want)
	}
	if task.Process.Command[1] != "--port=${port.http}" {
		t.Error("the task itself was changed")
	}
	for _, bad := range []string{"${port.other}", "${HOME}", "${}"} {
		task.Process.Command = []string{bad}
		if got, err := task.ExpandCommand(); !errors.Is(err, driver.ErrInvalid) {
			t.Errorf("%s: %q, %v, want ErrInvalid", bad, got, err)
		}
	}
	env := task.Environment()
	if env["HANSA_PORT_HTTP"] != "20001" || env["HANSA_PORT_X_Y"] != "81" {
		t.Errorf("%v", env)
	}
}

func TestSafeIDIsInjective(t *testing.T) {
	seen := map[string]string{}
	for _, id := range []string{
		"", ".", "..", "/", "c/0", "c.0", "c_0", "c/0/", "/c/0", "-c", "C/0", "c/ü", "c/\x00", "c 0",
		strings.Repeat("x", 300), strings.Repeat("x", 301), "peer.1.2/17", "a/../b",
	} {
		s := driver.SafeID(id)
		if other, ok := seen[s]; ok {
			t.Errorf("%q and %q are both %q", id, other, s)
		}
		seen[s] = id
		if s == "" || len(s) > 100 || s[0] == '.' || s[0] == '-' || strings.ContainsAny(s, "/\x00 ") {
			t.Errorf("%q becomes %q", id, s)
		}
	}
}

func FuzzParseLogLine(f *testing.F) {
	f.Add("2026-01-02T15:04:05.000000006Z stdout F listening on :8080")
	f.Add("2026-01-02T15:04:05Z stderr P ")
	f.Fuzz(func(t *testing.T, s string) {
		l, err := driver.ParseLogLine(s)
		if err != nil || strings.ContainsAny(s, "\n") || l.Time.UTC().Year() > 9999 || l.Time.UTC().Year() < 0 {
			return
		}
		again, err := driver.ParseLogLine(string(l.Append(nil)))
		if err != nil || !again.Time.Equal(l.Time) || again.Stream != l.Stream || again.Text != l.Text || again.Partial != l.Partial {
			t.Errorf("%q parses as %+v, then as %+v, %v", s, l, again, err)
		}
	})
}

// A slow receiver gets the latest state of each task, in order, and no more
// than one event waits for each.
func TestOutboxIsLevelTriggered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		gate := make(chan struct{})
		o := driver.NewOutbox("test", func(e driver.Event) {
			got = append(got, e.Status.ID+":"+string(e.Status.State))
			<-gate
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); o.Run(ctx) }()
		o.Post(driver.Status{ID: "a", State: driver.StateRunning})
		synctest.Wait() // it is in the receiver
		for _, s := range []driver.State{driver.StateRunning, driver.StateStopping, driver.StateExited} {
			o.Post(driver.Status{ID: "b", State: s})
		}
		o.Post(driver.Status{ID: "a", State: driver.StateExited})
		for range 3 {
			gate <- struct{}{}
		}
		synctest.Wait()
		cancel()
		<-done
		if want := []string{"a:running", "b:exited", "a:exited"}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	})
}

// A body that breaks off reaches the client as a broken connection, never as
// a whole answer.
func TestWriteHTTPBreaksOff(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 10) // as servers do
		req := driver.RequestFromHTTP(r, "/v1/f")
		if req.Path != "/x" || req.ScriptName != "/v1/f" || req.RawQuery != "q=1" || req.Body != nil {
			t.Errorf("%+v", req)
		}
		resp := driver.Busy("later", 1500*time.Millisecond)
		if r.Header.Get("X-Break") != "" {
			resp.Header.Del("Content-Length")
			resp.Body = io.NopCloser(io.MultiReader(strings.NewReader("half"), breaks{}))
		}
		resp.WriteHTTP(w)
	}))
	defer server.Close()
	get := func(header string) (*http.Response, string, error) {
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/v1/f/x?q=1", nil)
		if header != "" {
			req.Header.Set(header, "1")
		}
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		return resp, string(b), err
	}
	resp, body, err := get("")
	if err != nil || resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "2" || !strings.Contains(body, `"detail":"later"`) {
		t.Errorf("%v %q %v", resp, body, err)
	}
	if _, body, err := get("X-Break"); err == nil {
		t.Errorf("a broken body came as %q, with no error", body)
	}
}

// What a function did not say is not guessed: it could be made to look like a
// page.
func TestWriteHTTPGuessesNoType(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		(&driver.Response{Status: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("<html>"))}).WriteHTTP(w)
	}))
	defer server.Close()
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.Header["Content-Type"]; len(got) != 0 {
		t.Errorf("Content-Type %q", got)
	}
}

type breaks struct{}

func (breaks) Read([]byte) (int, error) { return 0, errors.New("the function died") }
