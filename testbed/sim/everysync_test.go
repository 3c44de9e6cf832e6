package sim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// story is a small mesh in which everything that writes happens once: two apps
// are deployed, scaled, rolled out, taken over, given back, edited on a side
// without a majority, and removed.
func story(reserve bool, crash crashPoint, trace io.Writer) *world {
	plan := Plan{
		Sites: 3, PeersPerSite: 1, Length: 42 * time.Second, Settle: settleMax, RTT: 30 * time.Millisecond, Sync: 2 * time.Second,
		Tune: tune(), Actions: []Action{
			{At: 13 * time.Second, Do: "crash", Peer: 0, Lasts: 9 * time.Second, N: 1}, // who drives both: they are taken over
			{At: 25 * time.Second, Do: "cut-site", Peer: 2, Lasts: 14 * time.Second},
			{At: 26 * time.Second, Do: "disk-full", Peer: 1, Lasts: 2 * time.Second},
		},
	}
	plan.Tune.Reserve = reserve
	w := newWorld(1, plan, trace)
	w.crashAt = crash
	deploy := func(at time.Duration, who int, name string, replicas int, env string) {
		w.after(at, func() { w.someone(who, func(p *peer) { w.deploy(p, name, replicas, env) }) })
	}
	deploy(2*time.Second, 0, "one", 3, "1")
	deploy(2200*time.Millisecond, 0, "two", 2, "1")
	deploy(5*time.Second, 1, "one", 5, "1")
	deploy(8*time.Second, 2, "one", 5, "2")
	deploy(19*time.Second, 2, "one", 2, "2")
	deploy(35*time.Second, 2, "one", 4, "3") // alone
	w.after(38*time.Second, func() {
		w.someone(1, func(p *peer) { w.remove(p, placement.AppKey{Namespace: "default", App: "two"}) })
	})
	return w
}

// someone is a peer that is up, this one if it is.
func (w *world) someone(i int, do func(p *peer)) {
	for k := range w.peers {
		if p := w.peers[(i+k)%len(w.peers)]; p.core != nil {
			do(p)
			return
		}
	}
}

// deploy submits an app that is given, not drawn.
func (w *world) deploy(p *peer, name string, replicas int, env string) {
	app, artifacts := draw(name, rand.New(rand.NewPCG(1, 1)))
	api := app.Components["api"]
	api.Replicas, api.Env = &replicas, map[string]string{"V": env}
	app.Components["api"] = api
	w.oracle.stats.Requests++
	w.submit(p, placement.Submit{App: app, Artifacts: artifacts})
}

// TestEverySync kills the peer that writes at every single write of the story:
// before it, in it, and after it, when nobody was told yet. Each time all
// invariants hold, and the mesh settles.
func TestEverySync(t *testing.T) {
	type point struct {
		reserve bool
		crashPoint
	}
	var points []point
	for _, reserve := range []bool{false, true} {
		w := story(reserve, crashPoint{}, nil)
		if r := w.run(); len(r.Failed) > 0 || r.Below == 0 || r.Acknowledged < 6 {
			t.Fatalf("the story itself: %v\n%v", r, r.Failed)
		}
		moments := []moment{before, torn, after}
		if reserve {
			moments = moments[2:] // what is written otherwise is acted on otherwise
		}
		for i, batches := range w.written {
			for _, when := range moments {
				if when != torn || batches > 1 {
					points = append(points, point{reserve, crashPoint{i + 1, when}})
				}
			}
		}
	}
	if testing.Short() {
		points = points[:min(len(points), 60)]
	}
	var mu sync.Mutex
	failures := 0
	next := make(chan point)
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for p := range next {
				r := story(p.reserve, p.crashPoint, nil).run()
				if len(r.Failed) == 0 {
					continue
				}
				mu.Lock()
				if failures++; failures <= failuresShown {
					t.Errorf("killed %s write %d (reserve %t): %s", p.when, p.write, p.reserve, r.Failed[0])
				}
				mu.Unlock()
			}
		})
	}
	for _, p := range points {
		next <- p
	}
	close(next)
	wg.Wait()
	t.Logf("killed at %d points of %d writes, %d failed", len(points), points[len(points)-1].write, failures)
}

// TestEverySyncIsExact: a kill is where it is said to be.
func TestEverySyncIsExact(t *testing.T) {
	seen := map[string]bool{}
	for n := range 5 {
		for _, when := range []moment{before, after} {
			w := story(false, crashPoint{n + 1, when}, nil)
			w.until(4 * time.Second)
			state := ""
			for _, p := range w.peers {
				state += fmt.Sprint(p.id, p.life, len(p.disk.tables[placement.TableKeep]), len(p.disk.tables["meta"]), " ")
			}
			seen[fmt.Sprint(n, when, state)] = true
		}
	}
	if len(seen) != 10 {
		t.Errorf("10 kills lead to %d states", len(seen))
	}
}
