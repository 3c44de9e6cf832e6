package process_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/testbed/process"
)

var (
	chaosFlag     = flag.Duration("chaos", 0, "how long TestChaos does harm")
	chaosSeedFlag = flag.Uint64("chaos.seed", 1, "what harm it does, and when")
)

// settleMax is how long a mesh of daemons may take to settle after all faults.
const settleMax = 3 * time.Minute

// chaos is people who deploy, scale and remove at random daemons while daemons
// are killed with SIGKILL, sites lose power, and links are cut.
type chaos struct {
	t    *testing.T
	mesh *process.Mesh
	rng  *rand.Rand

	mu    sync.Mutex // guards what follows
	acked map[string]*ackedApp
	puts  int
	fails int
}

// ackedApp is what a name was promised last: by the order in which the answers
// came, which is the order of the requests, since each name is edited by one
// person at a time.
type ackedApp struct {
	replicas int
	removed  bool
	unsure   bool // an edit since has an unknown outcome
}

// TestChaos: what was acknowledged by a majority of an app's keepers is there
// in the end, and every slot runs once.
func TestChaos(t *testing.T) {
	if *chaosFlag == 0 {
		t.Skip("a longer run: go test ./testbed/process -run TestChaos -chaos 5m -v")
	}
	hansa, _ := programs(t)
	m := start(t, hansa, 10*time.Millisecond, "a", "b", "c", "d", "e")
	c := &chaos{t: t, mesh: m, rng: rand.New(rand.NewPCG(*chaosSeedFlag, 1)), acked: map[string]*ackedApp{}}
	ctx, cancel := context.WithTimeout(t.Context(), *chaosFlag)
	defer cancel()
	var people sync.WaitGroup
	for i := range 3 {
		people.Go(func() { c.person(ctx, i) })
	}
	c.harm(ctx)
	people.Wait()
	c.heal()
	c.settled()
	t.Logf("%d edits, %d refused or without an answer, %d names", c.puts, c.fails, len(c.acked))
}

