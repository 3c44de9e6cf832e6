package node

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-mesh/hansa/node/driver"
)

var (
	descRequests  = desc("function_requests_total", "Requests that reached functions at this peer, by outcome.", "namespace", "app", "component", "outcome")
	descSeconds   = desc("function_request_seconds", "Time from a request's arrival at a function to the end of its answer, waiting included, a histogram; refused ones are not counted.", "namespace", "app", "component")
	descCPU       = desc("function_cpu_seconds_total", "Time on a core of calls that have ended.", "namespace", "app", "component")
	descInstances = desc("function_instances", "Instances of functions in memory: busy, or idle until the next request.", "namespace", "app", "component", "state")
	descQueued    = desc("function_requests_queued", "Requests that wait for an instance.", "namespace", "app", "component")
	descHeld      = desc("function_memory_bytes", "Linear memory of all instances of functions.", "namespace", "app", "component")
)

// functions gives what drivers count of requests. A component is counted while
// it has work at this peer, so there are as many series as there is of that.
func (c collector) functions(ch chan<- prometheus.Metric, gauge, count setter) {
	for _, d := range c.n.drivers {
		meter, ok := d.(driver.RequestMeter)
		if !ok {
			continue
		}
		for _, r := range meter.Requests() {
			of := []string{r.Namespace, r.App, r.Component}
			with := func(label string) []string { return append(of[:len(of):len(of)], label) }
			for outcome, n := range r.Outcomes {
				count(descRequests, float64(n), with(outcome)...)
			}
			within := make(map[float64]uint64, len(r.Within))
			for i, n := range r.Within {
				within[driver.RequestBounds[i]] = n
			}
			ch <- prometheus.MustNewConstHistogram(descSeconds, r.Count, r.Sum.Seconds(), within, of...)
			count(descCPU, r.CPU.Seconds(), of...)
			gauge(descInstances, float64(r.Busy), with("busy")...)
			gauge(descInstances, float64(r.Idle), with("idle")...)
			gauge(descQueued, float64(r.Queued), of...)
			gauge(descHeld, float64(r.Memory), of...)
		}
	}
}
