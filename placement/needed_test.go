package placement

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// walkNeeds is what Needs has to be, found by looking at everything.
func walkNeeds(p *Peer) Needs {
	var all []need
	intent := func(here bool, i *Intent) {
		if !i.Removed {
			all = append(all, need{i.Artifacts, here})
		}
	}
	for _, versions := range p.catalog.byKey {
		for i := range versions {
			if !p.nameGone(&versions[i].intent) {
				intent(false, &versions[i].intent)
			}
		}
	}
	for uid, r := range p.keeper.records {
		here := p.keeper.votesIn(r)
		for i := range r.versions {
			if !r.gone(i) {
				intent(here, &r.versions[i].intent)
			}
		}
		if past := p.keeper.pasts[uid]; past != nil && len(r.versions) > 0 && !r.versions[0].intent.Key.Recorded() {
			all = append(all, need{p.readPast(past).artifacts, here})
		}
	}
	for _, c := range p.ledger.claims {
		all = append(all, need{c.artifacts(), true})
	}
	for _, e := range p.edits.open {
		all = append(all, need{e.req.artifacts, true})
	}
	return Needs{all}
}

// sameNeeds compares what a peer remembers with what it finds by looking at
// everything.
func sameNeeds(t *testing.T, p *Peer, when string) {
	t.Helper()
	if got, want := p.Referenced(), walkNeeds(p).References(); !slices.Equal(got, want) {
		t.Fatalf("%s: %s needs %+v, not %+v", when, p.cfg.Self.Peer, want, got)
	}
}

// editApp makes or changes an app that runs a program, of a digest of its own, with
// others beside.
func (v *village) editApp(at PeerID, name, digit string) {
	app := testApp(name)
	c := app.Components["c"]
	c.Server = &Server{Process: &Process{Artifact: Package(digestOf(digit)), Command: []string{"run"}}}
	app.Components["c"] = c
	v.step(v.peers[at], Submit{Ticket: 1, App: app, Artifacts: []Artifact{{Digest: digestOf(digit), Size: 7}}})
}

// What a peer remembers of what is needed is what it would find by looking at
// everything, after whatever happens: names and apps come, change and go on both
// sides of cuts, records are lost, keepers are lost and replaced, stores are restored.
func TestNeedsFollowEveryChange(t *testing.T) {
	most := 0
	for seed := range uint64(6) {
		rng := rand.New(rand.NewPCG(seed, 1))
		v := newVillage(t, FaultNone, "a", "b", "c", "d", "e")
		life := Incarnation(1)
		any := func() PeerID { return v.order[rng.IntN(len(v.order))] }
		digit := func() string { return fmt.Sprintf("%x", rng.IntN(16)) }
		name := func() string { return fmt.Sprintf("shop/api:%d", rng.IntN(6)) }
		key := func() AppKey {
			if rng.IntN(2) == 0 {
				return AppKey{"default", fmt.Sprintf("app%d", rng.IntN(4))}
			}
			i, _ := pushed(name(), "1")
			return i.Key()
		}
		for n := range 120 {
			what := rng.IntN(12)
			switch what {
			case 0, 1, 2:
				v.push(any(), 1, name(), digit())
			case 3, 4:
				v.editApp(any(), fmt.Sprintf("app%d", rng.IntN(4)), digit())
			case 5, 6:
				v.step(v.peers[any()], Remove{Ticket: 2, Key: key()})
			case 7:
				v.apart(any(), any())
			case 8:
				clear(v.cut)
				v.see()
			case 9: // what a table said is gone at one peer, of an intent or a list
				if keys := sortedKeys(v.table); len(keys) > 0 {
					table, key, _ := cutTable(keys[rng.IntN(len(keys))])
					v.step(v.peers[any()], RecordChanged{Table: table, Key: key})
				}
			case 10:
				if life++; rng.IntN(4) == 0 { // its disk was lost
					v.join(any(), life)
					v.see()
				}
			case 11:
				v.pass(time.Duration(rng.IntN(90)) * time.Second)
			}
			for _, id := range v.order {
				if p := v.peers[id]; rng.IntN(3) == 0 {
					sameNeeds(t, p, fmt.Sprintf("seed %d, change %d of kind %d", seed, n, what))
					most = max(most, len(p.Referenced()))
				}
			}
		}
	}
	if most < 6 {
		t.Errorf("never more than %d files were needed: the test shows little", most)
	}
}

