package scale

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/testbed/fleet"
	"github.com/hansa-mesh/hansa/testbed/load"
	"github.com/hansa-mesh/hansa/testbed/usage"
)

// Config says what to measure.
type Config struct {
	Dir      string // data folders
	Peers    int
	Hosts    int // of each peer; together they have twice the room that is needed
	Apps     int
	Replicas int // of each app
	Singles  int // apps of one slot, submitted one after another at the end
	InFlight int // apps that are submitted at once; default 32
	Seed     uint64
	Log      *slog.Logger
	Progress func(text string) // nil for none
	Placed   func()            // called once every slot of the burst was started; nil for none
	Known    func()            // called once every peer counts them all; nil for none
}

// What a slot takes, and how many fit a host and a peer at most (its ledger's
// bounds).
const (
	slotCPU    placement.CPU   = 100
	slotMemory placement.Bytes = 64 << 20
	hostMax                    = 1 << 14
	peerMax                    = 1 << 20
	hostsMax                   = 4096
)

// Figure is what was measured. Seconds of CPU and bytes are of the whole process:
// of all peers, and of the pretended work.
type Figure struct {
	Peers    int `json:"peers"`
	Hosts    int `json:"hosts"` // of all peers
	Apps     int `json:"apps"`
	Replicas int `json:"replicas"`
	Slots    int `json:"slots"`

	Placed  float64 `json:"placed_seconds"` // from the first submit until every slot was started
	Rate    float64 `json:"placements_per_second"`
	Known   float64 `json:"known_seconds"`              // from the first submit until every peer counts every slot as running
	CPU     float64 `json:"cpu_seconds_per_1000_slots"` // until all were placed
	Answer  Spread  `json:"answer"`                     // of the apps of the burst
	Late    int64   `json:"late_answers"`               // how often a peer gave up on one of them, and was asked again
	Single  Spread  `json:"single_answer"`              // of the single slots: submit until it is durable
	Started Spread  `json:"single_started"`             // and until it was started
	Idle    int64   `json:"rss_idle_bytes"`             // before the burst; 0 where the system does not tell
	Loaded  int64   `json:"rss_loaded_bytes"`           // with all slots
	Checked Checked `json:"checked"`
}

// Spread is how long things took.
type Spread struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
}

func spread(took []time.Duration) Spread {
	if len(took) == 0 {
		return Spread{}
	}
	slices.Sort(took)
	at := func(share int) float64 {
		return float64(took[min(len(took)-1, len(took)*share/100)].Microseconds()) / 1000
	}
	return Spread{P50: at(50), P99: at(99)}
}

func (c *Config) check() error {
	for _, f := range []struct {
		name     string
		n        int
		min, max int
	}{
		{"peers", c.Peers, 1, fleet.PeersMax}, {"hosts", c.Hosts, 1, hostsMax}, {"apps", c.Apps, 1, 100_000},
		{"replicas", c.Replicas, 1, 100_000}, {"singles", c.Singles, 0, 100_000}, {"in flight", c.InFlight, 1, 10_000},
	} {
		if f.n < f.min || f.n > f.max {
			return fmt.Errorf("scale: %s %d: %d to %d", f.name, f.n, f.min, f.max)
		}
	}
	most := min(peerMax, c.Hosts*hostMax)
	if each := (c.Apps*c.Replicas + c.Singles) / c.Peers; each > most*3/4 {
		return fmt.Errorf("scale: %d slots for each of %d peers: a peer takes at most %d, and a quarter is left for uneven plans", each, c.Peers, most)
	}
	return nil
}

// run is one measurement.
type run struct {
	cfg   Config
	fleet *fleet.Fleet
	fig   Figure
	made  []made
	late  atomic.Int64 // see Figure.Late
}

// made is an app that was acknowledged.
type made struct {
	key  placement.AppKey
	want int
	peer int // where it was submitted
}

