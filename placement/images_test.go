package placement

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// pushed is a name and the artifacts that it is submitted with.
func pushed(name, digit string) (Image, []Artifact) {
	repository, tag, _ := strings.Cut(name, ":")
	i := Image{Repository: repository, Reference: tag, Digest: digestOf(digit), MediaType: "application/vnd.oci.image.index.v1+json", Size: 500}
	return i, []Artifact{{Digest: i.Digest, Size: 64 << 20, Tree: true}}
}

// push names an image at a peer.
func (v *village) push(at PeerID, ticket uint64, name, digit string) {
	i, tree := pushed(name, digit)
	v.step(v.peers[at], Submit{Ticket: ticket, App: i.App(), Artifacts: tree})
}

// named is what a name stands for at a peer, by the digit of its digest.
func (v *village) named(at PeerID, name string) string {
	repository, tag, _ := strings.Cut(name, ":")
	i, ok := v.peers[at].Image(ImageKey(repository, tag))
	if !ok {
		return ""
	}
	return strings.TrimPrefix(i.Image.Digest, "sha256:")[:1]
}

func (v *village) lack(digit string, at ...PeerID) {
	for _, id := range at {
		if v.lacks[id] == nil {
			v.lacks[id] = map[string]bool{}
		}
		v.lacks[id][digestOf(digit)] = true
	}
}

// arrive has the bytes of a digest come to a peer.
func (v *village) arrive(digit string, at PeerID) {
	delete(v.lacks[at], digestOf(digit))
	v.step(v.peers[at], BlobArrived{Digest: digestOf(digit)})
}

// A name is there once a majority of its keepers hold all of its bytes, whom it
// is asked of then.
func TestImageIsHeldBeforeItIsNamed(t *testing.T) {
	v := newVillage(t, FaultNone, "a", "b", "c", "d")
	v.lack("1", "b", "c", "d")
	v.push("a", 1, "shop/api:1.4", "1")
	if r, ok := v.answers[1]; ok {
		t.Fatalf("answered with one copy: %+v", r)
	}
	want := Fetch{Artifact: Artifact{Digest: digestOf("1"), Size: 64 << 20, Tree: true}, Warm: true}
	for _, id := range []PeerID{"b", "c"} {
		if len(v.fetched[id]) == 0 {
			t.Fatalf("%s fetches nothing", id)
		}
		got := v.fetched[id][0]
		if got.From[0] != "a" || got.Artifact != want.Artifact {
			t.Errorf("%s fetches %+v", id, got)
		}
	}
	if len(v.fetched["d"]) > 0 {
		t.Errorf("d keeps nothing and fetches %+v", v.fetched["d"])
	}
	v.arrive("1", "c")
	r, ok := v.answers[1]
	if !ok || r.Err != nil || r.Copies != 2 || !r.Quorum || !r.Created || fmt.Sprint(r.Peers) != "[a c]" {
		t.Fatalf("answered %t: %+v", ok, r)
	}
	for _, id := range v.order {
		if got := v.named(id, "shop/api:1.4"); got != "1" {
			t.Errorf("at %s it stands for %q", id, got)
		}
		if refs := v.peers[id].Referenced(); len(refs) != 1 || refs[0].Artifact != want.Artifact {
			t.Errorf("at %s it needs %+v", id, refs)
		}
	}
}

// Names are no apps: whoever lists those, or plans, sees none.
func TestImagesAreNotAmongApps(t *testing.T) {
	v := newVillage(t, FaultNone, "a", "b", "c")
	v.deploy("a")
	v.push("a", 2, "shop:2", "1")
	v.push("b", 3, "shop:10", "2")
	v.push("b", 4, "base/os:1", "2")
	v.pass(30 * time.Second)
	for _, id := range v.order {
		p := v.peers[id]
		if apps := p.Apps(); len(apps) != 1 || apps[0].Intent.Key.App != "shop" {
			t.Errorf("%s lists %d apps", id, len(apps))
		}
		if _, ok := p.App(ImageKey("shop", "2")); ok {
			t.Errorf("%s shows a name as an app", id)
		}
		var names []string
		for _, i := range p.Images() {
			names = append(names, i.Image.Key().App)
			if len(i.Keepers) != 3 || i.Size != 64<<20 || i.Conflict || i.ETag != i.Version.String() {
				t.Errorf("%s: %+v", id, i)
			}
		}
		if got := strings.Join(names, " "); got != "base/os:1 shop:10 shop:2" {
			t.Errorf("%s: %s", id, got)
		}
		if got := len(p.ImagesOf("shop")); got != 2 {
			t.Errorf("%s: %d of shop", id, got)
		}
		for _, a := range p.apps {
			if s := a.steward; s != nil && a.key.Recorded() && (len(s.asks) > 0 || len(s.open) > 0 || len(s.holders) > 0 || s.past.Seq > 0) {
				t.Errorf("%s: the steward of %s asks %v, open %v, holders %v", id, a.key, s.asks, s.open, s.holders)
			}
		}
	}
}

