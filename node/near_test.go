package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport"
	"github.com/hansa-mesh/hansa/transport/memnet"
)

// crookedMesh is a mesh where coordinates mislead, since no map has such distances:
// s2 and s3 are near all others but far from each other, s4 is far from all but s2.
func crookedMesh(t *testing.T) *mesh {
	m := newMesh(t, 6, 6*time.Millisecond)
	link := func(a, b int, rtt time.Duration) {
		m.net.SetLink(m.sites[a-1].addr, m.sites[b-1].addr, memnet.Link{Latency: rtt / 2})
	}
	for _, other := range []int{1, 3, 5, 6} {
		link(4, other, 200*time.Millisecond)
	}
	link(2, 3, 60*time.Millisecond)
	link(2, 4, 30*time.Millisecond)
	return m
}

// crookedApp is a db at s2, and web that is to be near it at s3 or s4.
func crookedApp(name string) placement.App {
	app := serverApp(name, 1)
	db, web := app.Components["web"], app.Components["web"]
	db.Place = placement.Place{Where: "site=s2"}
	web.Place = placement.Place{Where: "site in (s3,s4)", Near: &placement.Near{Component: "db"}}
	app.Components = map[string]placement.Component{"db": db, "web": web}
	return app
}

// What is near another component lands at the truly nearest place, though
// coordinates say otherwise: whoever is concerned was asked. While it does not
// answer, coordinates decide.
func TestNearIsMeasuredWhereCoordinatesMislead(t *testing.T) {
	if testing.Short() {
		t.Skip("coordinates need many virtual minutes; not with -short")
	}
	synctest.Test(t, func(t *testing.T) {
		m := crookedMesh(t)
		defer m.close()
		steward := m.sites[0].node
		estimate := func(a, b int) time.Duration {
			rtt, _, _ := steward.gossip.RTT(m.sites[a-1].node.ID(), m.sites[b-1].node.ID())
			return rtt
		}
		m.until("coordinates mislead", 30*time.Minute, func() error {
			if y, x := estimate(2, 3), estimate(2, 4); y > 45*time.Millisecond || x < 90*time.Millisecond {
				return fmt.Errorf("s3 seems %v from s2, s4 %v", y, x)
			}
			return nil
		})
		why := func(name string) string {
			x, err := backend{steward}.Explain(t.Context(), placement.AppKey{Namespace: placement.DefaultNamespace, App: name}, "web")
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("%+v", x)
		}
		var speaks atomic.Bool
		there := m.sites[1].node
		transport.HandleTyped(there.link, methodRTT, func(ctx context.Context, _ string, q rttQuery) (rttAnswer, error) {
			if !speaks.Load() {
				return rttAnswer{}, errors.New("it says nothing")
			}
			return rttAnswer{there.rulers.measure(ctx, q.To, q.Probe)}, nil
		})
		if _, err := (backend{steward}).PutApp(t.Context(), api.PutRequest{App: crookedApp("guess")}); err != nil {
			t.Fatal(err)
		}
		m.until("it is where coordinates say", time.Minute, func() error { return m.runOnce(m.sites[0], "guess", 2, "s2", "s3") })
		if text := why("guess"); strings.Contains(text, "ms measured") || !strings.Contains(text, "ms estimated") {
			t.Errorf("it explains itself by %s", text)
		}

		speaks.Store(true)
		time.Sleep(time.Minute) // of virtual time: what was not answered is asked again after a while
		plan, err := backend{steward}.Plan(t.Context(), crookedApp("near"))
		if err != nil {
			t.Fatal(err)
		}
		if text := fmt.Sprintf("%+v", plan); !strings.Contains(text, "ms measured") {
			t.Errorf("the plan on trial measured nothing: %s", text)
		}
		if _, err := (backend{steward}).PutApp(t.Context(), api.PutRequest{App: crookedApp("near")}); err != nil {
			t.Fatal(err)
		}
		m.until("it is where it is truly near", time.Minute, func() error { return m.runOnce(m.sites[0], "near", 2, "s2", "s4") })
		if text := why("near"); !strings.Contains(text, "ms measured") {
			t.Errorf("it explains itself by %s", text)
		}
	})
}

