package placement

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// pagesOf are the keys that a peer has published, and their apps.
func pagesOf(p *Peer) map[string]int {
	out := map[string]int{}
	for key, page := range p.catalog.pages {
		if StatusOf(key) == p.cfg.Self.Peer {
			out[key] = len(page.Apps)
		}
	}
	return out
}

// onePeer is a peer alone that runs n apps of one slot each.
func onePeer(t *testing.T, n int) (*Peer, *Now) {
	t.Helper()
	p, now := alone(t, 1)
	for i := range n {
		one := 1
		app := App{Name: fmt.Sprintf("app%03d", i), Namespace: DefaultNamespace, Components: map[string]Component{
			"web": {Server: &Server{Process: &Process{Command: []string{"run"}}}, Replicas: &one, Resources: Resources{CPU: 1, Memory: 1}},
		}}
		step(p, now, Submit{Ticket: uint64(i + 1), App: app})
	}
	pass(p, now, 3*time.Second)
	return p, now
}

// alone is a peer that has a host and no neighbours.
func alone(t *testing.T, life Incarnation) (*Peer, *Now) {
	t.Helper()
	p := New(Config{Self: PeerRef{"a", life}, Name: "a", Site: "sa", Seed: 1, Has: func(Artifact) bool { return true }})
	now := &Now{Wall: time.Unix(1_800_000_000, 0)}
	drive(p, now, p.Begin(*now))
	step(p, now, HostChanged{Host: Host{ID: "h", Arch: "amd64", Drivers: []string{DriverProcess}, Capacity: Resources{CPU: 4000, Memory: 4 << 30}}})
	step(p, now, WorkListed{Driver: DriverProcess})
	return p, now
}

// What a peer has of many apps is on a few pages, and what it has no more is on
// none.
func TestSummariesAreOnPages(t *testing.T) {
	p, now := onePeer(t, 2*pageApps+1)
	if got := pagesOf(p); len(got) != 3 {
		t.Fatalf("%d pages: %v, want 3", len(got), got)
	}
	for _, uid := range p.uids() {
		if n := p.catalog.status[uid]["a"].count("web", AllocStarting); n != 1 {
			t.Errorf("%s: %d slots are starting, as is told, want 1", uid, n)
		}
	}
	gone := AppKey{Namespace: DefaultNamespace, App: "app000"}
	uid := p.find(gone).uid
	for i := range pageApps { // all of the first page
		step(p, now, Remove{Ticket: 1000, Key: AppKey{Namespace: DefaultNamespace, App: fmt.Sprintf("app%03d", i)}})
		for _, a := range p.work.sorted() {
			if a.state.State == AllocStopping {
				step(p, now, WorkChanged{ID: a.id, State: WorkState{State: AllocStopped}})
			}
		}
	}
	pass(p, now, 3*time.Second)
	if got := pagesOf(p); len(got) != 2 {
		t.Errorf("after a page of apps was removed: %v, want 2 pages", got)
	}
	if _, ok := p.catalog.status[uid]; ok {
		t.Errorf("%s is still told of", uid)
	}
}

