package scale

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/testbed/fleet"
	"github.com/hansa-mesh/hansa/testbed/usage"
)

// CostConfig says what the cost of a peer is measured of.
type CostConfig struct {
	Dir      string // data folders
	Peers    int    // each a site of its own
	Apps     int    // of one slot each
	Changes  []float64
	Window   time.Duration // over which each figure is taken; default a minute
	RTTMax   time.Duration // between the farthest
	Seed     uint64
	Log      *slog.Logger
	Progress func(text string) // nil for none
	Each     func(Cost)        // is called as each is measured; nil for none
}

// Cost is what one peer takes in one window, the mean of all peers.
type Cost struct {
	Peers   int     `json:"peers"`
	Apps    int     `json:"apps"`
	Changes float64 `json:"changes_per_second"` // edits that start or end a slot, in the whole mesh

	Bytes     float64 `json:"bytes_per_second"` // sent, with the headers of IP and UDP
	BytesMost float64 `json:"bytes_per_second_most"`
	Packets   float64 `json:"packets_per_second"`
	CPU       float64 `json:"cores"` // CPU seconds a second
	Heap      float64 `json:"heap_bytes"`
	Resident  float64 `json:"resident_bytes"` // 0 where the system does not tell
}

// Bounds of what is measured.
const (
	costAppsMax    = 10_000
	costChangesMax = 1000.0
	costWindowMax  = time.Hour
	// calm is how long a mesh is left alone before a window: so that what was begun
	// before is over.
	calm = 10 * time.Second
)

func (c *CostConfig) check() error {
	switch {
	case c.Peers < 1 || c.Peers > fleet.PeersMax:
		return fmt.Errorf("cost: %d peers: 1 to %d", c.Peers, fleet.PeersMax)
	case c.Apps < 1 || c.Apps > costAppsMax:
		return fmt.Errorf("cost: %d apps: 1 to %d", c.Apps, costAppsMax)
	case c.Window < time.Second || c.Window > costWindowMax:
		return fmt.Errorf("cost: a window of %v: a second to %v", c.Window, costWindowMax)
	}
	for _, rate := range c.Changes {
		if !(rate > 0 && rate <= costChangesMax) {
			return fmt.Errorf("cost: %v changes a second: more than 0, at most %v", rate, costChangesMax)
		}
	}
	return nil
}

// coster is one measurement.
type coster struct {
	cfg      CostConfig
	fleet    *fleet.Fleet
	edits    int
	replicas []int // of each app
}