// A tag moves, is compared with what was seen, and goes.
func TestTagMovesAndGoes(t *testing.T) {
	v := newVillage(t, FaultNone, "a", "b", "c", "d")
	v.push("a", 1, "shop:1", "1")
	first := v.answers[1]
	v.push("d", 2, "shop:1", "2") // by way of whoever drives it
	if r := v.answers[2]; r.Err != nil || r.Created || r.UID != first.UID || v.named("b", "shop:1") != "2" {
		t.Fatalf("%+v, %q", r, v.named("b", "shop:1"))
	}
	i, tree := pushed("shop:1", "3")
	v.step(v.peers["b"], Submit{Ticket: 3, App: i.App(), Artifacts: tree, IfMatch: first.ETag})
	if r := v.answers[3]; !errors.Is(r.Err, ErrConflict) {
		t.Errorf("an edit over what is gone: %+v", r)
	}
	v.step(v.peers["c"], Remove{Ticket: 4, Key: i.Key()})
	if r := v.answers[4]; r.Err != nil || v.named("d", "shop:1") != "" {
		t.Errorf("removed: %+v, %q", r, v.named("d", "shop:1"))
	}
	v.pass(30 * time.Second)
	for _, id := range v.order {
		if n := len(v.peers[id].apps); n > 0 {
			t.Errorf("%s remembers %d", id, n)
		}
	}
	v.step(v.peers["c"], Remove{Ticket: 5, Key: i.Key()})
	if r := v.answers[5]; !errors.Is(r.Err, ErrNotFound) {
		t.Errorf("removed twice: %+v", r)
	}
}

// What nobody may have sent, as a name or under it.
func TestImageIsRefused(t *testing.T) {
	v := newVillage(t, FaultNone, "a")
	good, tree := pushed("shop/api:1.4", "1")
	for name, change := range map[string]func(*App, *Image, *[]Artifact){
		"a path":                 func(_ *App, i *Image, _ *[]Artifact) { i.Repository = "../shop" },
		"upper case":             func(_ *App, i *Image, _ *[]Artifact) { i.Repository = "Shop" },
		"an empty part":          func(_ *App, i *Image, _ *[]Artifact) { i.Repository = "shop//api" },
		"too long a name":        func(_ *App, i *Image, _ *[]Artifact) { i.Repository = strings.Repeat("a", 256) },
		"too long a tag":         func(_ *App, i *Image, _ *[]Artifact) { i.Reference = strings.Repeat("a", 129) },
		"a tag that is a path":   func(_ *App, i *Image, _ *[]Artifact) { i.Reference = "../1" },
		"no tag":                 func(_ *App, i *Image, _ *[]Artifact) { i.Reference = "" },
		"another digest's name":  func(_ *App, i *Image, _ *[]Artifact) { i.Reference = digestOf("2") },
		"half a digest":          func(_ *App, i *Image, _ *[]Artifact) { i.Digest = "sha256:12" },
		"md5":                    func(_ *App, i *Image, _ *[]Artifact) { i.Digest = "md5:" + strings.Repeat("1", 32) },
		"a subject that is none": func(_ *App, i *Image, _ *[]Artifact) { i.Subject = "latest" },
		"no media type":          func(_ *App, i *Image, _ *[]Artifact) { i.MediaType = "" },
		"a negative size":        func(_ *App, i *Image, _ *[]Artifact) { i.Size = -1 },
		"no tree":                func(_ *App, _ *Image, t *[]Artifact) { *t = nil },
		"a file":                 func(_ *App, _ *Image, t *[]Artifact) { (*t)[0].Tree = false },
		"a part beside all": func(_ *App, _ *Image, t *[]Artifact) {
			*t = append(*t, Artifact{Digest: (*t)[0].Digest, Tree: true, Arch: "arm64"})
		},
		"one part twice":     func(_ *App, _ *Image, t *[]Artifact) { (*t)[0].Arch = "arm64"; *t = append(*t, (*t)[0]) },
		"another tree":       func(_ *App, _ *Image, t *[]Artifact) { (*t)[0].Digest = digestOf("2") },
		"components":         func(a *App, _ *Image, _ *[]Artifact) { a.Components = testApp("x").Components },
		"another key":        func(a *App, _ *Image, _ *[]Artifact) { a.Name = "shop/api:1.5" },
		"an app's namespace": func(a *App, _ *Image, _ *[]Artifact) { a.Namespace = "default" },
		"a policy as well":   func(a *App, _ *Image, _ *[]Artifact) { a.Policy = &NamespacePolicy{Namespace: "x"} },
	} {
		i, art := good, append([]Artifact{}, tree...)
		var app App
		change(&app, &i, &art)
		whole := i.App()
		if app.Name != "" {
			whole.Name = app.Name
		}
		if app.Namespace != "" {
			whole.Namespace = app.Namespace
		}
		whole.Components, whole.Policy = app.Components, app.Policy
		v.step(v.peers["a"], Submit{Ticket: 9, App: whole, Artifacts: art})
		if r := v.answers[9]; !errors.Is(r.Err, ErrInvalid) {
			t.Errorf("%s: %v", name, r.Err)
		}
		if _, err := v.peers["a"].catalog.readIntent(intentBy("b", "u", whole, func(in *Intent) { in.Artifacts = art })); err == nil {
			t.Errorf("%s: taken from another peer", name)
		}
		delete(v.answers, 9)
	}
	for _, i := range []Image{
		good,
		{Repository: "a", Reference: digestOf("1"), Digest: digestOf("1"), MediaType: good.MediaType},
		{Repository: "docker.io/library/a__b.c-d---e", Reference: "_A.b-c", Digest: "sha512:" + strings.Repeat("1", 128), MediaType: good.MediaType, Subject: digestOf("2")},
	} {
		v.step(v.peers["a"], Submit{Ticket: 9, App: i.App(), Artifacts: []Artifact{{Digest: i.Digest, Tree: true}}})
		if r := v.answers[9]; r.Err != nil {
			t.Errorf("%+v: %v", i, r.Err)
		}
	}
	if err := good.App().Validate(); err == nil {
		t.Error("a person's manifest may have an image")
	}
	if err := (App{Namespace: NamespaceImages, Name: "shop", Components: testApp("x").Components}).Validate(); err == nil || !strings.Contains(err.Error(), "no app can be there") {
		t.Errorf("an app among images: %v", err)
	}
}