func (c *chaos) client(addr string) *api.Client {
	cl, err := api.NewClient("http://"+addr, "", api.ClientOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return cl
}

// person edits apps of names of its own, at any daemon.
func (c *chaos) person(ctx context.Context, n int) {
	rng := rand.New(rand.NewPCG(*chaosSeedFlag, uint64(100+n)))
	sites := c.mesh.Sites()
	for ctx.Err() == nil {
		name := fmt.Sprintf("app%d-%d", n, rng.IntN(3))
		site := sites[rng.IntN(len(sites))]
		c.edit(ctx, c.client(site.API), name, 1+rng.IntN(4), rng.IntN(6) == 0)
		pause(ctx, time.Duration(rng.IntN(1000))*time.Millisecond)
	}
}

func (c *chaos) edit(ctx context.Context, cl *api.Client, name string, replicas int, remove bool) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer cancel()
	key := placement.AppKey{Namespace: "default", App: name}
	var err error
	var quorum bool
	if remove {
		var r api.DeleteResult
		r, err = cl.DeleteApp(ctx, key, "")
		quorum = r.Durability.Quorum
	} else {
		var r api.PutResult
		r, err = cl.PutApp(ctx, sleeper(name, replicas), api.PutOptions{})
		quorum = r.Durability.Quorum && r.Durability.Keepers > 1
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.puts++
	a := c.acked[name]
	switch {
	case err != nil:
		c.fails++
		if a != nil {
			a.unsure = true
		}
	case !quorum: // promised below a majority: it stands beside what the other side says
		c.acked[name] = &ackedApp{replicas: replicas, removed: remove, unsure: true}
	default:
		unsure := a != nil && a.unsure // a conflict may stand until somebody decides
		c.acked[name] = &ackedApp{replicas: replicas, removed: remove, unsure: unsure}
	}
}

func sleeper(name string, replicas int) placement.App {
	return placement.App{Name: name, Namespace: "default", Components: map[string]placement.Component{"web": {
		Server:   &placement.Server{Process: &placement.Process{Command: []string{"/bin/sleep", "100000"}}},
		Replicas: &replicas, Resources: placement.Resources{CPU: 10, Memory: 16 << 20},
	}}}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// harm does something bad every few seconds, and undoes it.
func (c *chaos) harm(ctx context.Context) {
	sites := c.mesh.Sites()
	for ctx.Err() == nil {
		site := sites[c.rng.IntN(len(sites))].Name
		lasts := time.Duration(1+c.rng.IntN(12)) * time.Second
		var err error
		switch c.rng.IntN(4) {
		case 0:
			c.t.Logf("kill -9 %s's daemon for %v", site, lasts)
			err = c.mesh.KillDaemon(site)
			pause(ctx, lasts)
			err = errors.Join(err, c.mesh.Restart(c.t.Context(), site))
		case 1:
			c.t.Logf("power failure at %s for %v", site, lasts)
			err = c.mesh.Kill(ctx, site)
			pause(ctx, lasts)
			err = errors.Join(err, c.mesh.Restart(c.t.Context(), site))
		case 2:
			other := sites[c.rng.IntN(len(sites))].Name
			c.t.Logf("cut %s and %s from the others for %v", site, other, lasts)
			c.mesh.Relay().Isolate(site, other)
			pause(ctx, lasts)
			c.mesh.Relay().Heal()
		case 3:
			c.t.Logf("cut %s off for %v", site, lasts)
			c.mesh.Relay().Isolate(site)
			pause(ctx, lasts)
			c.mesh.Relay().Heal()
		}
		if err != nil {
			c.t.Error(err)
			return
		}
		pause(ctx, time.Duration(c.rng.IntN(6))*time.Second)
	}
}

func (c *chaos) heal() { c.mesh.Relay().Heal() }

// settled waits until every daemon says that the mesh is settled, and holds it
// to what was promised.
func (c *chaos) settled() {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(c.t.Context(), settleMax)
	defer cancel()
	var err error
	for {
		if err = c.check(ctx); err == nil {
			c.t.Logf("settled %v after the last fault", time.Since(begin).Round(100*time.Millisecond))
			return
		}
		select {
		case <-ctx.Done():
			c.t.Errorf("not settled: %v", err)
			return
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func (c *chaos) check(ctx context.Context) error {
	var errs []error
	total := 0
	for i, s := range c.mesh.Sites() {
		cl := c.client(s.API)
		apps, err := cl.Apps(ctx, api.AppQuery{Page: api.Page{Limit: 1000}})
		if err != nil {
			return err
		}
		known := map[string]api.App{}
		conflict := map[string]bool{}
		for _, a := range apps.Items {
			known[a.App] = a
			conflict[a.App] = conflict[a.App] || a.Conflict
		}
		mesh, err := cl.Mesh(ctx)
		if err != nil {
			return err
		}
		// A conflict of edits on both sides of a cut stands until people decide.
		open := slices.DeleteFunc(slices.Clone(mesh.Open), func(o string) bool { return strings.Contains(o, "conflict: ") })
		if !mesh.Settled && (len(open) > 0 || len(open) == len(mesh.Open)) {
			errs = append(errs, fmt.Errorf("%s: %v", s.Name, mesh.Open))
		}
		if i == 0 {
			n, err := c.slots(ctx, cl, conflict)
			errs = append(errs, err)
			total = n
		}
		c.mu.Lock()
		for name, a := range c.acked {
			_, there := known[name]
			if !a.unsure && !conflict[name] && there == a.removed {
				errs = append(errs, fmt.Errorf("%s: %s: known %t, removed %t", s.Name, name, there, a.removed))
			}
		}
		c.mu.Unlock()
	}
	if out, err := exec.CommandContext(ctx, "pgrep", "-c", "-f", "^/bin/sleep 100000$").Output(); err == nil {
		if got := strings.TrimSpace(string(out)); got != fmt.Sprint(total) {
			errs = append(errs, fmt.Errorf("%s programs run, the mesh knows of %d", got, total))
		}
	}
	return errors.Join(errs...)
}

// slots holds what runs against what was promised.
func (c *chaos) slots(ctx context.Context, cl *api.Client, conflict map[string]bool) (int, error) {
	list, err := cl.Allocations(ctx, api.AllocationQuery{Page: api.Page{Limit: 1000}})
	if err != nil {
		return 0, err
	}
	var errs []error
	at := map[string]map[int][]string{}
	total := 0
	for _, a := range list.Items {
		if a.State != "running" {
			errs = append(errs, fmt.Errorf("%s/%s[%d] at %s is %s: %s", a.App, a.Component, a.Slot, a.Site, a.State, a.Reason))
			continue
		}
		total++
		if at[a.App] == nil {
			at[a.App] = map[int][]string{}
		}
		at[a.App][a.Slot] = append(at[a.App][a.Slot], a.Site)
	}
	for app, slots := range at {
		for n, sites := range slots {
			if len(sites) > 1 && !conflict[app] {
				errs = append(errs, fmt.Errorf("%s[%d] runs at %v", app, n, sites))
			}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, a := range c.acked {
		want := a.replicas
		if a.removed {
			want = 0
		}
		if !a.unsure && !conflict[name] && len(at[name]) != want {
			errs = append(errs, fmt.Errorf("%s: %d of %d slots run", name, len(at[name]), want))
		}
	}
	return total, errors.Join(errs...)
}
