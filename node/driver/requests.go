package driver

import "time"

// Outcomes of requests beside the causes: OutcomeAnswered is CauseFunction, and
// OutcomeCanceled that the caller went away.
const (
	OutcomeAnswered = "answered"
	OutcomeCanceled = "canceled"
)

// RequestBounds are the upper bounds of a histogram of requests, in seconds.
var RequestBounds = []float64{
	.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30,
}

// RequestMeter is implemented by drivers of functions that count requests.
type RequestMeter interface {
	// Requests is what the instances of each component have answered since the
	// first of those that are here now was started. It is cheap.
	Requests() []Requests
}

// Requests are those of one component at this machine.
type Requests struct {
	Namespace, App, Component string
	// Outcomes counts requests by OutcomeAnswered, OutcomeCanceled or a Cause.
	Outcomes map[string]uint64
	// Within counts those that a function began to handle by the bounds of
	// RequestBounds, each with all that are below it; Count are all of them, and
	// Sum is how long they took, from their arrival to the end of the answer.
	Within []uint64
	Count  uint64
	Sum    time.Duration
	CPU    time.Duration // time on a core that calls took which have ended

	Busy, Idle, Queued int   // instances at work and waiting for work; requests that wait
	Memory             int64 // bytes of linear memory of all instances
}