// Measure starts a mesh and measures.
func Measure(ctx context.Context, cfg Config) (figure Figure, err error) {
	if cfg.InFlight == 0 {
		cfg.InFlight = 32
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	if err := cfg.check(); err != nil {
		return Figure{}, err
	}
	r := &run{cfg: cfg}
	r.fig = Figure{Peers: cfg.Peers, Hosts: cfg.Peers * cfg.Hosts, Apps: cfg.Apps, Replicas: cfg.Replicas, Slots: cfg.Apps * cfg.Replicas}
	cfg.Progress(fmt.Sprintf("starting %d peers", cfg.Peers))
	r.fleet, err = fleet.Start(ctx, fleet.Config{
		Dir: cfg.Dir, Peers: cfg.Peers, Seed: cfg.Seed, Log: cfg.Log, Hosts: cfg.Hosts,
		Progress: func(up int) { cfg.Progress(fmt.Sprintf("%d of %d peers know each other", up, cfg.Peers)) },
		Capacity: placement.Resources{CPU: slotCPU, Memory: slotMemory}.Times(r.room()),
	})
	if err != nil {
		return Figure{}, err
	}
	defer func() { err = errors.Join(err, r.fleet.Close()) }()
	if err := r.atRest(ctx); err != nil {
		return r.fig, err
	}
	r.fig.Idle = usage.Resident()
	if err := r.burst(ctx); err != nil {
		return r.fig, err
	}
	if err := r.known(ctx); err != nil {
		return r.fig, err
	}
	return r.fig, nil
}

// room is how many slots a host has room for: twice those that it would have if all
// had as many.
func (r *run) room() int { return 2 * ((r.fig.Slots+r.cfg.Singles)/r.fig.Hosts + 1) }

// atRest waits until the peers have nothing left to do of their start.
func (r *run) atRest(ctx context.Context) error {
	return load.Await(ctx, func() error {
		for _, p := range r.fleet.Peers() {
			mesh, err := p.Node().Backend().Mesh(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", p.Name, err)
			}
			if !mesh.Settled {
				return fmt.Errorf("%s is not settled: %v", p.Name, mesh.Open)
			}
		}
		return nil
	})
}

// burst submits the apps at all peers in turn until every slot was started, and
// waits until every peer knows.
func (r *run) burst(ctx context.Context) error {
	began, used := time.Now(), usage.CPU()
	took := make([]time.Duration, r.cfg.Apps)
	r.made = make([]made, r.cfg.Apps)
	var next, answered atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, r.cfg.InFlight)
	for w := range r.cfg.InFlight {
		wg.Go(func() {
			for n := int(next.Add(1)) - 1; n < r.cfg.Apps && errs[w] == nil; n = int(next.Add(1)) - 1 {
				took[n], errs[w] = r.submit(ctx, n, fmt.Sprintf("app%d", n), r.cfg.Replicas, &r.made[n])
				answered.Add(1)
			}
		})
	}
	submitted := make(chan struct{})
	go func() { wg.Wait(); close(submitted) }()
	if err := r.await(ctx, func() (bool, string) {
		n := r.starts()
		return n >= r.fig.Slots, fmt.Sprintf("%d of %d apps answered, %d of %d slots started", answered.Load(), r.cfg.Apps, n, r.fig.Slots)
	}, submitted, errs); err != nil {
		return err
	}
	placed := time.Since(began)
	if r.cfg.Placed != nil {
		r.cfg.Placed()
	}
	r.fig.Placed, r.fig.Rate = placed.Seconds(), float64(r.fig.Slots)/placed.Seconds()
	r.fig.CPU = (usage.CPU() - used).Seconds() / float64(r.fig.Slots) * 1000
	<-submitted
	r.fig.Answer, r.fig.Late = spread(took), r.late.Load()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := r.await(ctx, func() (bool, string) { return r.counted(ctx) }, nil, nil); err != nil {
		return err
	}
	r.fig.Known, r.fig.Loaded = time.Since(began).Seconds(), usage.Resident()
	if r.cfg.Known != nil {
		r.cfg.Known()
	}
	return nil
}

// known submits single slots one after another, and checks everything.
func (r *run) known(ctx context.Context) error {
	answers, starts := make([]time.Duration, r.cfg.Singles), make([]time.Duration, r.cfg.Singles)
	for n := range r.cfg.Singles {
		had, began := r.starts(), time.Now()
		var m made
		var err error
		if answers[n], err = r.submit(ctx, n, fmt.Sprintf("single%d", n), 1, &m); err != nil {
			return err
		}
		for r.starts() == had {
			if err := pause(ctx, 200*time.Microsecond); err != nil {
				return fmt.Errorf("single%d was not started: %w", n, err)
			}
		}
		starts[n] = time.Since(began)
		r.made = append(r.made, m)
	}
	r.fig.Single, r.fig.Started = spread(answers), spread(starts)
	if err := r.await(ctx, func() (bool, string) { return r.counted(ctx) }, nil, nil); err != nil {
		return err
	}
	r.cfg.Progress("checking ledgers, decisions and status")
	var err error
	r.fig.Checked, err = r.checkAll(ctx)
	return err
}

// slotsOf is an app of so many slots.
func slotsOf(name string, replicas int) placement.App {
	return placement.App{
		Name: name, Namespace: placement.DefaultNamespace,
		Components: map[string]placement.Component{"web": {
			Server:   &placement.Server{Process: &placement.Process{Command: []string{"run"}}},
			Replicas: &replicas, Resources: placement.Resources{CPU: slotCPU, Memory: slotMemory},
		}},
	}
}

// submit deploys one app at one of the peers.
func (r *run) submit(ctx context.Context, n int, name string, replicas int, m *made) (time.Duration, error) {
	at := n % len(r.fleet.Peers())
	p := r.fleet.Peers()[at]
	began := time.Now()
	app := slotsOf(name, replicas)
	for {
		_, err := p.Door().PutApp(ctx, app, api.PutOptions{IdempotencyKey: name})
		if err == nil {
			break
		}
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil { // else the peer gave up, and people ask again
			return 0, fmt.Errorf("deploy %s at %s: %w", name, p.Name, err)
		}
		r.late.Add(1)
	}
	*m = made{key: app.Key(), want: replicas, peer: at}
	return time.Since(began), nil
}

// starts is how many slots were started at all peers.
func (r *run) starts() (n int) {
	for _, p := range r.fleet.Peers() {
		n += p.World.Starts()
	}
	return n
}

const (
	lookEvery = 20 * time.Millisecond // at the number of starts
	tellEvery = time.Second
)

// await waits until done holds, telling how far it is, and ends with the errors
// of those that submit, if there are any once they have ended.
func (r *run) await(ctx context.Context, done func() (bool, string), submitted <-chan struct{}, errs []error) error {
	for told := time.Now(); ; {
		select {
		case <-submitted:
			if err := errors.Join(errs...); err != nil {
				return err
			}
			submitted = nil
		default:
		}
		ok, text := done()
		if ok {
			return nil
		}
		if time.Since(told) >= tellEvery {
			told = time.Now()
			r.cfg.Progress(text)
		}
		if err := pause(ctx, lookEvery); err != nil {
			return fmt.Errorf("%s: %w", text, err)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
