package sim

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var soakFlag = flag.Duration("sim.soak", 0, "run seeds from a random one on for this long, or until one fails")

// soakEvery is how often a soak says how far it is.
const soakEvery = 10 * time.Second

// TestSoak runs seeds until its time is over, or one fails.
func TestSoak(t *testing.T) {
	if *soakFlag <= 0 {
		t.Skip("make soak runs it for as long as one likes; here there is no -sim.soak")
	}
	began := time.Now()
	first := uint64(rand.Uint32()) << 20 // of seeds that no other run had
	var seeds atomic.Uint64
	var stop atomic.Bool
	var mu sync.Mutex
	var total Report
	var failed *Report
	line := func() {
		mu.Lock()
		defer mu.Unlock()
		n, took := seeds.Load(), time.Since(began)
		fmt.Fprintf(os.Stdout, "%8s  %d seeds from %d: %s; %.0f seeds and %.1f virtual hours a minute, %.0f events a second\n",
			took.Round(time.Second), n, first, total, float64(n)/took.Minutes(), total.Virtual.Hours()/took.Minutes(), float64(total.Steps)/took.Seconds())
	}
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for !stop.Load() {
				seed := first + seeds.Add(1)
				r := Run(seed, PlanOf(seed), nil)
				mu.Lock()
				total.Add(r)
				if len(r.Failed) > 0 && failed == nil {
					failed = &r
					stop.Store(true)
				}
				mu.Unlock()
			}
		})
	}
	over := time.AfterFunc(*soakFlag, func() { stop.Store(true) })
	defer over.Stop()
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	tick := time.NewTicker(soakEvery)
	defer tick.Stop()
	for running := true; running; {
		select {
		case <-tick.C:
			line()
		case <-done:
			running = false
		}
	}
	line()
	if failed != nil {
		report(t, *failed)
		shrunk(t, *failed)
	}
}