// A peer goes on with its pages after a restart, and takes those of an earlier life
// of its store away once it knows what it runs.
func TestPagesOfAnEarlierLife(t *testing.T) {
	first, _ := onePeer(t, 3)
	keys := sortedKeys(first.catalog.pages)
	if len(keys) != 1 || !strings.HasSuffix(keys[0], "/a") {
		t.Fatalf("pages %v", keys)
	}
	page := Encode(first.sign(first.catalog.pages[keys[0]]))
	p := New(Config{Self: PeerRef{"a", 1}, Name: "a", Site: "sa", Seed: 2})
	p.LoadTable(TableStatus, keys[0], [][]byte{page})
	now := &Now{Wall: time.Unix(1_800_000_100, 0)}
	drive(p, now, p.Begin(*now))
	if p.pages.last != first.pages.last || len(p.pages.of) != 3 {
		t.Errorf("it goes on after page %d with %d apps, want %d and 3", p.pages.last, len(p.pages.of), first.pages.last)
	}
	next, now := alone(t, 2)
	next.ledger.listed[DriverProcess] = false
	for n := range 20 {
		step(next, now, RecordChanged{Table: TableStatus, Key: fmt.Sprintf("1.%d/a", n), Siblings: [][]byte{page}})
	}
	if got := pagesOf(next); len(got) != 20 {
		t.Fatalf("%d pages are left before it knows what it runs, want 20", len(got))
	}
	published := 0
	for _, e := range next.Step(*now, WorkListed{Driver: DriverProcess}) {
		if _, ok := e.(Publish); ok {
			published++
		}
	}
	if got := pagesOf(next); len(got) != 0 || published != 20 {
		t.Errorf("it still tells of %v, with %d removals of 20 pages", got, published)
	}
}

// A page whose apps grow is divided, before it is more than a table takes.
func TestPagesThatGrow(t *testing.T) {
	p, now := onePeer(t, pageApps)
	if got := pagesOf(p); len(got) != 1 {
		t.Fatalf("%v, want one page", got)
	}
	for uid := range p.pages.of { // a summary of some 8 KiB each
		for _, c := range p.ledger.of(uid) {
			c.Component = strings.Repeat("long", 2<<10)
		}
		p.touchSummary(uid)
	}
	pass(p, now, 10*time.Second)
	apps := 0
	for key, n := range pagesOf(p) {
		apps += n
		if size := len(Encode(p.catalog.pages[key])); size > pageGrown+1024 {
			t.Errorf("page %s has %d bytes", key, size)
		}
	}
	if apps != pageApps {
		t.Errorf("%d apps are told of, want %d", apps, pageApps)
	}
}

// A peer speaks for itself alone, and an app is where its newest page says.
func TestPagesOfOthers(t *testing.T) {
	p, now := alone(t, 1)
	tell := func(key string, by PeerID, page Summaries) {
		step(p, now, RecordChanged{Table: TableStatus, Key: key, Siblings: [][]byte{Encode(Signed{Body: Encode(page), By: by})}})
	}
	counts := func(n int) []SlotCount { return []SlotCount{{"web", AllocRunning, n}} }
	b := PeerRef{"b", 1}
	tell("1.1/b", "c", Summaries{Peer: b, Apps: []Summary{{UID: "u", Counts: counts(1)}}})
	tell("1.1/c", "c", Summaries{Peer: b, Apps: []Summary{{UID: "u", Counts: counts(1)}}})
	tell("1.1/b", "b", Summaries{Peer: b, Apps: slices.Repeat([]Summary{{UID: "u", Counts: counts(1)}}, pageAppsMax+1)})
	if len(p.catalog.status) > 0 {
		t.Fatalf("believed %v", p.catalog.status)
	}
	tell("1.1/b", "b", Summaries{Peer: b, AsOf: 2, Apps: []Summary{{UID: "u", Counts: counts(2)}, {UID: "v", Counts: counts(7)}}})
	tell("1.2/b", "b", Summaries{Peer: b, AsOf: 1, Apps: []Summary{{UID: "u", Counts: counts(1)}}})
	if n := p.catalog.status["u"]["b"].count("web", AllocRunning); n != 2 {
		t.Errorf("%d of u, want 2: an older page was believed", n)
	}
	tell("1.1/b", "b", Summaries{Peer: b, AsOf: 3, Apps: []Summary{{UID: "u", Counts: counts(3)}}})
	if _, ok := p.catalog.status["v"]; ok {
		t.Error("v is left, which is on no page any more")
	}
	step(p, now, RecordChanged{Table: TableStatus, Key: "1.1/b"})
	if _, ok := p.catalog.status["u"]["b"]; ok {
		t.Error("u is left, whose page is gone")
	}
}
