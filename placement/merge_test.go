package placement

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// size is a component that wants so many slots.
func size(replicas int) Component {
	c := testApp("x").Components["c"]
	c.Replicas = &replicas
	return c
}

// sizes is an app of components by name, "web=2 db=1".
func sizes(text string) App {
	app := App{Name: "shop", Components: map[string]Component{}}
	for _, part := range strings.Fields(text) {
		name, number, _ := strings.Cut(part, "=")
		n := 0
		fmt.Sscan(number, &n)
		app.Components[name] = size(n)
	}
	return app
}

// text is what sizes reads.
func text(app App) string {
	var parts []string
	for _, name := range app.ComponentNames() {
		parts = append(parts, fmt.Sprintf("%s=%d", name, app.Components[name].Wanted()))
	}
	return strings.Join(parts, " ")
}

// editOf is an edit over versions, as Peer.intent makes it.
func editOf(by PeerID, at int64, over []version, app App, alone bool) version {
	i := Intent{UID: "u", Key: app.Key(), Version: Version{Millis: at, Peer: by}, App: app, MinSchema: Schema,
		Incarnation: 1, Alone: alone, Over: ancestors(over)}
	i.Base, i.Term = baseOf(over)
	if len(over) > 0 {
		i.Changes = changes(app, over)
	}
	return version{intent: i}
}

func removalOf(by PeerID, at int64, over []version, alone bool) version {
	v := editOf(by, at, over, over[0].intent.App, alone)
	v.intent.Removed = true
	return v
}

func TestMerge(t *testing.T) {
	base := editOf("a", 1, nil, sizes("web=2 db=1 job=1"), false)
	over := []version{base}
	majority := func(app string) version { return editOf("a", 10, over, sizes(app), false) }
	cut := func(app string) version { return editOf("c", 11, over, sizes(app), true) }
	twice := editOf("c", 12, []version{cut("web=5 db=1 job=1")}, sizes("web=5 db=1"), true)
	for name, c := range map[string]struct {
		sides []version
		want  string // "" is for a person to decide
	}{
		"different components":           {[]version{majority("web=3 db=1 job=1"), cut("web=2 db=4 job=1")}, "db=4 job=1 web=3"},
		"one component, differently":     {[]version{majority("web=3 db=1 job=1"), cut("web=4 db=1 job=1")}, ""},
		"one component, to the same":     {[]version{majority("web=3 db=1 job=1"), cut("web=3 db=1 job=1")}, "db=1 job=1 web=3"},
		"one removes another":            {[]version{majority("web=3 db=1"), cut("web=2 db=4 job=1")}, "db=4 web=3"},
		"one removes what other changed": {[]version{majority("web=2 db=1"), cut("web=2 db=1 job=7")}, "db=1 job=7 web=2"},
		"each adds its own":              {[]version{majority("web=2 db=1 job=1 x=1"), cut("web=2 db=1 job=1 y=1")}, "db=1 job=1 web=2 x=1 y=1"},
		"both add one name":              {[]version{majority("web=2 db=1 job=1 x=1"), cut("web=2 db=1 job=1 x=2")}, ""},
		"two edits on one side":          {[]version{majority("web=2 db=3 job=1"), twice}, "db=3 web=5"},
		"an edit and the removal":        {[]version{removalOf("a", 10, over, false), cut("web=2 db=4 job=1")}, "db=4 job=1 web=2"},
		"the removal below a majority":   {[]version{majority("web=3 db=1 job=1"), removalOf("c", 11, over, true)}, "db=1 job=1 web=3"},
		"three sides": {[]version{majority("web=3 db=1 job=1"), cut("web=2 db=4 job=1"),
			editOf("d", 12, over, sizes("web=2 db=1 job=9"), true)}, "db=4 job=9 web=3"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := standing(c.sides); len(got) != len(c.sides) {
				t.Fatalf("%d of %d sides stand: the test shows nothing", len(got), len(c.sides))
			}
			m, ok := merge(c.sides, Schema)
			if ok != (c.want != "") || ok && text(m.app) != c.want {
				t.Errorf("got %q, %t; want %q", text(m.app), ok, c.want)
			}
		})
	}
}

// A choice that a person made is a change: it stands against a side that knew
// what was chosen from, and is to be chosen again against one that changed it
// once more.
func TestMergeAfterAChoice(t *testing.T) {
	base := editOf("a", 1, nil, sizes("web=2 db=1"), false)
	left, right := editOf("a", 10, []version{base}, sizes("web=3 db=1"), true), editOf("c", 11, []version{base}, sizes("web=4 db=1"), true)
	choice := editOf("a", 20, []version{left, right}, sizes("web=3 db=1"), false)
	if at := choice.intent.changed("web"); at.Version != choice.intent.Version {
		t.Errorf("the choice is not a change: %v", at)
	}
	if at := choice.intent.changed("db"); at.Version != base.intent.Version {
		t.Errorf("what nobody touched is a change: %v", at)
	}
	aside := editOf("d", 21, []version{right}, sizes("web=4 db=7"), true)
	if m, ok := merge([]version{choice, aside}, Schema); !ok || text(m.app) != "db=7 web=3" {
		t.Errorf("beside an edit of something else: %q, %t", text(m.app), ok)
	}
	again := editOf("d", 21, []version{right}, sizes("web=9 db=1"), true)
	if m, ok := merge([]version{choice, again}, Schema); ok {
		t.Errorf("beside another edit of the same: %q", text(m.app))
	}
}

