package gossip

import (
	"flag"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// detection kills peers one after the other, and returns how long each of the
// others took to know.
func detection(t *testing.T, n, kills int, rtt time.Duration, loss float64) []time.Duration {
	var took []time.Duration
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, rtt, loss)
		nodes := m.startMany(n, false)
		time.Sleep(10 * time.Second)
		for range kills {
			victim := nodes[len(nodes)-1]
			nodes = nodes[:len(nodes)-1]
			died := time.Now()
			m.kill(victim)
			m.eventually(time.Minute, "the dead one is known to all", func() bool {
				for _, o := range nodes {
					if s := stateOf(o, victim.id); s != StateDead {
						return false
					}
				}
				return true
			})
			for _, o := range nodes {
				for _, mem := range o.Members() {
					if mem.Peer == victim.id {
						took = append(took, mem.Since.Sub(died))
					}
				}
			}
			// The peer comes back, so that the mesh keeps its size.
			again := m.start(victim.id, nil, nodes[0].id)
			nodes = append([]*node{again}, nodes...)
			m.eventually(time.Minute, "it is back", func() bool { return allAlive(nodes, nodes) })
			time.Sleep(3 * time.Second)
		}
	})
	slices.Sort(took)
	return took
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

var deaths = flag.Int("deaths", 0, "how many peers TestDetection kills in each mesh, if more than usual")

func TestDetection(t *testing.T) {
	for _, c := range []struct {
		n, kills int
		p50, p99 time.Duration
	}{
		{2, 20, 5 * time.Second, 7 * time.Second},
		{3, 30, 5 * time.Second, 7 * time.Second},
		{5, 30, 4 * time.Second, 6 * time.Second},
		{10, 60, 4 * time.Second, 6 * time.Second},
		{50, 12, 4500 * time.Millisecond, 6 * time.Second},
		{200, 3, 4500 * time.Millisecond, 6 * time.Second},
	} {
		t.Run(fmt.Sprint(c.n), func(t *testing.T) {
			if testing.Short() && c.n > 10 {
				t.Skip("large mesh")
			}
			took := detection(t, c.n, max(c.kills, *deaths), 100*time.Millisecond, 0.005)
			p50, p99 := quantile(took, 0.5), quantile(took, 0.99)
			if (p50 > c.p50 || p99 > c.p99) && c.kills < 10 && *deaths == 0 { // a few deaths say little: more do
				took = append(took, detection(t, c.n, 2*c.kills, 100*time.Millisecond, 0.005)...)
				slices.Sort(took)
				p50, p99 = quantile(took, 0.5), quantile(took, 0.99)
			}
			t.Logf("%d peers: dead known after p50 %v, p99 %v, max %v", c.n, p50, p99, took[len(took)-1])
			if p50 > c.p50 || p99 > c.p99 {
				t.Errorf("p50 %v (at most %v), p99 %v (at most %v)", p50, c.p50, p99, c.p99)
			}
		})
	}
}

var quiet = flag.Duration("quiet", 20*time.Minute, "how long TestNoFalseDeath watches, in virtual time: an hour takes half a minute")

// TestNoFalseDeath: losses for as long as -quiet says, and nobody alive is
// called dead.
func TestNoFalseDeath(t *testing.T) {
	if testing.Short() {
		t.Skip("50 peers for many virtual minutes are too much for the race detector's books; not with -short")
	}
	for_ := *quiet
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 200*time.Millisecond, 0.02)
		nodes := m.startMany(50, false)
		time.Sleep(for_)
		var bytes, packets uint64
		for _, n := range nodes {
			s := n.Stats()
			bytes += s.BytesOut
			packets += s.PacketsOut
		}
		t.Logf("50 peers, %v: %d suspicions seen, %d deaths; %d B/s and %.1f packets/s a peer", for_,
			m.count(EventSuspect, ""), m.count(EventDead, ""),
			bytes/50/uint64(for_.Seconds()), float64(packets)/50/for_.Seconds())
		if n := m.count(EventDead, ""); n > 0 {
			t.Errorf("%d times somebody alive was called dead", n)
		}
		// Whoever is under suspicion just now refutes it.
		m.eventually(time.Minute, "everybody is alive", func() bool { return allAlive(nodes, nodes) })
	})
}
