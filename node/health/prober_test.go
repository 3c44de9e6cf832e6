package health

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

func httpCheck() placement.Health {
	return placement.Health{HTTP: &placement.HTTPCheck{Path: "/healthz"}, Interval: placement.Duration(10 * time.Second),
		Timeout: placement.Duration(2 * time.Second), StartPeriod: placement.Duration(time.Minute), Threshold: 3}
}

// A Watch tells of each change once, in order, and ends with the last.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var status atomic.Int32
		status.Store(http.StatusServiceUnavailable)
		s := Subject{Check: httpCheck(), Began: time.Now(), Call: func(context.Context, string) (int, bool, error) { return int(status.Load()), false, nil }}
		var mu sync.Mutex // guards reports
		var reports []Report
		done := make(chan struct{})
		go func() {
			defer close(done)
			NewProber().Watch(t.Context(), s, func(r Report) {
				mu.Lock()
				defer mu.Unlock()
				reports = append(reports, r)
			})
		}()
		var got []Report
		states := func() string {
			synctest.Wait()
			mu.Lock()
			got = slices.Clone(reports)
			mu.Unlock()
			var out []string
			for _, r := range got {
				if len(out) == 0 || out[len(out)-1] != string(r.State) {
					out = append(out, string(r.State))
				}
			}
			return strings.Join(out, " ")
		}
		time.Sleep(30 * time.Second)
		if states() != "starting" || !strings.Contains(got[len(got)-1].Reason, "GET /healthz: status 503") {
			t.Fatalf("after 30s: %+v", got)
		}
		if len(got) > 8 {
			t.Errorf("%d reports of one state", len(got))
		}
		status.Store(http.StatusFound)
		time.Sleep(11 * time.Second)
		if states() != "starting healthy" {
			t.Fatalf("after a success: %+v", got)
		}
		status.Store(http.StatusInternalServerError)
		time.Sleep(40 * time.Second)
		if states() != "starting healthy unhealthy" {
			t.Fatalf("after failures: %+v", got)
		}
		<-done
		if states() != "starting healthy unhealthy over" || !strings.Contains(got[len(got)-1].Reason, "unhealthy: 6 checks in a row failed") {
			t.Fatalf("at the end: %+v", got)
		}
	})
}

// What is ready soon is seen soon, whatever the interval.
func TestReadySoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		h := httpCheck()
		h.Interval = placement.Duration(5 * time.Minute)
		s := Subject{Check: h, Began: began, Call: func(context.Context, string) (int, bool, error) {
			if time.Since(began) < 3*time.Second {
				return 503, false, nil
			}
			return 200, false, nil
		}}
		ctx, cancel := context.WithCancel(t.Context())
		NewProber().Watch(ctx, s, func(r Report) {
			if r.State == Healthy {
				cancel()
			}
		})
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("seen after %v", took)
		}
	})
}

// A check that never answers costs its timeout, and holds up no other: a
// thousand of them included.
func TestChecksThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		prober := NewProber()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		var begun, unhealthy atomic.Int32
		const hanging = 1000
		h := httpCheck()
		h.StartPeriod = placement.Duration(time.Nanosecond)
		for range hanging {
			s := Subject{Check: h, Began: time.Now(), Call: func(context.Context, string) (int, bool, error) {
				begun.Add(1)
				<-release // whatever its context says
				return 200, false, nil
			}}
			go func() {
				seen := false
				prober.Watch(ctx, s, func(r Report) {
					if r.State == Unhealthy && !seen {
						seen = true
						unhealthy.Add(1)
					}
				})
				ended <- struct{}{}
			}()
		}
		var checks atomic.Int32
		go func() {
			s := Subject{Check: httpCheck(), Began: time.Now(), Call: func(context.Context, string) (int, bool, error) { checks.Add(1); return 200, false, nil }}
			prober.Watch(ctx, s, func(Report) {})
			ended <- struct{}{}
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := checks.Load(); n < 4 {
			t.Errorf("the one that answers was checked %d times in a minute", n)
		}
		if n := unhealthy.Load(); n != hanging {
			t.Errorf("%d of %d are found unhealthy", n, hanging)
		}
		if n := begun.Load(); n != hanging {
			t.Errorf("%d checks were begun beside %d that hang", n, hanging)
		}
		cancel()
		close(release)
		for range hanging + 1 {
			<-ended
		}
		synctest.Wait()
	})
}

