package placement

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// pairMesh is a steward "a" that knows b, c and d, and an app whose db is at b and
// whose web is to be near it, at c or at d. By coordinates c is the nearer one.
func pairMesh(limit time.Duration) (p *Peer, now *Now, app App) {
	estimate := map[sitePair]time.Duration{pairOf("sb", "sc"): 10 * time.Millisecond, pairOf("sb", "sd"): 40 * time.Millisecond}
	p = New(Config{Self: PeerRef{Peer: "a", Incarnation: 1}, Name: "a", Site: "sa", Seed: 1, RTT: func(x, y PeerID) (time.Duration, bool) {
		d, ok := estimate[pairOf(SiteID("s"+x), SiteID("s"+y))]
		return d, ok
	}})
	now = &Now{Wall: time.Unix(1_800_000_000, 0)}
	drive(p, now, p.Begin(*now))
	for _, id := range []PeerID{"b", "c", "d"} {
		site := SiteID("s" + id)
		step(p, now, MemberChanged{Peer: id, Site: site, State: MemberAlive})
		step(p, now, DigestChanged{Digest: Digest{Peer: PeerRef{id, 1}, Name: string(id), Site: site, Drivers: []string{DriverProcess},
			Labels: map[string]string{"site": string(site)}, Capacity: Resources{CPU: 1000, Memory: 1 << 30}, Free: Resources{CPU: 1000, Memory: 1 << 30}}})
	}
	app = testApp("pair")
	one := 1
	db := app.Components["c"]
	db.Replicas, db.Place.Where = &one, "site=sb"
	web := db
	web.Place = Place{Where: "site in (sc,sd)", Near: &Near{Component: "db", RTT: Duration(limit)}}
	app.Components = map[string]Component{"db": db, "web": web}
	return p, now, app
}

// stepAll is step that also gives what is to be measured.
func stepAll(p *Peer, now *Now, ev Event) (asked map[string]PeerID, measure []Measure) {
	now.Mono += time.Millisecond
	now.Wall = now.Wall.Add(time.Millisecond)
	asked = map[string]PeerID{}
	pending := p.Step(*now, ev)
	for len(pending) > 0 {
		e := pending[0]
		pending = pending[1:]
		switch e := e.(type) {
		case Persist:
			pending = append(pending, p.Step(*now, Persisted{Token: e.Token})...)
		case Measure:
			measure = append(measure, e)
		case Send:
			if m, err := decodeMessage(e.Body); err == nil && m.Ask != nil {
				asked[m.Ask.Component] = e.To
			}
		}
	}
	return asked, measure
}

// lastDecision is why web is where it is.
func lastDecision(t *testing.T, p *Peer, app App) (reason, considered string) {
	t.Helper()
	all := p.Decisions(app.Key(), "web")
	if len(all) == 0 {
		t.Fatal("nothing was decided")
	}
	d := slices.MaxFunc(all, func(a, b Decision) int { return int(a.At - b.At) })
	for _, c := range d.Considered {
		considered += fmt.Sprintf("%s: %s\n", c.Peer, c.Reason)
	}
	return d.Reason, considered
}

// What coordinates tell is asked after at whoever it is about, before a plan that
// turns on it.
func TestNearIsMeasured(t *testing.T) {
	p, now, app := pairMesh(0)
	asked, measure := stepAll(p, now, Submit{Ticket: 1, App: app})
	if asked["db"] != "b" || asked["web"] != "" || len(measure) != 1 {
		t.Fatalf("asked %v, measures %v: want only db, at b, and one question", asked, measure)
	}
	if m := measure[0]; m.From != "b" || fmt.Sprint(m.To) != "[c d]" || m.Probe != MeasureProbes {
		t.Errorf("asks %+v: want how far b is from c and d", m)
	}
	if short := p.find(app.Key()).steward.short["web"]; !strings.Contains(short, "how far they would be from db is being measured") {
		t.Errorf("it says %q meanwhile", short)
	}
	asked, measure = stepAll(p, now, Measured{From: "b", To: []PeerID{"c", "d"}, RTT: []time.Duration{80 * time.Millisecond, 5 * time.Millisecond}})
	if asked["web"] != "d" || len(measure) != 0 {
		t.Errorf("asked %v, measures %v: d is the nearest in truth", asked, measure)
	}
	reason, considered := lastDecision(t, p, app)
	if !strings.Contains(reason, "distances: 3 measured") || !strings.Contains(considered, "near, 5 ms measured") {
		t.Errorf("it explains itself by %q and %s", reason, considered)
	}
}

