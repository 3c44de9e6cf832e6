package health

import (
	"fmt"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// State is what the checks of an allocation amount to.
type State string

// The states; the drawing on placement.Health shows the ways between them.
const (
	Starting  State = "starting"  // no check has succeeded yet
	Healthy   State = "healthy"   // the last checks succeeded, or not enough failed
	Unhealthy State = "unhealthy" // Threshold failed in a row
	Over      State = "over"      // as many again: it is to be restarted
)

// Tracker counts the checks of one run. The zero Tracker is not usable: see
// NewTracker.
type Tracker struct {
	check  placement.Health // with its defaults
	state  State
	counts time.Time // failures before it do not count while Starting
	failed int       // in a row, in this state
	why    string    // of the last failure
}

// NewTracker is for a run that began then. One that ran before it was watched is
// trusted until its checks say otherwise.
func NewTracker(h placement.Health, began time.Time, trusted bool) *Tracker {
	h = h.WithDefaults()
	t := &Tracker{check: h, state: Starting, counts: began.Add(time.Duration(h.StartPeriod))}
	if trusted {
		t.state = Healthy
	}
	return t
}

// State is where the run stands.
func (t *Tracker) State() State { return t.state }

// Take counts a check that ended now, nil if it succeeded.
func (t *Tracker) Take(now time.Time, failure error) State {
	if failure == nil {
		t.state, t.failed, t.why = Healthy, 0, ""
		return t.state
	}
	t.why = failure.Error()
	if t.state == Starting && now.Before(t.counts) {
		return t.state
	}
	t.failed++
	if t.failed < t.check.Threshold {
		return t.state
	}
	t.failed = 0
	if t.state == Unhealthy {
		t.state = Over
	} else {
		t.state = Unhealthy
	}
	return t.state
}

// Reason is the state in words, with the last failure; empty when all is well.
func (t *Tracker) Reason() string {
	switch {
	case t.state == Healthy:
		return ""
	case t.state == Starting && t.why == "":
		return "waits for its first successful check"
	case t.state == Starting:
		return "waits for its first successful check; the last one: " + t.why
	case t.state == Unhealthy:
		return fmt.Sprintf("%d checks in a row failed; the last one: %s", t.check.Threshold+t.failed, t.why)
	}
	return fmt.Sprintf("unhealthy: %d checks in a row failed; the last one: %s", 2*t.check.Threshold, t.why)
}
