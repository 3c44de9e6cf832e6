package failover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/testbed/load"
	"github.com/hansa-mesh/hansa/testbed/process"
)

const (
	// program is what runs and fails over.
	program = "/bin/sleep"
	// slots of the app: two for each of five sites.
	slots = 10
	// stepMax bounds each wait.
	stepMax = 3 * time.Minute
	// eventsMax is how many of the last events are looked at.
	eventsMax = 500
)

// Kill is one site that lost its power, in seconds by phase.
type Kill struct {
	Site    string  `json:"site"`
	Steward bool    `json:"steward"` // it drove the app
	Slots   int     `json:"slots"`   // that ran there
	Detect  float64 `json:"detect"`
	Decide  float64 `json:"decide"`
	Place   float64 `json:"place"`
	Start   float64 `json:"start"`
	Total   float64 `json:"total"`
}

// Summary is one phase over all kills, in seconds.
type Summary struct {
	Phase string  `json:"phase"`
	P50   float64 `json:"p50"`
	Max   float64 `json:"max"`
}

// Figures are what a measurement came to.
type Figures struct {
	Peers  int       `json:"peers"`
	Phases []Summary `json:"phases"`
	Kills  []Kill    `json:"kills"`
}

// Measure takes the power from one site after the other, and brings it back. What
// the daemons can tell of a failure is left in a folder that the error names.
func Measure(ctx context.Context, m *process.Mesh, kills int, say func(format string, args ...any)) (Figures, error) {
	f, err := measure(ctx, m, kills, say)
	if err != nil {
		dir, made := os.MkdirTemp("", "hansa-failover-")
		err = errors.Join(fmt.Errorf("%w (logs and states are in %s)", err, dir), made, m.Bundle(ctx, dir))
	}
	return f, err
}

func measure(ctx context.Context, m *process.Mesh, kills int, say func(format string, args ...any)) (Figures, error) {
	sites := m.Sites()
	f := Figures{Peers: len(sites)}
	b := bench{Mesh: m, key: placement.AppKey{Namespace: placement.DefaultNamespace, App: "failover"}}
	client, err := m.Client(sites[0].Name)
	if err != nil {
		return f, err
	}
	if _, err := client.PutApp(ctx, app(), api.PutOptions{}); err != nil {
		return f, err
	}
	for i := range kills {
		site := sites[i%len(sites)].Name
		if err := b.settled(ctx); err != nil {
			return f, err
		}
		k, err := b.kill(ctx, site, sites[(i+1)%len(sites)].Name)
		if err != nil {
			return f, err
		}
		say("%s: %d slots, steward %t: detect %.2f, decide %.2f, place %.2f, start %.2f: %.2f s", k.Site, k.Slots, k.Steward, k.Detect, k.Decide, k.Place, k.Start, k.Total)
		f.Kills = append(f.Kills, k)
		if err := m.Restart(ctx, site); err != nil {
			return f, err
		}
	}
	f.summarise()
	return f, nil
}

func app() placement.App {
	replicas := slots
	return placement.App{Name: "failover", Namespace: placement.DefaultNamespace, Components: map[string]placement.Component{"web": {
		Server:   &placement.Server{Process: &placement.Process{Command: []string{program, "100000"}}},
		Replicas: &replicas, Resources: placement.Resources{CPU: 10, Memory: 16 << 20}, Place: placement.Place{Spread: "site"},
	}}}
}

type bench struct {
	*process.Mesh
	key placement.AppKey
}

// settled waits until every slot runs once and all peers say that they are
// settled.
func (b bench) settled(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stepMax)
	defer cancel()
	return load.Await(ctx, func() error {
		var errs []error
		for _, s := range b.Sites() {
			client, err := b.Client(s.Name)
			if err != nil {
				return err
			}
			mesh, err := client.Mesh(ctx)
			if err == nil && !mesh.Settled {
				err = fmt.Errorf("%s is not settled: %s", s.Name, strings.Join(mesh.Open, "; "))
			}
			errs = append(errs, err)
		}
		return errors.Join(append(errs, b.complete())...)
	})
}