// What keepers, hosts and edits on their way need is told to whoever frees bytes.
func TestReferenced(t *testing.T) {
	v := newVillage(t, FaultNone, "a", "b", "c", "d")
	v.push("a", 1, "shop:1", "1")
	i, tree := pushed("shop:1", "2")
	v.lack("2", "a", "b", "c")
	v.step(v.peers["d"], Submit{Ticket: 2, App: i.App(), Artifacts: tree})
	says := func(at PeerID) string {
		var out []string
		for _, r := range v.peers[at].Referenced() {
			out = append(out, fmt.Sprintf("%s:%t", strings.TrimPrefix(r.Digest, "sha256:")[:1], r.Here))
		}
		return strings.Join(out, " ")
	}
	if got := says("a"); got != "1:true 2:true" {
		t.Errorf("a keeper: %s", got)
	}
	if got := says("d"); got != "1:false 2:true" {
		t.Errorf("where it was pushed: %s", got)
	}
	for _, id := range []PeerID{"a", "b", "c"} {
		v.arrive("2", id)
	}
	v.pass(15 * time.Second)
	if got := says("a") + ", " + says("d"); got != "2:true, 2:false" {
		t.Errorf("after the tag moved: %s", got)
	}
}

// Two images under one name, made on two sides of a cut by peers that knew of
// none, are a conflict until somebody pushes or chooses; the same image twice is
// none.
func TestImagesInConflict(t *testing.T) {
	p, now := newTestPeer("a")
	key := ImageKey("shop", "1")
	told := func(digits ...string) {
		var siblings [][]byte
		for n, digit := range digits {
			i, tree := pushed("shop:1", digit)
			signed := intentBy(PeerID("b"+fmt.Sprint(n)), UID("u"+fmt.Sprint(n)), i.App(), func(in *Intent) { in.Artifacts = tree })
			siblings = append(siblings, Encode(signed))
		}
		step(p, now, RecordChanged{Table: TableIntents, Key: key.String(), Siblings: siblings})
	}
	told("1", "2")
	view, ok := p.Image(key)
	if !ok || !view.Conflict || len(view.Sides) != 2 || view.Sides[0] != view.Image || view.Sides[0].Digest == view.Sides[1].Digest {
		t.Errorf("%+v", view)
	}
	if all := p.Conflicts(); len(all) != 1 || all[0].Intent.Key != key || all[0].ETag != view.ETag {
		t.Errorf("%d conflicts", len(all))
	}
	told("1", "1")
	if view, ok := p.Image(key); !ok || view.Conflict || len(view.Sides) > 0 || len(p.Conflicts()) > 0 {
		t.Errorf("the same image twice: %+v", view)
	}
	told("1", "2")
	edit := &edit{req: editRequest{key: key}}
	if a := p.find(key); p.check(edit, a, 1) != nil || !edit.resolves {
		t.Error("a push leaves another side beside it")
	}
}
