package placement

import (
	"fmt"
	"testing"
	"time"
)

// An edit that wants more copies than a majority waits for them, though the mesh
// knows of it before; and for no more than live.
func TestCopiesAreWaitedFor(t *testing.T) {
	submit := func(v *village, copies int) {
		i, tree := pushed("shop:1", "1")
		v.step(v.peers["a"], Submit{Ticket: 1, App: i.App(), Artifacts: tree, Copies: copies})
	}
	v := newVillage(t, FaultNone, "a", "b", "c", "d", "e")
	v.lack("1", "b", "c", "d", "e")
	submit(v, 4)
	v.arrive("1", "b")
	v.arrive("1", "c")
	if r, ok := v.answers[1]; ok {
		t.Fatalf("answered with three copies: %+v", r)
	}
	if v.named("e", "shop:1") != "1" {
		t.Error("three of four keepers have it, and the mesh does not know")
	}
	v.arrive("1", "d")
	if r := v.answers[1]; r.Copies != 4 || fmt.Sprint(r.Peers) != "[a b c d]" {
		t.Errorf("%+v", r)
	}

	v = newVillage(t, FaultNone, "a", "b")
	submit(v, 4)
	if r := v.answers[1]; r.Copies != 2 || !r.Quorum {
		t.Errorf("of two: %+v", r)
	}

	v = newVillage(t, FaultNone, "a", "b", "c")
	v.lack("1", "c")
	submit(v, 3)
	v.apart("c")
	v.pass(5 * time.Second)
	if r, ok := v.answers[1]; !ok || r.Copies != 2 || !r.Quorum {
		t.Errorf("one of three died: %t %+v", ok, r)
	}
}

// Bytes that take long are waited for as long as they take while a majority of
// the keepers lives, and no longer.
func TestLargeImagesAreWaitedFor(t *testing.T) {
	v := newVillage(t, FaultNone, "a", "b", "c")
	v.lack("1", "b", "c")
	v.push("a", 1, "shop:1", "1") // 64 MiB: half a minute
	v.pass(20 * time.Second)
	if r, ok := v.answers[1]; ok {
		t.Fatalf("answered: %+v", r)
	}
	v.apart("a")
	v.pass(15 * time.Second)
	if r, ok := v.answers[1]; !ok || r.Copies != 1 || r.Quorum {
		t.Fatalf("alone: %t %+v", ok, r)
	}
	if got := v.named("a", "shop:1"); got != "1" {
		t.Errorf("it stands for %q here", got)
	}
}

// An app whose image two others hold does not wait until its keepers do, who
// fetch it all the same; one whose image nobody else holds does.
func TestAppsDoNotWaitForImagesThatAreSafe(t *testing.T) {
	for _, holders := range []string{"de", "d"} {
		v := newVillage(t, FaultNone, "a", "b", "c", "d", "e")
		v.lack("1", "a", "b", "c")
		for _, id := range holders {
			v.holds(PeerID(id), "1")
		}
		app := App{Name: "shop", Components: map[string]Component{"api": pinned("1", 1)}}
		v.step(v.peers["a"], Submit{Ticket: 1, App: app, Artifacts: []Artifact{{Digest: digestOf("1"), Size: 1 << 30, Tree: true}}})
		r, ok := v.answers[1]
		if ok != (holders == "de") || ok && (r.Err != nil || r.Copies < 2) {
			t.Errorf("held by %s: answered %t, %+v", holders, ok, r)
		}
		for _, id := range []PeerID{"a", "b", "c"} {
			if len(v.fetched[id]) == 0 {
				t.Errorf("held by %s: %s does not fetch it", holders, id)
			}
		}
		v.holds("e", "1")
		if r, ok := v.answers[1]; !ok || r.Err != nil {
			t.Errorf("held by two: %t %+v", ok, r)
		}
	}
}

// Where a name was set on both sides of a cut: the same is the same, different
// images are a person's to choose between, an image beats a removal, and of
// policies all rules hold.
func TestNamesFromBothSides(t *testing.T) {
	key := string(pemKey)
	name := func(digit string) App { i, _ := pushed("shop:1", digit); return i.App() }
	policy := func(images ...string) App {
		n := NamespacePolicy{Namespace: "prod"}
		for _, i := range images {
			n.Signatures = append(n.Signatures, SignatureRule{Images: i, Keys: []string{key}})
		}
		return n.App()
	}
	for _, c := range []struct {
		what        string
		base, a, b  App
		gone        bool // b removes it
		ok          bool
		digit, rule string
	}{
		{"the same", name("1"), name("2"), name("2"), false, true, "2", ""},
		{"two", name("1"), name("2"), name("3"), false, false, "", ""},
		{"one was removed", name("1"), name("2"), name("1"), true, true, "2", ""},
		{"policies", policy(), policy("x", "y"), policy("z", "x"), false, true, "", "[x y z]"},
	} {
		over := []version{editOf("a", 1, nil, c.base, false)}
		sides := []version{editOf("a", 10, over, c.a, false), editOf("b", 11, over, c.b, true)}
		if c.gone {
			sides[1] = removalOf("b", 11, over, true)
		}
		for i := range sides {
			if img := sides[i].intent.App.Image; img != nil {
				sides[i].intent.Artifacts = []Artifact{{Digest: img.Digest, Size: 9, Tree: true}}
			}
		}
		for range 2 {
			m, ok := merge(sides, Schema)
			if ok != c.ok {
				t.Errorf("%s: merged %t", c.what, ok)
			}
			if c.digit != "" && (m.app.Image.Digest != digestOf(c.digit) || len(m.artifacts) != 1 || !m.artifacts[0].Tree) {
				t.Errorf("%s: %+v", c.what, m)
			}
			if c.rule != "" {
				var rules []string
				for _, r := range m.app.Policy.Signatures {
					rules = append(rules, r.Images)
				}
				if fmt.Sprint(rules) != c.rule {
					t.Errorf("%s: %v", c.what, rules)
				}
			}
			sides[0], sides[1] = sides[1], sides[0]
		}
	}
}

// A driver that is asked for an edit which the one before it made answers once
// as many hold it as it wants, and does not count itself before its bytes are
// here.
func TestNextDriverWaitsForCopies(t *testing.T) {
	v := newVillage(t, FaultNone, "a", "b", "c", "d")
	v.lack("1", "b")
	i, tree := pushed("shop:1", "1")
	edit := Submit{Ticket: 1, App: i.App(), Artifacts: tree, Copies: 3, IdempotencyKey: "k"}
	v.step(v.peers["a"], edit)
	if r, ok := v.answers[1]; ok {
		t.Fatalf("answered with two copies: %+v", r)
	}
	v.apart("a")
	key := ImageKey("shop", "1")
	for range 60 {
		if v.pass(time.Second); v.drives("b", key) || v.drives("c", key) {
			break
		}
	}
	if !v.drives("b", key) {
		t.Fatal("b does not drive it")
	}
	edit.Ticket = 2
	v.step(v.peers["b"], edit)
	if r, ok := v.answers[2]; ok {
		t.Fatalf("answered by a peer that has no bytes: %+v", r)
	}
	v.arrive("1", "b")
	if r, ok := v.answers[2]; !ok || r.Err != nil || r.Copies != 2 || !r.Quorum || fmt.Sprint(r.Peers) != "[b c]" {
		t.Fatalf("answered %t: %+v", ok, r)
	}
}