// complete says whether every slot runs once, as /proc tells.
func (b bench) complete() error {
	found, err := b.Work(program)
	if err != nil {
		return err
	}
	seen := map[int]bool{}
	for _, w := range found {
		if seen[w.Slot] {
			return fmt.Errorf("slot %d runs twice", w.Slot)
		}
		seen[w.Slot] = true
	}
	if len(seen) != slots {
		return fmt.Errorf("%d of %d slots run", len(seen), slots)
	}
	return nil
}

// kill takes the power from a site, and reads at another what became of it.
func (b bench) kill(ctx context.Context, site, at string) (Kill, error) {
	ctx, cancel := context.WithTimeout(ctx, stepMax)
	defer cancel()
	k := Kill{Site: site}
	client, err := b.Client(at)
	if err != nil {
		return k, err
	}
	before, err := client.App(ctx, b.key)
	if err != nil {
		return k, err
	}
	k.Steward = before.Steward.Site == site
	found, err := b.Work(program)
	if err != nil {
		return k, err
	}
	for _, w := range found {
		if w.Where == site {
			k.Slots++
		}
	}
	begin := time.Now()
	if err := b.Kill(ctx, site); err != nil {
		return k, err
	}
	if err := load.Await(ctx, b.complete); err != nil {
		return k, fmt.Errorf("after the loss of %s: %w", site, err)
	}
	if k.Slots == 0 {
		return k, fmt.Errorf("nothing ran at %s", site)
	}
	return k, load.Await(ctx, func() error { return b.read(ctx, client, begin, &k) })
}

// read finds the moments of a failover in what the peers remember. An event is
// with its peer a moment after it happened.
func (b bench) read(ctx context.Context, client *api.Client, begin time.Time, k *Kill) error {
	decisions, err := client.Explain(ctx, b.key, "web")
	if err != nil {
		return err
	}
	var first api.Decision
	for _, d := range decisions.Items { // newest first
		if d.At.After(begin) && len(d.Taken) > 0 {
			first = d
		}
	}
	if first.At.IsZero() {
		return errors.New("no decision since")
	}
	verdict, err := b.verdict(ctx, first.By.Site, k.Site)
	if err != nil {
		return err
	}
	events, err := client.Events(ctx, api.EventQuery{App: b.key.App, Since: begin, Newest: true, Page: api.Page{Limit: eventsMax}})
	if err != nil {
		return err
	}
	last := map[string]time.Time{}
	running := 0
	for _, e := range events.Items {
		last[e.Type] = later(last[e.Type], e.At)
		if e.Type == "running" {
			set, err := placement.ParseSlots(e.Slots)
			if err != nil {
				return err
			}
			running += set.Len()
		}
	}
	if running < k.Slots {
		return fmt.Errorf("%d of %d slots are said to run", running, k.Slots)
	}
	k.Detect = verdict.Sub(begin).Seconds()
	k.Decide = max(0, first.At.Sub(verdict).Seconds()) // a decision's time is in whole milliseconds
	k.Place = last["placed"].Sub(first.At).Seconds()
	k.Start = last["running"].Sub(last["placed"]).Seconds()
	k.Total = last["running"].Sub(begin).Seconds()
	return nil
}

// verdict is when a peer took a site's for dead.
func (b bench) verdict(ctx context.Context, at, site string) (time.Time, error) {
	client, err := b.Client(at)
	if err != nil {
		return time.Time{}, err
	}
	peers, err := client.Peers(ctx, api.Page{})
	if err != nil {
		return time.Time{}, err
	}
	for _, p := range peers.Items {
		if p.Site == site && p.State == string(placement.MemberDead) {
			return p.Since, nil
		}
	}
	return time.Time{}, fmt.Errorf("%s does not take %s for dead", at, site)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func (f *Figures) summarise() {
	for _, phase := range []struct {
		name string
		of   func(Kill) float64
	}{
		{"detect", func(k Kill) float64 { return k.Detect }}, {"decide", func(k Kill) float64 { return k.Decide }},
		{"place", func(k Kill) float64 { return k.Place }}, {"start", func(k Kill) float64 { return k.Start }},
		{"total", func(k Kill) float64 { return k.Total }},
	} {
		var all []float64
		for _, k := range f.Kills {
			all = append(all, phase.of(k))
		}
		slices.SortFunc(all, cmp.Compare[float64])
		if len(all) > 0 {
			f.Phases = append(f.Phases, Summary{phase.name, all[(len(all)-1)/2], all[len(all)-1]})
		}
	}
}
