package fleet_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/testbed/fleet"
	"github.com/hansa-mesh/hansa/testbed/load"
)

var peersFlag = flag.Int("peers", 50, "how many peers TestFleet has")

const (
	// needCPU is what one slot of the load takes; capacity is four of them, so
	// that in a cut there is not room for all.
	needCPU  = 100
	capacity = 400
	// lastProbes is how long memberlist's last probes take to end.
	lastProbes = time.Minute
	// settleMax is how long the mesh may take to settle, in virtual time.
	settleMax = 2 * time.Minute
)

// app is a server of so many slots; another mark is another environment, so that
// what runs is replaced.
func app(name string, replicas int, mark string) placement.App {
	return placement.App{
		Name: name, Namespace: placement.DefaultNamespace,
		Components: map[string]placement.Component{"web": {
			Server:   &placement.Server{Process: &placement.Process{Command: []string{"run"}}},
			Replicas: &replicas, Resources: placement.Resources{CPU: needCPU, Memory: 64 << 20},
			Env: map[string]string{"MARK": mark}, Place: placement.Place{Spread: "site"},
		}},
	}
}

// story is a fleet with people and harm, in a bubble.
type story struct {
	t     *testing.T
	fleet *fleet.Fleet
	book  *load.Book
	rng   *rand.Rand
	begin time.Time

	mu     sync.Mutex // guards what follows
	events []string
	faults map[string]int
}

func (s *story) tell(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, fmt.Sprintf("%8.1fs %s", time.Since(s.begin).Seconds(), fmt.Sprintf(format, args...)))
}

// Write takes the peers' warnings into the story.
func (s *story) Write(p []byte) (int, error) {
	s.tell("%s", strings.TrimSpace(string(p)))
	return len(p), nil
}

func (s *story) fault(kind string, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	s.tell("%s: %s", kind, text)
	s.t.Logf("%6.1fs %s: %s", time.Since(s.begin).Seconds(), kind, text)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[kind]++
}

func (s *story) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// watch holds what every machine really runs to what it has, all the time.
func (s *story) watch(ctx context.Context) {
	for ctx.Err() == nil {
		for _, p := range s.fleet.Peers() {
			if n := p.World.Running(); n*needCPU > capacity {
				s.t.Errorf("%.1fs: %s runs %d slots of %d mCPU, of %d it has", time.Since(s.begin).Seconds(), p.Name, n, needCPU, capacity)
				return
			}
		}
		time.Sleep(200 * time.Millisecond) // of virtual time
	}
}

// part cuts the mesh in two along sites, for a while.
func (s *story) part(share int, lasts time.Duration) {
	inside, drawn := map[string]bool{}, map[string]bool{}
	for _, p := range s.fleet.Peers() {
		if !drawn[p.Site] && s.rng.IntN(100) < share {
			inside[p.Site] = true
		}
		drawn[p.Site] = true
	}
	s.fault("partition", "%v from the others for %v", slices.Sorted(maps.Keys(inside)), lasts)
	s.fleet.Partition(func(p *fleet.Peer) bool { return inside[p.Site] })
	time.Sleep(lasts)
	s.tell("heal")
	s.fleet.Network().Heal()
}

// oneWay silences a few peers in one direction.
func (s *story) oneWay(n int, lasts time.Duration) {
	for range n {
		mute := s.pick()
		s.fault("one-way cut", "nobody hears %s for %v", mute.Name, lasts)
		for _, p := range s.fleet.Peers() {
			if p != mute {
				s.fleet.Network().Cut(mute.Addr, p.Addr)
			}
		}
	}
	time.Sleep(lasts)
	s.tell("heal")
	s.fleet.Network().Heal()
}

func (s *story) pick() *fleet.Peer {
	return s.fleet.Peers()[s.rng.IntN(len(s.fleet.Peers()))]
}