// A function that is busy with others is neither well nor ill.
func TestBusyIsNoVerdict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		defer cancel()
		s := Subject{Check: httpCheck(), Began: time.Now(), Trusted: true, Call: func(context.Context, string) (int, bool, error) { return 503, true, nil }}
		NewProber().Watch(ctx, s, func(r Report) {
			if r.State != Healthy {
				t.Errorf("reported %+v", r)
			}
		})
	})
}

// The checks over a real network.
func TestChecks(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a redirect was followed") }))
	defer elsewhere.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			if r.UserAgent() != UserAgent {
				w.WriteHeader(http.StatusBadRequest)
			}
		case "/moved":
			http.Redirect(w, r, elsewhere.URL, http.StatusFound)
		case "/endless":
			for r.Context().Err() == nil {
				_, _ = w.Write(make([]byte, 32<<10))
			}
		case "/gone":
			w.WriteHeader(http.StatusGone)
		case "/breaks":
			panic(http.ErrAbortHandler)
		case "/hangs":
			<-r.Context().Done()
		}
	}))
	defer server.Close()
	addr := server.Listener.Addr().String()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := closed.Addr().String()
	closed.Close()
	t.Setenv("HTTP_PROXY", "http://"+nobody)
	get := func(path string) placement.Health { return placement.Health{HTTP: &placement.HTTPCheck{Path: path}} }
	tcp := placement.Health{TCP: &placement.TCPCheck{Port: "web"}}
	sh := placement.Health{Exec: &placement.ExecCheck{Command: []string{"probe"}}}
	exec := func(code int, output string, err error) func(context.Context, []string) (int, string, error) {
		return func(context.Context, []string) (int, string, error) { return code, output, err }
	}
	for _, c := range []struct {
		name string
		s    Subject
		want string // in the failure; "" is success
	}{
		{"http", Subject{Check: get("/ok"), Ports: map[string]string{"web": addr}}, ""},
		{"a redirect is an answer", Subject{Check: get("/moved"), Ports: map[string]string{"web": addr}}, ""},
		{"an endless answer", Subject{Check: get("/endless"), Ports: map[string]string{"web": addr}}, ""},
		{"a bad status", Subject{Check: get("/gone"), Ports: map[string]string{"web": addr}}, "GET /gone: status 410"},
		{"a broken answer", Subject{Check: get("/breaks"), Ports: map[string]string{"web": addr}}, "closed without an answer"},
		{"no answer", Subject{Check: get("/hangs"), Ports: map[string]string{"web": addr}}, "GET /hangs: no answer"},
		{"nobody listens", Subject{Check: get("/ok"), Ports: map[string]string{"web": nobody}}, "GET /ok: connection refused"},
		{"no port", Subject{Check: get("/ok")}, "does not say where"},
		{"tcp", Subject{Check: tcp, Ports: map[string]string{"web": addr, "other": nobody}}, ""},
		{"tcp refused", Subject{Check: tcp, Ports: map[string]string{"web": nobody}}, "connect to port web: connection refused"},
		{"exec", Subject{Check: sh, Exec: exec(0, "", nil)}, ""},
		{"exec fails", Subject{Check: sh, Exec: exec(3, "no database\nsecond line", nil)}, "probe: exit code 3: no database"},
		{"exec can't", Subject{Check: sh, Exec: exec(0, "", errors.New("no such program"))}, "probe: no such program"},
		{"nothing inside", Subject{Check: sh}, "nothing can be run inside it"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := watch{prober: NewProber(), subject: c.s, timeout: 2 * time.Second}
			if c.name == "no answer" {
				w.timeout = 50 * time.Millisecond
			}
			err := w.once(t.Context())
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "127.0.0.1") {
				t.Errorf("%v names an address", err)
			}
		})
	}
}

// BenchmarkCheck is what one check by HTTP costs.
func BenchmarkCheck(b *testing.B) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	w := watch{prober: NewProber(), timeout: time.Second,
		subject: Subject{Check: httpCheck(), Ports: map[string]string{"web": server.Listener.Addr().String()}}}
	for b.Loop() {
		if err := w.once(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
