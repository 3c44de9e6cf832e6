package gossip

import (
	"bytes"
	"flag"
	"fmt"
	"hash/fnv"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	wanPeers   = flag.Int("wan.peers", 100, "peers of TestUpdateOverWAN; a thousand take some GiB and minutes")
	wanUpdates = flag.Int("wan.updates", 10, "updates that TestUpdateOverWAN waits for, one after the other")
	wanIdle    = flag.Duration("wan.idle", time.Minute, "how long TestUpdateOverWAN watches an idle mesh, in virtual time")
)

// wanRTT is how far two peers of a made-up WAN are apart: 20 to 200 ms.
func wanRTT(a, b string) time.Duration {
	h := fnv.New64a()
	_, _ = h.Write([]byte(min(a, b) + max(a, b)))
	return 20*time.Millisecond + time.Duration(h.Sum64()%180_000)*time.Microsecond
}

// startWAN runs n peers that know each other. All meet through the first one, and no
// datagram goes until they have: n peers that tell n peers of n newcomers each are what
// a mesh that grows never sees at once.
func (m *mesh) startWAN(n int, loss float64) []*node {
	m.t.Helper()
	m.wire.rtt = wanRTT
	m.wire.setLoss(loss)
	m.wire.silent.Store(true)
	var nodes []*node
	for i := range n {
		id := m.identity(i)
		var known []string
		if i > 0 {
			known = append(known, nodes[0].id)
		}
		nodes = append(nodes, m.start(id, m.replica(id, 1), known...))
		time.Sleep(5 * time.Millisecond)
	}
	time.Sleep(time.Second)
	var wg sync.WaitGroup
	for _, o := range nodes[1:] {
		wg.Go(func() {
			if err := o.contact(nodes[0].id); err != nil {
				m.t.Error(err)
			}
		})
		time.Sleep(5 * time.Millisecond)
	}
	wg.Wait()
	m.wire.silent.Store(false)
	m.eventually(time.Minute, "everybody sees everybody", func() bool { return allAlive(nodes, nodes) })
	return nodes
}

// traffic is what peers sent, in all.
type traffic struct{ datagrams, packets, streams uint64 }

func (m *mesh) traffic(nodes []*node) (t traffic) {
	for _, n := range nodes {
		s := n.Stats()
		t.datagrams += s.BytesOut
		t.packets += s.PacketsOut
	}
	t.streams = m.wire.streamed.Load()
	return t
}

// over is what a peer sent in a second, since before.
func (t traffic) over(before traffic, peers int, span time.Duration) string {
	each := func(now, before uint64) float64 { return float64(now-before) / float64(peers) / span.Seconds() }
	return fmt.Sprintf("%.0f B/s in %.1f packets/s, %.0f B/s on streams", each(t.datagrams, before.datagrams),
		each(t.packets, before.packets), each(t.streams, before.streams))
}

// arrivals is how long each of the peers took to have either of two things.
func arrivals(t *testing.T, nodes []*node, one, other func(*node) bool) (ones, others []time.Duration) {
	t.Helper()
	start := time.Now()
	look := func(waiting []*node, has func(*node) bool, took *[]time.Duration) []*node {
		return slices.DeleteFunc(waiting, func(n *node) bool {
			ok := has(n)
			if ok {
				*took = append(*took, time.Since(start))
			}
			return ok
		})
	}
	for a, b := slices.Clone(nodes), slices.Clone(nodes); len(a)+len(b) > 0; {
		if time.Since(start) > 3*time.Minute {
			t.Fatalf("%d and %d of %d peers do not have it", len(a), len(b), len(nodes))
		}
		time.Sleep(10 * time.Millisecond)
		a, b = look(a, one, &ones), look(b, other, &others)
	}
	return ones, others
}

// wanTalk is how many packets a peer sends in a second that tells others of something:
// at rest it sends five, questions who lives and answers.
const wanTalk = 7.0

// everywhereMax is how long an update may take to be known everywhere.
const everywhereMax = 3 * time.Second

// TestUpdateOverWAN: a record and a digest are known everywhere within everywhereMax,
// and nobody alive is called dead meanwhile.
func TestUpdateOverWAN(t *testing.T) {
	n := *wanPeers
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 0, 0)
		nodes := m.startWAN(n, 0.015)
		start := time.Now()
		for !allSettled(nodes)() || slices.ContainsFunc(nodes, func(o *node) bool { return o.Stats().QueueDepth > 0 }) {
			if time.Since(start) > 10*time.Minute {
				t.Fatal("they do not settle")
			}
			time.Sleep(5 * time.Second)
		}
		t.Logf("%d peers settled after %v", n, time.Since(start))
		for packets := wanTalk; packets >= wanTalk; { // what they were told of newcomers goes round for minutes more
			before := m.traffic(nodes)
			time.Sleep(5 * time.Second)
			packets = float64(m.traffic(nodes).packets-before.packets) / float64(n) / 5
		}
		t.Logf("and told each other of all after %v", time.Since(start))
		before := m.traffic(nodes)
		time.Sleep(*wanIdle)
		t.Logf("idle, a peer sends %s", m.traffic(nodes).over(before, n, *wanIdle))

		var records, digests []time.Duration
		before, start = m.traffic(nodes), time.Now()
		for i := range *wanUpdates {
			from, key, class := nodes[i*n / *wanUpdates], fmt.Sprint("update", i), []byte(fmt.Sprint("class", i))
			if err := from.table.Put(t.Context(), key, make([]byte, 300)); err != nil {
				t.Fatal(err)
			}
			if err := from.SetDigest(class, make([]byte, 2000)); err != nil {
				t.Fatal(err)
			}
			r, d := arrivals(t, nodes, func(o *node) bool { return value(o.table, key) != "" },
				func(o *node) bool { d, ok := o.Digest(from.id); return ok && bytes.Equal(d.Class, class) })
			records, digests = append(records, r...), append(digests, d...)
			time.Sleep(time.Until(start.Add(time.Duration(i+1) * 5 * time.Second)))
		}
		t.Logf("with an update every 5 s, a peer sends %s", m.traffic(nodes).over(before, n, time.Since(start)))
		for what, took := range map[string][]time.Duration{"record": records, "digest": digests} {
			slices.Sort(took)
			last := took[len(took)-1]
			t.Logf("a %s is known after p50 %v, p99 %v, everywhere after %v", what, quantile(took, 0.5), quantile(took, 0.99), last)
			if last > everywhereMax {
				t.Errorf("%v until a %s is everywhere, at most %v", last, what, everywhereMax)
			}
		}
		if dead := m.count(EventDead, ""); dead > 0 {
			t.Errorf("%d times somebody alive was called dead", dead)
		}
	})
}