// churn kills peers, some of them with their work, and brings them back, one of
// them with an empty disk.
func (s *story) churn(n int, lasts time.Duration) {
	var down []*fleet.Peer
	for len(down) < n {
		p := s.pick()
		if p.Node() == nil {
			continue
		}
		power := s.rng.IntN(2) == 0
		kind := "daemon killed"
		if power {
			kind = "power failure"
		}
		s.fault(kind, "%s", p.Name)
		s.must(s.fleet.Kill(p, power))
		down = append(down, p)
	}
	time.Sleep(lasts)
	for i, p := range down {
		if i == 0 {
			s.fault("disk emptied", "%s", p.Name)
			s.must(s.fleet.Wipe(p))
			s.book.Wiped(p.ID(), time.Now())
		}
		s.must(s.fleet.Restart(p))
		s.tell("%s is back", p.Name)
	}
}

// TestFleet: 30 peers of 15 sites are cut apart, silenced, killed and emptied
// under a load of edits at all of them; at the end what was acknowledged is
// there, nothing runs twice, and nothing was promised twice meanwhile.
func TestFleet(t *testing.T) {
	if testing.Short() {
		t.Skip("many peers with a full mesh of QUIC take half a minute, and the race detector far longer; not with -short")
	}
	const seed = 1
	dir := t.TempDir()
	real := time.Now()
	synctest.Test(t, func(t *testing.T) {
		s := &story{t: t, book: load.NewBook(), rng: rand.New(rand.NewPCG(seed, 2)), begin: time.Now(), faults: map[string]int{}}
		defer func() {
			if t.Failed() {
				t.Logf("what happened:\n%s", strings.Join(s.events, "\n"))
			}
		}()
		var err error
		s.fleet, err = fleet.Start(t.Context(), fleet.Config{
			Dir: dir, Peers: *peersFlag, PerSite: 2, RTTMax: 80 * time.Millisecond, Seed: seed,
			Capacity: placement.Resources{CPU: capacity, Memory: 4 << 30, Disk: 4 << 30},
			Log:      slog.New(slog.NewTextHandler(s, &slog.HandlerOptions{Level: slog.LevelInfo})),
		})
		s.must(err)
		defer func() {
			if err := s.fleet.Close(); err != nil {
				t.Error(err)
			}
			time.Sleep(lastProbes)
		}()
		s.tell("%d peers know each other", len(s.fleet.Peers()))
		s.live()
		s.tell("the load ended")
		t.Logf("%6.1fs the last fault is mended, the load ended", time.Since(s.begin).Seconds())
		v, err := s.finish()
		if err != nil {
			t.Error(err)
		}
		c := s.book.Counts()
		t.Logf("faults %v; %d edits acknowledged (%d by two disks or more), %d refused, %d without an answer; settled %v after the last fault with %d conflicts, %v after they were resolved; %d apps, %d programs; %v of virtual time",
			s.faults, c.Acked, c.Safe, c.Refused, c.Unknown, v.Settled, v.Conflicts, v.Resolved, v.Apps, v.Work, time.Since(s.begin))
		if c.Safe < 10 {
			t.Errorf("only %d edits were acknowledged by more than one disk: the load is too light to show anything", c.Safe)
		}
	})
	t.Logf("%v of real time", time.Since(real).Round(time.Second))
}

// live lets people work while harm is done.
func (s *story) live() {
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	var doors []load.Door
	for _, p := range s.fleet.Peers() {
		doors = append(doors, p.Door())
	}
	people := load.People{
		Doors: doors, Book: s.book, Seed: 1, Persons: 4, Names: len(doors) / 3, ReplicasMax: 4, PauseMax: 1200 * time.Millisecond, App: app,
	}
	var wg sync.WaitGroup
	wg.Go(func() { people.Run(ctx) })
	wg.Go(func() { s.watch(ctx) })
	time.Sleep(2 * time.Second) // of virtual time, as all here
	s.part(40, 8*time.Second)
	s.churn(len(doors)/10, 5*time.Second)
	s.oneWay(2, 4*time.Second)
	cancel()
	wg.Wait()
}

func (s *story) finish() (load.Verdict, error) {
	ctx, cancel := context.WithTimeout(s.t.Context(), settleMax)
	defer cancel()
	v, err := load.Finish(ctx, s.fleet.Doors(), s.book, s.fleet.Work)
	for _, p := range s.fleet.Peers() {
		if n := p.World.Running(); n*needCPU > capacity {
			err = errors.Join(err, fmt.Errorf("%s runs %d slots, more than it has room for", p.Name, n))
		}
	}
	return v, err
}