// An answer that does not come, or comes to nothing, is waited for only so long.
func TestNearWaitsNotForEver(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer Event
		wait   time.Duration
	}{
		{"no answer", TimerFired{Key: wakeTimer}, time.Second},
		{"an older release", Measured{From: "b", To: []PeerID{"c", "d"}}, 0},
		{"nonsense", Measured{From: "b", To: []PeerID{"c", "d", "b", "stranger"}, RTT: []time.Duration{time.Hour, -5, 1, 1, 1, 1}}, 0},
	} {
		p, now, app := pairMesh(0)
		_, measure := stepAll(p, now, Submit{Ticket: 1, App: app})
		if len(measure) != 1 {
			t.Fatalf("%s: measures %v", c.name, measure)
		}
		now.Mono += c.wait
		asked, measure := stepAll(p, now, c.answer)
		if asked["web"] != "c" || len(measure) != 0 {
			t.Errorf("%s: asked %v, measures %v: want c, by coordinates", c.name, asked, measure)
		}
		if reason, considered := lastDecision(t, p, app); !strings.Contains(reason, "2 estimated") || !strings.Contains(considered, "near, 10 ms estimated") {
			t.Errorf("%s: it explains itself by %q and %s", c.name, reason, considered)
		}
	}
}

// A limit is kept by what was measured; and what was is not asked for again for a
// while.
func TestNearLimitIsMeasured(t *testing.T) {
	p, now, app := pairMesh(20 * time.Millisecond)
	stepAll(p, now, Submit{Ticket: 1, App: app})
	stepAll(p, now, Measured{From: "b", To: []PeerID{"c", "d"}, RTT: []time.Duration{80 * time.Millisecond, 70 * time.Millisecond}})
	if _, considered := lastDecision(t, p, app); !strings.Contains(considered, "c: too far: 80 ms, measured") || !strings.Contains(considered, "d: too far: 70 ms, measured") {
		t.Errorf("it explains itself by %s", considered)
	}
	asks := func(after time.Duration) int {
		now.Mono += after
		view := p.PlanFor(*now, app)
		_, measure := stepAll(p, now, TimerFired{Key: wakeTimer})
		if len(view.Measure) != len(measure) {
			t.Errorf("after %v: a plan on trial wants %v, the steward %v", after, view.Measure, measure)
		}
		return len(measure)
	}
	if n := asks(measuredFor / 2); n != 0 {
		t.Errorf("%d questions while the answers are fresh", n)
	}
	if n := asks(measuredFor); n != 1 {
		t.Errorf("%d questions when the answers are old", n)
	}
}

func TestToMeasure(t *testing.T) {
	input := func(replicas int, place Place, ms ...int64) PlanInput {
		in := planFor(replicas, place, peersFor(9)) // p000 to p002 at s0, and so on
		in.Near = map[PeerID]Distance{}
		for i, rtt := range ms { // who is at the site is so for certain; of a component it only seems so here
			in.Near[PeerID(fmt.Sprintf("p%03d", i))] = Distance{RTT: rtt * 1000, Measured: rtt == 0 && place.Near != nil && place.Near.Site != ""}
		}
		return in
	}
	near := &Near{Site: "s0"}
	for _, c := range []struct {
		name string
		in   PlanInput
		want string
	}{
		{"near nothing", input(3, Place{}, 0, 0, 0, 1, 2, 3, 4, 5, 6), "[]"},
		{"room for all at hand", input(30, Place{Near: near}, 0, 0, 0, 1, 2, 3, 4, 5, 6), "[]"},
		{"not for all, one of each site, the nearest first", input(31, Place{Near: near}, 0, 0, 0, 9, 8, 7, 6, 5, 4), "[p008 p005]"},
		{"what only seems at hand", input(3, Place{Near: &Near{Component: "other"}}, 0, 0, 0, 5, 5, 5, 4, 4, 4), "[p000 p006 p003]"},
		{"spread", input(3, Place{Near: near, Spread: "site"}, 0, 0, 0, 5, 5, 5, 4, 4, 4), "[p006 p003]"},
		{"what is not known is far", input(3, Place{Near: near}, 7, 7, 7, 8, 8, 8), "[p000 p003 p006]"},
		{"one site only", input(3, Place{Near: near, Where: "site=s1"}, 0, 0, 0, 5, 5, 5, 4, 4, 4), "[]"},
		{"one site, and a limit", input(3, Place{Near: &Near{Site: "s0", RTT: 1}, Where: "site=s1"}, 0, 0, 0, 5, 5, 5, 4, 4, 4), "[p003]"},
		{"beyond the limit by coordinates", input(3, Place{Near: &Near{Site: "s0", RTT: 1}, Where: "site!=s0"}, 0, 0, 0, 5, 5, 5, 4, 4, 4), "[p006 p003]"},
	} {
		if got := fmt.Sprint(ToMeasure(c.in)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// What peers say of distances takes so much room and no more.
func TestDistancesAreBounded(t *testing.T) {
	d := newDistances()
	for i := range 3 * distancesMax {
		d.ask("here", SiteID(fmt.Sprint(i)), time.Duration(i)*time.Millisecond)
		d.told("there", SiteID(fmt.Sprint(i)), time.Second, time.Duration(i)*time.Millisecond)
	}
	if len(d.pairs) > distancesMax {
		t.Errorf("%d pairs are remembered", len(d.pairs))
	}
}
