package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/health"
	"github.com/hansa-mesh/hansa/placement"
)

const (
	// checkOutputMax is what is kept of what a check's command writes.
	checkOutputMax = 1 << 10
	// checkBodyMax is what is read of a function's answer to a check.
	checkBodyMax = 64 << 10
)

// Checks counts the checks of work since New.
func (r *Runner) Checks() health.Stats { return r.prober.Stats() }

// checkable says why the checks of a component can't be made on a driver.
func (r *Runner) checkable(spec placement.WorkSpec, d driver.Driver) error {
	h := spec.Spec.Health
	if h == nil || h.Exec == nil {
		return nil
	}
	if _, ok := d.(driver.Execer); !ok {
		return fmt.Errorf("its health check is a command, and driver %q can't run one inside: check it by http or tcp", d.Name())
	}
	return nil
}

// untilChecked is news of work that runs as they stand before its first check.
func untilChecked(spec placement.WorkSpec, s placement.WorkState) placement.WorkState {
	if spec.Spec.Health != nil && s.State == placement.AllocRunning {
		s.State = placement.AllocStarting
		s.Reason = health.NewTracker(*spec.Spec.Health, time.Time{}, false).Reason()
	}
	return s
}

// Watch says what an allocation is that ran before this daemon did: its checks
// begin. It is taken to work until they say otherwise.
func (r *Runner) Watch(id placement.AllocationID, spec placement.WorkSpec) {
	r.mu.Lock()
	t, ctx := r.tasks[id], r.ctx
	if ctx == nil {
		r.later = append(r.later, func() { r.Watch(id, spec) })
		r.mu.Unlock()
		return
	}
	if t == nil || t.starts > 0 || t.want != wantNothing {
		r.mu.Unlock()
		return // it ended meanwhile, or this daemon started it
	}
	t.spec = spec
	status := driver.Status{Starts: t.run.starts, Ports: t.reported.Ports}
	if t.run.at != 0 {
		status.StartedAt = time.Unix(0, t.run.at)
	}
	r.mu.Unlock()
	r.watch(ctx, id, t, status, true)
}

// watch begins the checks of a run, if its component has any.
func (r *Runner) watch(ctx context.Context, id placement.AllocationID, t *task, run driver.Status, trusted bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d, life := r.drivers[t.driver], lifeOf(run)
	if t.spec.Spec.Health == nil || d == nil || ctx.Err() != nil || t.want == wantStop || t.want == wantEnd || t.run != life || t.run == t.ended {
		return
	}
	t.unprobe()
	ctx, t.probe = context.WithCancel(ctx)
	subject := subjectOf(d, DriverID(id), t.spec.Spec, run)
	subject.Trusted = trusted
	r.work.Go(func() {
		r.prober.Watch(ctx, subject, func(news health.Report) { r.checked(ctx, id, t, life, run, news) })
	})
}

// unprobe ends the checks of a run. The caller holds mu.
func (t *task) unprobe() {
	if t.probe != nil {
		t.probe()
		t.probe = nil
	}
}

// subjectOf is how a run is checked.
func subjectOf(d driver.Driver, id string, c placement.Component, run driver.Status) health.Subject {
	s := health.Subject{Check: *c.Health, Ports: run.Ports, Began: run.StartedAt}
	if x, ok := d.(driver.Execer); ok {
		s.Exec = func(ctx context.Context, command []string) (int, string, error) {
			var out head
			code, err := x.Exec(ctx, id, driver.Exec{Command: command, Stdout: &out, Stderr: &out})
			return code, out.String(), err
		}
	}
	if i, ok := d.(driver.Invoker); ok && c.Function != nil {
		s.Call = func(ctx context.Context, path string) (int, bool, error) { return call(ctx, i, id, path) }
	}
	return s
}

// call asks a function for a path.
func call(ctx context.Context, i driver.Invoker, id, path string) (status int, busy bool, err error) {
	u, err := url.ParseRequestURI(path)
	if err != nil {
		return 0, false, err
	}
	answer, err := i.Invoke(ctx, id, &driver.Request{
		Method: http.MethodGet, Path: u.Path, RawQuery: u.RawQuery, Host: "localhost", RemoteAddr: "127.0.0.1:0",
		Header: http.Header{"User-Agent": {health.UserAgent}},
	})
	if err != nil {
		return 0, false, err
	}
	_, err = io.Copy(io.Discard, io.LimitReader(answer.Body, checkBodyMax))
	return answer.Status, answer.Cause == driver.CauseBusy, errors.Join(err, answer.Body.Close())
}

// checked takes what the checks of a run came to.
func (r *Runner) checked(ctx context.Context, id placement.AllocationID, t *task, life life, run driver.Status, news health.Report) {
	s := placement.WorkState{Driver: t.driver, Reason: news.Reason, Ports: run.Ports}
	if !run.StartedAt.IsZero() {
		s.Started = run.StartedAt.UnixMilli()
	}
	switch news.State {
	case health.Starting:
		s.State = placement.AllocStarting
	case health.Healthy:
		s.State = placement.AllocRunning
	default:
		s.State = placement.AllocUnhealthy
	}
	r.reportIf(id, t, s, func() bool {
		if ctx.Err() != nil || t.want == wantStop || t.want == wantEnd || t.run != life || t.run == t.ended {
			return false
		}
		if news.State == health.Over {
			t.want, t.ill = wantEnd, news.Reason
			r.wake(id, t)
		}
		return true
	})
}

// end ends work whose checks failed too often, as if it had ended by itself: the
// core counts it and starts it again, or moves it. It is false if it is to be
// tried again.
func (r *Runner) end(ctx context.Context, id placement.AllocationID, t *task) bool {
	r.mu.Lock()
	d, grace, why := r.drivers[t.driver], time.Duration(t.spec.Spec.Stop.Grace), t.ill
	t.unprobe()
	r.mu.Unlock()
	if grace == 0 {
		grace = driver.GraceDefault
	}
	stopCtx, cancel := context.WithTimeout(ctx, grace+stopMax)
	defer cancel()
	if err := halt(stopCtx, d, DriverID(id), true); err != nil {
		if ctx.Err() == nil {
			r.cfg.Log.Warn("work that is unhealthy is not stopped; it will be tried again", "allocation", id.String(), "driver", d.Name(), "err", err)
		}
		return false
	}
	r.reportIf(id, t, placement.WorkState{State: placement.AllocFailed, Driver: t.driver, Reason: why}, func() bool {
		if t.want != wantEnd {
			return false // a stop came meanwhile, and reports its own end
		}
		t.want, t.ended, t.ill = wantNothing, t.run, ""
		return true
	})
	return true
}

// head keeps the beginning of what is written.
type head struct {
	mu   sync.Mutex // guards kept
	kept []byte
}

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.kept = append(h.kept, p[:min(len(p), checkOutputMax-len(h.kept))]...)
	return len(p), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return string(h.kept)
}