// What only another release understands, and what leaves an app that is not
// valid, waits for a person.
func TestMergeIsCareful(t *testing.T) {
	base := editOf("a", 1, nil, sizes("web=2 db=1 job=1"), false)
	newer := editOf("b", 10, []version{base}, sizes("web=3 db=1 job=1"), true)
	newer.intent.MinSchema = Schema + 1
	other := editOf("c", 11, []version{base}, sizes("web=2 db=5 job=1"), true)
	if _, ok := merge([]version{newer, other}, Schema); ok {
		t.Error("an edit of a newer release was merged")
	}
	nearApp := sizes("web=2 db=1 job=1")
	web := nearApp.Components["web"]
	web.Place.Near = &Near{Component: "db"}
	nearApp.Components["web"] = web
	near := editOf("b", 10, []version{base}, nearApp, true)
	gone := editOf("c", 11, []version{base}, sizes("web=2 job=1"), true)
	if m, ok := merge([]version{near, gone}, Schema); ok {
		t.Errorf("near a component that is gone: %s", text(m.app))
	}
}

// history is edits at three sites that see each other's now and then, with what
// each version truly had seen.
type history struct {
	all   map[Version]version
	seen  map[Version]map[Version]bool // itself included
	sites [3][]version                 // that stand there
	clock int64
}

func (h *history) edit(site int, app App) {
	h.clock++
	v := editOf(PeerID(rune('a'+site)), h.clock, h.sites[site], app, h.clock > 1)
	seen := map[Version]bool{v.intent.Version: true}
	for _, o := range h.sites[site] {
		maps.Copy(seen, h.seen[o.intent.Version])
	}
	h.all[v.intent.Version], h.seen[v.intent.Version] = v, seen
	h.sites[site] = []version{v}
}

// want is the merge by true history: of each component what no side has seen and
// not kept.
func (h *history) want(t *rapid.T, sides []version) (app string, ok bool) {
	left := map[string]map[string]bool{} // component -> contents that stay
	names := map[string]bool{}
	for _, s := range sides {
		for name := range s.intent.App.Components {
			names[name] = true
		}
	}
	out := App{Components: map[string]Component{}}
	for name := range names {
		left[name] = map[string]bool{}
		for _, s := range sides {
			c, has := s.intent.App.Components[name]
			if !has {
				continue
			}
			at := s.intent.changed(name).Version
			if !h.seen[s.intent.Version][at] {
				t.Fatalf("%v says that %v changed %s, and has not seen it", s.intent.Version, at, name)
			}
			stays := true
			for _, o := range sides {
				_, kept := o.intent.App.Components[name]
				kept = kept && o.intent.changed(name).Version == at
				stays = stays && (kept || !h.seen[o.intent.Version][at])
			}
			if stays {
				left[name][string(Encode(c))] = true
				out.Components[name] = c
			}
		}
		if len(left[name]) > 1 {
			return "", false
		}
	}
	return text(out), len(out.Components) > 0
}

func TestMergeProperties(t *testing.T) {
	merges, conflicts := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		h := &history{all: map[Version]version{}, seen: map[Version]map[Version]bool{}}
		h.edit(0, sizes("web=1 db=1 job=1"))
		h.sites[1], h.sites[2] = h.sites[0], h.sites[0]
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			site := rapid.IntRange(0, 2).Draw(t, "site")
			if other := rapid.IntRange(0, 5).Draw(t, "other"); other < 3 {
				h.sites[site] = standing(append(slices.Clone(h.sites[site]), h.sites[other]...))
				continue
			}
			app := App{Name: "shop", Components: maps.Clone(h.sites[site][0].intent.App.Components)}
			name := rapid.SampledFrom([]string{"web", "db", "job"}).Draw(t, "component")
			if n := rapid.IntRange(0, 3).Draw(t, "size"); n > 0 {
				app.Components[name] = size(n)
			} else if len(app.Components) > 1 {
				delete(app.Components, name)
			}
			h.edit(site, app)
		}
		sides := standing(slices.Concat(h.sites[0], h.sites[1], h.sites[2]))
		m, ok := merge(sides, Schema)
		want, wantOK := h.want(t, sides)
		if ok != wantOK || ok && text(m.app) != want {
			t.Fatalf("merged to %q, %t; want %q, %t", text(m.app), ok, want, wantOK)
		}
		order := rapid.Permutation(sides).Draw(t, "order")
		n, again := merge(append(order, order...), Schema) // commutative and idempotent
		if again != ok || ok && !bytes.Equal(Encode(n.app), Encode(m.app)) || ok && !maps.Equal(n.changes, m.changes) {
			t.Fatalf("in another order: %q, %t", text(n.app), again)
		}
		if len(sides) < 2 {
			return
		}
		if !ok {
			conflicts++
			return
		}
		merges++
		// Two peers that merged the same apart come to the same, and merge that.
		var both []version
		for i, by := range []PeerID{"y", "z"} {
			v := editOf(by, h.clock+1+int64(i), sides, m.app, true)
			v.intent.Changes = m.changes
			both = append(both, v)
		}
		if n, ok := merge(both, Schema); !ok || !bytes.Equal(Encode(n.app), Encode(m.app)) {
			t.Fatalf("merged twice, apart: %q, %t", text(n.app), ok)
		}
	})
	if !testing.Short() && (merges == 0 || conflicts == 0) { // the few runs of -short may miss the one or the other
		t.Errorf("%d merges and %d conflicts: the test shows nothing", merges, conflicts)
	}
}