// MeasureCost starts a mesh and says what a peer takes: idle and empty, idle with
// apps, and at each rate of changes. In a synctest bubble time is virtual and so
// bytes do not depend on the machine; CPU and memory are real in both.
func MeasureCost(ctx context.Context, cfg CostConfig) (costs []Cost, err error) {
	if cfg.Window == 0 {
		cfg.Window = time.Minute
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	c := &coster{cfg: cfg, replicas: make([]int, cfg.Apps)}
	cfg.Progress(fmt.Sprintf("starting %d peers", cfg.Peers))
	room := placement.Resources{CPU: slotCPU, Memory: slotMemory}.Times(4*cfg.Apps/cfg.Peers + 4)
	room.Disk = 1 << 40 // said, since what this machine has free changes all the time, and digests with it
	c.fleet, err = fleet.Start(ctx, fleet.Config{
		Dir: cfg.Dir, Peers: cfg.Peers, RTTMax: cfg.RTTMax, Seed: cfg.Seed, Log: cfg.Log, Capacity: room,
		Progress: func(up int) { cfg.Progress(fmt.Sprintf("%d of %d peers know each other", up, cfg.Peers)) },
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.fleet.Close()) }()
	if err := c.window(ctx, 0, 0, &costs); err != nil {
		return costs, err
	}
	if err := c.deploy(ctx); err != nil {
		return costs, err
	}
	for _, rate := range append([]float64{0}, cfg.Changes...) {
		if err := c.window(ctx, cfg.Apps, rate, &costs); err != nil {
			return costs, err
		}
	}
	return costs, nil
}

// deploy makes the apps, of a slot each, one after another at all peers in turn.
func (c *coster) deploy(ctx context.Context) error {
	c.cfg.Progress(fmt.Sprintf("deploying %d apps", c.cfg.Apps))
	for n := range c.replicas {
		if err := c.edit(ctx, n, n, 1); err != nil {
			return err
		}
	}
	for c.starts() < c.cfg.Apps {
		if err := pause(ctx, lookEvery); err != nil {
			return fmt.Errorf("%d of %d slots were started: %w", c.starts(), c.cfg.Apps, err)
		}
	}
	return nil
}

func (c *coster) starts() (n int) {
	for _, p := range c.fleet.Peers() {
		n += p.World.Starts()
	}
	return n
}

// edit gives an app so many slots, through a peer.
func (c *coster) edit(ctx context.Context, app, peer, replicas int) error {
	p := c.fleet.Peers()[peer%len(c.fleet.Peers())]
	name := fmt.Sprintf("app%d", app)
	_, err := p.Door().PutApp(ctx, slotsOf(name, replicas), api.PutOptions{})
	if err != nil {
		return fmt.Errorf("edit %s at %s: %w", name, p.Name, err)
	}
	c.replicas[app] = replicas
	return nil
}

// window leaves the mesh alone for a while, and then measures.
func (c *coster) window(ctx context.Context, apps int, rate float64, costs *[]Cost) error {
	c.cfg.Progress(fmt.Sprintf("%d peers, %d apps, %v changes a second", c.cfg.Peers, apps, rate))
	if err := pause(ctx, calm); err != nil {
		return err
	}
	before, used, began := c.sent(), usage.CPU(), time.Now()
	made, err := c.change(ctx, rate)
	if err != nil {
		return err
	}
	took, used := time.Since(began).Seconds(), usage.CPU()-used
	cost := Cost{Peers: c.cfg.Peers, Apps: apps, Changes: float64(made) / took, CPU: used.Seconds() / took}
	for i, after := range c.sent() {
		bytes := float64(after.bytes-before[i].bytes) / took
		cost.Bytes += bytes
		cost.Packets += float64(after.packets-before[i].packets) / took
		cost.BytesMost = max(cost.BytesMost, bytes)
	}
	cost.Heap, cost.Resident = heap(), float64(usage.Resident())
	for _, of := range []*float64{&cost.Bytes, &cost.Packets, &cost.CPU, &cost.Heap, &cost.Resident} {
		*of /= float64(c.cfg.Peers)
	}
	*costs = append(*costs, cost)
	if c.cfg.Each != nil {
		c.cfg.Each(cost)
	}
	return nil
}

// change edits the apps in turn, so many a second, until the window is over: each
// gets a second slot, or loses it.
func (c *coster) change(ctx context.Context, rate float64) (made int, err error) {
	if rate == 0 {
		return 0, pause(ctx, c.cfg.Window)
	}
	var wg sync.WaitGroup
	n := int(rate * c.cfg.Window.Seconds())
	busy := make([]sync.Mutex, len(c.replicas)) // of each app: its edits come one after another
	errs := make([]error, n)
	for i := range n {
		if err := pause(ctx, time.Duration(float64(time.Second)/rate)); err != nil {
			errs[i] = err
			break
		}
		at := c.edits
		c.edits++
		wg.Go(func() {
			app := at % len(c.replicas)
			busy[app].Lock()
			defer busy[app].Unlock()
			errs[i] = c.edit(ctx, app, at, 3-c.replicas[app])
		})
	}
	wg.Wait()
	return n, errors.Join(errs...)
}

// sent is what each peer has sent so far.
type sent struct{ bytes, packets int64 }

func (c *coster) sent() []sent {
	var out []sent
	for _, p := range c.fleet.Peers() {
		bytes, _ := c.fleet.Network().Carried(p.Addr)
		packets, _ := c.fleet.Network().Packets(p.Addr)
		out = append(out, sent{bytes, packets})
	}
	return out
}

// heap is what the process holds of Go's memory once nothing is left to collect,
// stacks included.
func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}
