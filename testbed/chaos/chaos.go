package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/testbed/load"
	"github.com/hansa-mesh/hansa/testbed/process"
)

const (
	// settleMax is how long a mesh of daemons may take to settle after all
	// faults, twice: before and after conflicts are resolved.
	settleMax = 4 * time.Minute
	// program is what the load runs; /proc tells where.
	program = "/bin/sleep"
	// needCPU is what a slot of the load takes, in thousandths of a core.
	needCPU = 50
	// lookEvery is how often what runs is held to what there is room for.
	lookEvery = 500 * time.Millisecond
)

// CapacityCPU is what each daemon must be given (--capacity cpu=…): room for
// some slots of the load, so that in a cut there is not room for all.
const CapacityCPU = 500

// Args are the flags that the daemons need.
func Args() []string {
	return []string{"--capacity", fmt.Sprintf("cpu=%dm,memory=4Gi", CapacityCPU)}
}

// Config says what harm to do.
type Config struct {
	Mesh  *process.Mesh
	Seed  uint64
	Lasts time.Duration
	Disks bool // they can be filled (process.Config.DiskSize)
	// Say takes a line for each thing that happens.
	Say func(format string, args ...any)
}

// Figures are what a run came to.
type Figures struct {
	Seed          uint64         `json:"seed"`
	Seconds       float64        `json:"seconds"` // of harm
	Faults        map[string]int `json:"faults"`  // by kind
	Acknowledged  int            `json:"acknowledged"`
	Safe          int            `json:"safe"` // of them: by two disks or more
	Refused       int            `json:"refused"`
	Unanswered    int            `json:"unanswered"`
	Lost          int            `json:"lost"`
	Duplicated    int            `json:"duplicated"`
	OverCommitted int            `json:"over_committed"`
	Conflicts     int            `json:"conflicts"`       // shown, and resolved by a person
	SettledSecs   float64        `json:"settled_seconds"` // after the last fault
	ResolvedSecs  float64        `json:"resolved_seconds"`
	Apps          int            `json:"apps"` // in the end
	Programs      int            `json:"programs"`
}

// run is a run under way.
type run struct {
	Config
	book  *load.Book
	begin time.Time
	ids   map[string]string // of the peers, by site

	mu     sync.Mutex // guards what follows
	faults map[string]int
	over   map[string]error // sites that ran more than they have room for
}

// Run does harm, heals, and judges. The error says what was broken, and where
// the bundle is.
func Run(ctx context.Context, cfg Config) (Figures, error) {
	r := &run{Config: cfg, book: load.NewBook(), begin: time.Now(), faults: map[string]int{}, over: map[string]error{}}
	if err := r.identify(ctx); err != nil {
		return Figures{}, err
	}
	harm := r.live(ctx)
	f := Figures{Seed: cfg.Seed, Seconds: time.Since(r.begin).Seconds()}
	r.say("the last fault is mended")
	v, err := r.judge(ctx)
	c := r.book.Counts()
	f.Faults, f.Acknowledged, f.Safe, f.Refused, f.Unanswered = r.faults, c.Acked, c.Safe, c.Refused, c.Unknown
	f.Lost, f.Duplicated, f.OverCommitted, f.Conflicts = v.Lost, v.Twice, len(r.over), v.Conflicts
	f.SettledSecs, f.ResolvedSecs, f.Apps, f.Programs = v.Settled.Seconds(), v.Resolved.Seconds(), v.Apps, v.Work
	for _, o := range r.over {
		err = errors.Join(err, o)
	}
	if err = errors.Join(harm, err); err != nil {
		err = fmt.Errorf("seed %d: %w\n%s", cfg.Seed, err, r.bundle(ctx))
	}
	return f, err
}

func (r *run) say(format string, args ...any) {
	r.Say("%6.1fs %s", time.Since(r.begin).Seconds(), fmt.Sprintf(format, args...))
}

// live lets people work while harm is done; both hands mend what they broke.
func (r *run) live(ctx context.Context) error {
	work, cancel := context.WithTimeout(ctx, r.Lasts)
	defer cancel()
	people := load.People{
		Book: r.book, Seed: r.Seed, Persons: 4, Names: 8, ReplicasMax: 5, PauseMax: time.Second, App: sleeper,
	}
	for _, site := range r.Mesh.Sites() {
		client, err := r.Mesh.Client(site.Name)
		if err != nil {
			return err
		}
		people.Doors = append(people.Doors, client)
	}
	var wg sync.WaitGroup
	var errs [2]error
	for i, hand := range []func(context.Context) error{r.harmLinks, r.harmPeers} {
		wg.Go(func() { errs[i] = hand(work) })
	}
	wg.Go(func() { people.Run(work) })
	wg.Go(func() { r.watch(work) })
	wg.Wait()
	r.Mesh.Links().Heal()
	return errors.Join(errs[:]...)
}

// sleeper is an app of the load.
func sleeper(name string, replicas int, mark string) placement.App {
	return placement.App{Name: name, Namespace: placement.DefaultNamespace, Components: map[string]placement.Component{"web": {
		Server:   &placement.Server{Process: &placement.Process{Command: []string{program, "100000"}}},
		Replicas: &replicas, Resources: placement.Resources{CPU: needCPU, Memory: 16 << 20},
		Env: map[string]string{"MARK": mark},
	}}}
}

// watch holds what each site really runs to what it has.
func (r *run) watch(ctx context.Context) {
	for ctx.Err() == nil {
		if err := r.fits(); err != nil {
			r.say("%v", err)
		}
		pause(ctx, lookEvery)
	}
}

func (r *run) fits() error {
	found, err := r.Mesh.Work(program)
	if err != nil {
		return err
	}
	at := map[string]int{}
	for _, w := range found {
		at[w.Where]++
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for site, n := range at {
		if n*needCPU > CapacityCPU {
			r.over[site] = fmt.Errorf("%s ran %d programs of %d mCPU at %v, of %d it has", site, n, needCPU, time.Since(r.begin), CapacityCPU)
			errs = append(errs, r.over[site])
		}
	}
	return errors.Join(errs...)
}

func (r *run) judge(ctx context.Context) (load.Verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, settleMax)
	defer cancel()
	doors := map[string]load.Door{}
	for _, site := range r.Mesh.Sites() {
		client, err := r.Mesh.Client(site.Name)
		if err != nil {
			return load.Verdict{}, err
		}
		doors[site.Name] = client
	}
	v, err := load.Finish(ctx, doors, r.book, func() ([]load.Work, error) { return r.Mesh.Work(program) })
	return v, errors.Join(err, r.fits())
}

// bundle leaves what the daemons can tell, and the book, and says where.
func (r *run) bundle(ctx context.Context) string {
	dir, err := os.MkdirTemp("", "hansa-chaos-")
	if err != nil {
		return fmt.Sprintf("no bundle: %v", err)
	}
	text := ""
	for _, name := range r.book.Names() {
		text += name + "\n" + r.book.History(name)
	}
	err = errors.Join(r.Mesh.Bundle(ctx, dir), os.WriteFile(filepath.Join(dir, "book.txt"), []byte(text), 0o600))
	if err != nil {
		return fmt.Sprintf("logs and states are in %s, as far as they could be had: %v", dir, err)
	}
	return "logs and states are in " + dir
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