// A steward merges what it can under its term, and knows the edits of either
// side again when they are sent once more.
func TestStewardMerges(t *testing.T) {
	p, now, shop := newShop(t)
	var happened []string
	var take func(effects []Effect)
	take = func(effects []Effect) { // the disk works, and the other keepers store what they are asked to
		for _, e := range effects {
			switch e := e.(type) {
			case Persist:
				take(p.Step(*now, Persisted{Token: e.Token}))
			case Record:
				if e.Event != nil {
					happened = append(happened, e.Event.Type)
				}
			case Send:
				m, err := decodeMessage(e.Body)
				if err != nil || m.Store == nil || e.To == "m" {
					continue
				}
				held := &storedMsg{UID: m.Store.UID}
				for _, signed := range m.Store.Intents {
					v, err := p.catalog.readIntent(signed)
					if err != nil {
						t.Fatal(err)
					}
					held.Versions = append(held.Versions, v.intent.Version)
				}
				take(p.Step(*now, Receive{From: e.To, Body: Encode(message{Stored: held})}))
			}
		}
	}
	pass := func(d time.Duration) {
		for end := now.Mono + d; now.Mono < end; {
			now.Mono, now.Wall = now.Mono+100*time.Millisecond, now.Wall.Add(100*time.Millisecond)
			take(p.Step(*now, TimerFired{Key: wakeTimer}))
		}
	}
	pass(2 * time.Second)
	base := shop.win.intent
	aside := func(by PeerID, app App) Intent {
		v := editOf(by, base.Version.Millis+5, []version{{intent: base}}, app, true)
		v.intent.UID, v.intent.Request = base.UID, "key-of-"+string(by)
		return v.intent
	}
	more := App{Name: "shop", Components: maps.Clone(base.App.Components)}
	more.Components["extra"] = size(1)
	less := App{Name: "shop", Components: maps.Clone(base.App.Components)}
	less.Components["c"] = size(1)
	left, right := aside("b", more), aside("c", less)
	take(p.Step(*now, listed(base.Key, left, right)))
	pass(3 * time.Second)
	if len(shop.versions) != 1 || text(shop.win.intent.App) != "c=1 extra=1" || shop.win.intent.Alone {
		t.Fatalf("%d versions stand, %q, alone %t", len(shop.versions), text(shop.win.intent.App), shop.win.intent.Alone)
	}
	for _, key := range []string{left.Request, right.Request} {
		if _, ok := shop.win.intent.made(key); !ok {
			t.Errorf("the edit %s is not known again", key)
		}
	}
	if !slices.Contains(happened, "merged") || slices.Contains(happened, "conflict") {
		t.Errorf("told: %v", happened)
	}

	// What a person has to decide is told of once, and its end.
	happened = nil
	base = shop.win.intent
	web, other := aside("b", sizes("c=5 extra=1")), aside("c", sizes("c=6 extra=1"))
	take(p.Step(*now, listed(base.Key, web, other)))
	pass(20 * time.Second)
	if len(shop.versions) != 2 || !slices.Equal(slices.DeleteFunc(slices.Clone(happened), func(s string) bool { return !strings.HasPrefix(s, "conflict") }), []string{"conflict"}) {
		t.Fatalf("%d versions stand, told: %v", len(shop.versions), happened)
	}
	take(p.Step(*now, Submit{Ticket: 7, App: sizes("c=5 extra=1"), IfMatch: p.etag(base.Key)}))
	pass(3 * time.Second)
	if len(shop.versions) != 1 || text(shop.win.intent.App) != "c=5 extra=1" ||
		len(slices.DeleteFunc(slices.Clone(happened), func(s string) bool { return s != "conflict-ended" })) != 1 {
		t.Errorf("%d versions stand, %q, told: %v", len(shop.versions), text(shop.win.intent.App), happened)
	}
}
