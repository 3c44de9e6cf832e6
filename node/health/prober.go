package health

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

const (
	// netChecksMax and execChecksMax are the checks under way at once: those over
	// the network cost a socket, a command costs processes.
	netChecksMax  = 512
	execChecksMax = 16
	// firstEvery is the pause between checks at first, so that what is ready soon
	// is seen soon; it doubles up to the interval.
	firstEvery = 250 * time.Millisecond
	// reasonEvery is how often a reason is told while the state stays.
	reasonEvery = 5 * time.Second
	// reasonMax bounds a reason, in bytes.
	reasonMax = 200
)

// errLate is a check that did not end in time.
var errLate = errors.New("no answer")

// errPass is a check that says nothing about the allocation.
var errPass = errors.New("no verdict")

// Subject is what is checked, and how.
type Subject struct {
	Check placement.Health
	Ports map[string]string // name -> host:port
	// Exec runs a command inside and returns its exit code and the beginning of
	// what it wrote; nil where nothing can be run inside.
	Exec func(ctx context.Context, command []string) (code int, output string, err error)
	// Call asks a function for a path and returns the status; nil for what
	// listens on ports.
	Call func(ctx context.Context, path string) (status int, busy bool, err error)

	Began   time.Time // the run
	Trusted bool      // it ran before it was watched: healthy until found otherwise
}

// Report is a change.
type Report struct {
	State  State
	Reason string // for people; empty when all is well
}

// Prober runs checks.
type Prober struct {
	net, exec chan struct{} // one for each check under way

	passed, failed, late atomic.Int64
}

// Stats counts checks since the Prober was made.
type Stats struct {
	Passed, Failed int64
	Late           int64 // of those that failed: without an answer in time
}

// Stats returns the counters.
func (p *Prober) Stats() Stats {
	return Stats{Passed: p.passed.Load(), Failed: p.failed.Load(), Late: p.late.Load()}
}

func (p *Prober) count(err error) {
	switch {
	case err == nil:
		p.passed.Add(1)
	case !errors.Is(err, errPass):
		p.failed.Add(1)
	}
	if errors.Is(err, errLate) {
		p.late.Add(1)
	}
}

// NewProber makes a Prober; it starts nothing.
func NewProber() *Prober {
	return &Prober{net: make(chan struct{}, netChecksMax), exec: make(chan struct{}, execChecksMax)}
}

// Watch checks s until ctx ends, or until it is Over, which is reported last.
func (p *Prober) Watch(ctx context.Context, s Subject, report func(Report)) {
	h := s.Check.WithDefaults()
	w := watch{prober: p, subject: s, timeout: time.Duration(h.Timeout), tracker: NewTracker(h, s.Began, s.Trusted), report: report}
	w.tell(true)
	interval := time.Duration(h.Interval)
	pause := min(firstEvery, interval)
	next := time.NewTimer(jitter(pause))
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		before := w.tracker.State()
		err := w.once(ctx)
		if ctx.Err() != nil {
			return
		}
		p.count(err)
		if !errors.Is(err, errPass) {
			w.tracker.Take(time.Now(), err)
		}
		w.tell(w.tracker.State() != before)
		if w.tracker.State() == Over {
			return
		}
		if w.tracker.State() == Starting {
			pause = min(2*pause, interval)
		} else {
			pause = interval
		}
		next.Reset(jitter(pause))
	}
}

// jitter is a tenth more or less, so that what was started together is not
// checked together.
func jitter(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}

// watch is the checks of one allocation.
type watch struct {
	prober  *Prober
	subject Subject
	timeout time.Duration
	tracker *Tracker
	report  func(Report)

	told  Report
	at    time.Time     // of told
	more  bool          // a second reason of this state was told
	hangs chan struct{} // closed when a check that was given up has returned; nil if none was
}

// tell reports a state that is new, the first other reason that it has then, and
// seldom a later one.
func (w *watch) tell(changed bool) {
	r := Report{w.tracker.State(), clip(w.tracker.Reason())}
	if !changed && (r == w.told || w.more && time.Since(w.at) < reasonEvery) {
		return
	}
	w.told, w.at, w.more = r, time.Now(), !changed
	w.report(r)
}

// once runs one check within its timeout, whatever it does.
func (w *watch) once(ctx context.Context) error {
	if w.hangs != nil {
		select {
		case <-w.hangs:
			w.hangs = nil
		default:
			return fmt.Errorf("%s: %w, and the check before this has not ended either", w.subject.what(), errLate)
		}
	}
	room := w.prober.net
	if w.subject.Check.Exec != nil {
		room = w.prober.exec
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case room <- struct{}{}:
		defer func() { <-room }()
	}
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	answer := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		answer <- w.subject.check(ctx)
	}()
	select {
	case err := <-answer:
		if err != nil && ctx.Err() != nil {
			err = w.late()
		}
		return err
	case <-ctx.Done():
		w.hangs = ended
		return w.late()
	}
}

func (w *watch) late() error {
	return fmt.Errorf("%s: %w within %v", w.subject.what(), errLate, w.timeout)
}

func clip(text string) string {
	if len(text) <= reasonMax {
		return text
	}
	return text[:reasonMax] + "…"
}