// A list that was given out stays as it was: it is looked at beside the core.
func TestNeedsGivenOutStay(t *testing.T) {
	v := newVillage(t, FaultNone, "a", "b", "c")
	v.push("a", 1, "shop:1", "1")
	needs := v.peers["a"].Needs()
	before := needs.References()
	for n := range 300 {
		v.push("a", 1, fmt.Sprintf("shop:%d", n+2), "2")
	}
	i, _ := pushed("shop:1", "1")
	v.step(v.peers["a"], Remove{Ticket: 2, Key: i.Key()})
	sameNeeds(t, v.peers["a"], "at the end")
	if after := needs.References(); len(before) != 1 || !slices.Equal(before, after) {
		t.Errorf("%+v became %+v", before, after)
	}
}

// Which apps have ended is forgotten when they are many: what the catalog lists of a
// name that is forgotten so counts again, as it does for who looks at everything.
func TestNeedsFollowWhatIsForgotten(t *testing.T) {
	v := newVillage(t, FaultNone, "a")
	v.push("a", 1, "shop:1", "1")
	p := v.peers["a"]
	i, _ := pushed("shop:1", "1")
	listed, uid := v.table[TableIntents+"/"+i.Key().String()], p.find(i.Key()).uid
	v.step(p, Remove{Ticket: 2, Key: i.Key()})
	v.pass(time.Minute)
	if !p.ended.set[uid] {
		t.Fatal("it is not known to have ended: the test shows nothing")
	}
	p.catalog.setIntents(i.Key(), [][]byte{listed})
	p.needs.stale(uid)
	if sameNeeds(t, p, "listed again"); len(p.Referenced()) > 0 {
		t.Fatal("it is needed again at once: the test shows nothing")
	}
	for n := range rememberedMax + 1 {
		p.endApp(&app{uid: UID(fmt.Sprint("other", n)), key: AppKey{"default", "x"}, listed: true, win: &version{}})
	}
	if p.ended.set[uid] {
		t.Fatal("it is still remembered: the test shows nothing")
	}
	if sameNeeds(t, p, "forgotten"); len(p.Referenced()) != 1 {
		t.Errorf("%+v are needed", p.Referenced())
	}
}

// A revision that can't be read, since who made it is not known, is read once it is.
func TestNeedsOfRevisionsThatAreReadLater(t *testing.T) {
	v := newVillage(t, FaultNone, "a")
	for _, digit := range []string{"1", "2", "3"} {
		v.editApp("a", "app", digit)
		v.pass(time.Minute)
	}
	p := v.peers["a"]
	uid := p.find(AppKey{"default", "app"}).uid
	if past := p.keeper.pasts[uid]; past == nil || len(past.Past) < 3 {
		t.Fatalf("%+v: the test shows nothing", past)
	}
	ofApps := func() []Reference { n := p.Needs(); return n[:len(n)-1].References() } // and not of claims
	held := ofApps()
	verify := p.catalog.verify
	p.catalog.verify = func(Signed) error { return errors.New("unknown") }
	c := *p.keeper.pasts[uid]
	p.keeper.pasts[uid] = &c
	p.keeper.changed(uid)
	if got := ofApps(); len(got) >= len(held) {
		t.Fatalf("%+v are needed: the test shows nothing", got)
	}
	p.catalog.verify = verify
	sameNeeds(t, p, "known again")
	if got := ofApps(); !slices.Equal(got, held) {
		t.Errorf("%+v are needed, not %+v", got, held)
	}
	// A chronicle that has let go of revisions, and comes alone.
	next := c
	next.Seq, next.Past = c.Seq+1, c.Past[:1]
	p.onChronicle("a", &chronicleMsg{UID: uid, Term: next.Term, Past: next})
	if sameNeeds(t, p, "another chronicle"); len(ofApps()) >= len(held) {
		t.Errorf("%+v are needed as before", ofApps())
	}
}
