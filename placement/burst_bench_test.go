package placement

import (
	"flag"
	"fmt"
	"syscall"
	"testing"
	"time"
)

var burstLarge = flag.Bool("burst.large", false, "BenchmarkBurst of many replicas over many hosts too, which takes minutes to hours")

// burst is many cores with nothing between them: what one persists is on disk at
// once, what it sends has arrived, what it starts runs. The first of them takes
// all apps and drives them; it knows all others, and they know it, each of them a
// site with one host. Records go to whoever has something of the app: what tables
// cost a mesh is not in it.
type burst struct {
	b       *testing.B
	now     Now
	cores   []*Peer
	at      map[PeerID]int
	wakes   []time.Duration // by core, 0: none
	queue   []burstMail
	held    map[UID]map[int]bool // cores that a message about the app went to
	tables  map[UID][]RecordChanged
	starts  int
	answers int
}

type burstMail struct {
	to int
	ev Event
}

func newBurst(b *testing.B, hosts, slots int) *burst {
	w := &burst{
		b: b, now: Now{Wall: time.Unix(1_800_000_000, 0)}, at: map[PeerID]int{}, wakes: make([]time.Duration, hosts),
		held: map[UID]map[int]bool{}, tables: map[UID][]RecordChanged{},
	}
	room := CPU(slots/hosts+1) * 400 // four times what comes
	for i := range hosts {
		id := PeerID(fmt.Sprintf("p%05d", i))
		w.at[id] = i
		p := New(Config{Self: PeerRef{id, 1}, Name: string(id), Site: SiteID("s" + id), Seed: uint64(i), RTT: func(PeerID, PeerID) (time.Duration, bool) { return 0, false }})
		w.cores = append(w.cores, p)
		w.carry(i, p.Begin(w.now))
		w.step(i, HostChanged{Host: Host{ID: "h", Arch: "amd64", Drivers: []string{DriverProcess}, Capacity: Resources{CPU: room, Memory: Bytes(room) << 20}}})
		w.step(i, WorkListed{Driver: DriverProcess})
	}
	w.settle()
	for i := range hosts {
		if i > 0 {
			w.meet(i, 0)
			w.meet(0, i)
		}
	}
	w.settle()
	w.pass(time.Minute) // the time of grace after a start
	return w
}

func (w *burst) meet(who, whom int) {
	other := w.cores[whom]
	w.step(who, MemberChanged{Peer: other.cfg.Self.Peer, Site: other.cfg.Site, State: MemberAlive})
	w.step(who, DigestChanged{Digest: other.Digest()})
}

func (w *burst) step(i int, ev Event) { w.carry(i, w.cores[i].Step(w.now, ev)) }

func (w *burst) carry(i int, effects []Effect) {
	self := w.cores[i].cfg.Self.Peer
	for _, e := range effects {
		switch e := e.(type) {
		case Persist:
			w.queue = append(w.queue, burstMail{i, Persisted{Token: e.Token}})
		case Send:
			to := w.at[e.To]
			if e.m.Ask != nil || e.m.Store != nil {
				w.send(e, to)
			}
			w.queue = append(w.queue, burstMail{to, Receive{From: self, Body: e.Body}})
		case Publish:
			w.publish(i, e)
		case Start:
			w.starts++
			w.queue = append(w.queue, burstMail{i, WorkChanged{ID: e.ID, State: WorkState{State: AllocRunning, Driver: DriverProcess}}})
		case Answer:
			w.answers++
			if e.Result.Err != nil {
				w.b.Fatal(e.Result.Err)
			}
		case Timer:
			w.wakes[i] = time.Duration(e.At)
		}
	}
}

// send has whoever hears of an app for the first time read its records.
func (w *burst) send(e Send, to int) {
	var uid UID
	if e.m.Ask != nil {
		uid = e.m.Ask.UID
	} else if in, err := w.cores[to].catalog.readIntent(e.m.Store.Intents[0]); err == nil {
		uid = in.intent.UID
	}
	if w.held[uid] == nil {
		w.held[uid] = map[int]bool{}
	}
	if !w.held[uid][to] {
		w.held[uid][to] = true
		for _, r := range w.tables[uid] {
			w.queue = append(w.queue, burstMail{to, r})
		}
	}
}

func (w *burst) publish(i int, e Publish) {
	r := RecordChanged{Table: e.Table, Key: e.Key, Siblings: [][]byte{e.Value}}
	w.queue = append(w.queue, burstMail{i, r})
	uid := UID(e.Key)
	switch e.Table {
	case TableIntents:
		var s Signed
		var in Intent
		if Decode(e.Value, &s) != nil || Decode(s.Body, &in) != nil {
			w.b.Fatal("an intent that nobody can read")
		}
		uid = in.UID
	case TableKeepers:
	default:
		return
	}
	w.tables[uid] = append(w.tables[uid], r)
	for _, to := range sortedKeys(w.held[uid]) {
		if to != i {
			w.queue = append(w.queue, burstMail{to, r})
		}
	}
}

// settle lets all that is under way arrive.
func (w *burst) settle() {
	for len(w.queue) > 0 {
		m := w.queue[0]
		w.queue = w.queue[1:]
		w.step(m.to, m.ev)
	}
}

// pass lets time pass, timers included.
func (w *burst) pass(d time.Duration) {
	w.now.Mono += d
	w.now.Wall = w.now.Wall.Add(d)
	for i, at := range w.wakes {
		if at > 0 && at <= w.now.Mono {
			w.wakes[i] = 0
			w.step(i, TimerFired{Key: wakeTimer})
		}
	}
	w.settle()
}

// running is the slots that the first core was told run.
func (w *burst) running() (n int) {
	for _, a := range w.cores[0].apps {
		for _, r := range a.rows {
			for _, c := range r.claims() {
				n += c.Running.Len()
			}
		}
	}
	return n
}

// cpuTime is what this process has used of the cores.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBurst is the pure core alone: apps are submitted at one peer until
// every slot runs and their steward was told so. Times are of CPU, of all cores
// together.
func BenchmarkBurst(b *testing.B) {
	type size struct{ hosts, apps, replicas int }
	sizes := []size{{1, 100, 100}, {1, 1000, 1}, {1000, 1000, 1}}
	if *burstLarge {
		sizes = append(sizes, size{100, 100, 100}, size{1000, 100, 100}, size{5000, 100, 500})
	}
	for _, c := range sizes {
		b.Run(fmt.Sprintf("hosts=%d/apps=%d/replicas=%d", c.hosts, c.apps, c.replicas), func(b *testing.B) {
			slots := c.apps * c.replicas
			var used time.Duration
			for range b.N {
				b.StopTimer()
				w := newBurst(b, c.hosts, slots)
				b.StartTimer()
				before := cpuTime(b)
				for n := range c.apps {
					app := testApp(fmt.Sprintf("app%d", n))
					web := app.Components["c"]
					web.Replicas = &c.replicas
					app.Components["c"] = web
					w.step(0, Submit{Ticket: uint64(n + 1), App: app})
					w.settle()
				}
				for range 50 {
					if w.running() == slots {
						break
					}
					w.pass(100 * time.Millisecond)
				}
				used += cpuTime(b) - before
				if w.starts != slots || w.running() != slots || w.answers != c.apps {
					b.Fatalf("%d slots started and %d known to run, of %d; %d of %d apps answered", w.starts, w.running(), slots, w.answers, c.apps)
				}
			}
			b.ReportMetric(float64(used.Microseconds())/float64(b.N*slots), "cpu-us/slot")
			b.ReportMetric(float64(b.N*slots)/used.Seconds(), "slots/cpu-s")
		})
	}
}