// What a deploy costs that is near nothing is no question about distances.
func TestOnlyNearAsksHowFar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		m := newMesh(t, 4, 20*time.Millisecond)
		defer m.close()
		for _, s := range m.sites {
			n := s.node
			transport.HandleTyped(n.link, methodRTT, func(ctx context.Context, _ string, q rttQuery) (rttAnswer, error) {
				asked.Add(1)
				return rttAnswer{n.rulers.measure(ctx, q.To, q.Probe)}, nil
			})
		}
		if _, err := (backend{m.sites[0].node}).PutApp(t.Context(), api.PutRequest{App: serverApp("shop", 4)}); err != nil {
			t.Fatal(err)
		}
		m.until("deployed", time.Minute, func() error { return m.runOnce(m.sites[0], "shop", 4, "s1", "s2", "s3", "s4") })
		if n := asked.Load(); n != 0 {
			t.Errorf("%d questions about distances", n)
		}
		if _, err := (backend{m.sites[0].node}).PutApp(t.Context(), api.PutRequest{App: crookedApp("near")}); err != nil {
			t.Fatal(err)
		}
		m.until("deployed", time.Minute, func() error { return m.runOnce(m.sites[0], "near", 2, "s2", "s3", "s4") })
		if n := asked.Load(); n != 1 {
			t.Errorf("%d questions about distances, of two components of which one is near the other", n)
		}
	})
}

// A question about distances takes bounded room and time, and probes few, whoever
// asks and however often.
func TestRulersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pings atomic.Int64
		measured := map[string]time.Duration{"known": 7 * time.Millisecond}
		lives := map[string]bool{"dead": false}
		for i := range 200 {
			lives[fmt.Sprint("p", i)] = true
		}
		r := &rulers{
			known: func(peer string) (time.Duration, bool) { d, ok := measured[peer]; return d, ok },
			lives: func() map[string]bool { return lives },
			ping: func(ctx context.Context, peer string) error {
				pings.Add(1)
				<-ctx.Done() // it does not answer
				return ctx.Err()
			},
			probes: make(chan struct{}, probesMax), probed: map[string]time.Time{},
		}
		to := []string{"dead", "stranger", "known"}
		for i := range 40 {
			to = append(to, fmt.Sprint("p", i))
		}
		began := time.Now()
		got := r.measure(t.Context(), to, 1<<30)
		if took := time.Since(began); took != probeMax {
			t.Errorf("it took %v", took)
		}
		if pings.Load() != placement.MeasureProbes || got[2] != 7000 || got[0] != -1 || got[1] != -1 || len(got) != len(to) {
			t.Errorf("%d probes, %v", pings.Load(), got)
		}
		for range 100 {
			r.measure(t.Context(), to, placement.MeasureProbes)
		}
		if pings.Load() != 40 {
			t.Errorf("%d probes of 40 that do not answer, in 100 questions", pings.Load())
		}
		for i := 40; i < 200; i += placement.MeasureProbes { // at once
			var some []string
			for j := range placement.MeasureProbes {
				some = append(some, fmt.Sprint("p", i+j))
			}
			go r.measure(t.Context(), some, placement.MeasureProbes)
		}
		synctest.Wait()
		if n := pings.Load() - 40; n != probesMax {
			t.Errorf("%d probes at once", n)
		}
		time.Sleep(time.Second) // of virtual time
		if len(r.probes) != 0 || len(r.probed) > 2*len(lives) {
			t.Errorf("%d probes are still counted, %d peers remembered", len(r.probes), len(r.probed))
		}
	})
}

// Over the network: a peer that was not measured is, and too much is refused.
func TestRTTOverTheNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 40*time.Millisecond)
		defer m.close()
		from, at, to := m.sites[0].node, m.sites[1].node, m.sites[2].node.ID()
		at.link.Disconnect(to, "it is to be dialled anew")
		ask := func(q rttQuery) (rttAnswer, error) {
			return transport.CallTyped[rttQuery, rttAnswer](t.Context(), from.link, at.ID(), methodRTT, q)
		}
		a, err := ask(rttQuery{To: []string{to, "", at.ID()}, Probe: 1})
		if err != nil || len(a.RTT) != 3 || a.RTT[0] < 39_000 || a.RTT[0] > 60_000 || a.RTT[1] != -1 || a.RTT[2] != 0 {
			t.Errorf("%+v, %v", a, err)
		}
		_, err = ask(rttQuery{To: slices.Repeat([]string{to}, placement.MeasureMax+1)})
		if e := (*transport.Error)(nil); !errors.As(err, &e) || e.Kind != transport.KindTooLarge {
			t.Errorf("too many: %v", err)
		}
	})
}
