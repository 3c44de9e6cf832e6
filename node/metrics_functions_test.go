package node

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-mesh/hansa/node/driver"
)

// counted is a driver that has counted some requests.
type counted struct{ driver.Driver }

func (counted) Requests() []driver.Requests {
	within := make([]uint64, len(driver.RequestBounds))
	for i, bound := range driver.RequestBounds {
		if bound >= 0.05 {
			within[i] = 3
		}
	}
	return []driver.Requests{
		{
			Namespace: "default", App: "shop", Component: "api", Outcomes: map[string]uint64{"answered": 3, "busy": 2},
			Within: within, Count: 4, Sum: 5 * time.Second, CPU: 250 * time.Millisecond, Busy: 1, Idle: 2, Queued: 6, Memory: 7 << 20,
		},
		{Namespace: "default", App: "shop", Component: "other", Within: within},
	}
}

type functionsOnly struct{ c collector }

func (functionsOnly) Describe(chan<- *prometheus.Desc) {}

func (f functionsOnly) Collect(ch chan<- prometheus.Metric) {
	give := func(kind prometheus.ValueType) setter {
		return func(d *prometheus.Desc, v float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
		}
	}
	f.c.functions(ch, give(prometheus.GaugeValue), give(prometheus.CounterValue))
}

// A histogram from which any quantile can be read comes out of a registry that
// checks what it is given.
func TestMetricsOfFunctions(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(functionsOnly{collector{&Node{drivers: []driver.Driver{counted{}}}}}); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	for _, f := range families {
		text.WriteString(f.String() + "\n")
	}
	for _, want := range []string{
		`name:"hansa_function_request_seconds"`, `sample_count:4 sample_sum:5`, `cumulative_count:3 upper_bound:0.05`,
		`cumulative_count:0 upper_bound:0.025`, `label:{name:"outcome" value:"busy"} counter:{value:2}`,
		`label:{name:"state" value:"idle"} gauge:{value:2}`, `name:"hansa_function_cpu_seconds_total"`, `counter:{value:0.25}`,
		`gauge:{value:6}`, `gauge:{value:7.340032e+06}`, `value:"other"`,
	} {
		if !strings.Contains(strings.Join(strings.Fields(text.String()), " "), want) {
			t.Errorf("the metrics lack %s", want)
		}
	}
	if t.Failed() {
		t.Log(text.String())
	}
}
