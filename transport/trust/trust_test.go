package trust

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/transport/identity"
)

func newIdentity(t testing.TB) *identity.Identity {
	t.Helper()
	id, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func ok(t testing.TB) func([]byte, error) []byte {
	return func(record []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return record
	}
}

func admit(t testing.TB, by, who *identity.Identity, name string, at int64) []byte {
	t.Helper()
	return ok(t)(Admit(by, Admission{Key: who.Public(), Name: name, Site: "s", At: at}))
}

func addAll(t testing.TB, s *Set, records ...[]byte) {
	t.Helper()
	for _, r := range records {
		if _, err := s.Add(r); err != nil {
			t.Fatal(err)
		}
	}
}

// state is all that a set says, as text.
func state(s *Set) string {
	var b strings.Builder
	for _, a := range s.Peers() {
		err := s.Admitted(a.ID())
		b.WriteString(a.ID() + " by " + a.By + " " + a.Name + " ")
		if err != nil {
			b.WriteString("out")
		}
		b.WriteString("\n")
	}
	for _, r := range s.Records() {
		b.WriteString(string(r))
	}
	return b.String()
}

func TestOrderDoesNotMatter(t *testing.T) {
	root, a, b, c, d, e := newIdentity(t), newIdentity(t), newIdentity(t), newIdentity(t), newIdentity(t), newIdentity(t)
	records := [][]byte{
		admit(t, root, a, "a", 1), admit(t, root, b, "b", 2), admit(t, a, c, "c", 3), admit(t, c, d, "d", 4),
		admit(t, b, d, "d too", 4), admit(t, d, a, "a again", 0), admit(t, d, c, "c again", 0), admit(t, c, e, "e", 9),
		admit(t, c, e, "e later", 10),
		ok(t)(Revoke(b, Revocation{Peer: a.ID(), Knew: []string{c.ID()}})),
		ok(t)(Revoke(b, Revocation{Peer: a.ID(), Knew: []string{c.ID(), d.ID()}})),
		ok(t)(Revoke(d, Revocation{Peer: c.ID(), WithAdmitted: true})),
		ok(t)(Spend(b, Spent{Token: "t1", Peer: d.ID()})), ok(t)(Spend(c, Spent{Token: "t1", Peer: e.ID()})),
	}
	want := ""
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 0))
		rng.Shuffle(len(records), func(i, j int) { records[i], records[j] = records[j], records[i] })
		s := NewSet(root.Public())
		addAll(t, s, records...)
		switch got := state(s); {
		case want == "":
			want = got
			for id, admitted := range map[string]bool{a.ID(): false, b.ID(): true, c.ID(): false, d.ID(): true, e.ID(): false} {
				if err := s.Admitted(id); (err == nil) != admitted {
					t.Errorf("%v", err)
				}
			}
			if twice := s.SpentTwice()["t1"]; len(twice) != 2 {
				t.Errorf("spent twice: %v", twice)
			}
		case got != want:
			t.Fatalf("seed %d: another order says otherwise:\n%q\n%q", seed, got, want)
		}
	}
}

func TestNobodyTakesTheGroundFromItsAdmitter(t *testing.T) {
	root, a, b := newIdentity(t), newIdentity(t), newIdentity(t)
	s := NewSet(root.Public())
	addAll(t, s, admit(t, root, a, "a", 100), admit(t, a, b, "b", 101), admit(t, b, a, "mine", 0))
	for _, id := range []string{a.ID(), b.ID()} {
		if err := s.Admitted(id); err != nil {
			t.Error(err)
		}
	}
	if got, _ := s.Admission(a.ID()); got.Name != "a" {
		t.Errorf("b renamed its admitter to %q", got.Name)
	}
	if _, err := s.Add(ok(t)(Revoke(b, Revocation{Peer: root.ID()}))); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v; want that nobody revokes the root", err)
	}
	if _, err := s.Add(admit(t, b, root, "x", 0)); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v; want that nobody admits the root", err)
	}
}

func TestRevocation(t *testing.T) {
	root, a, kept, unknown, grandchild := newIdentity(t), newIdentity(t), newIdentity(t), newIdentity(t), newIdentity(t)
	s := NewSet(root.Public())
	var changed []string
	s.OnChange(func(id string) {
		changed = append(changed, id)
		_ = s.Admitted(id) // must not lock up
	})
	addAll(t, s, admit(t, root, a, "a", 1), admit(t, a, kept, "kept", 2))
	knew := s.AdmittedBy(a.ID())
	addAll(t, s, admit(t, a, unknown, "unknown", 3), admit(t, unknown, grandchild, "g", 4))
	changed = nil
	addAll(t, s, ok(t)(Revoke(root, Revocation{Peer: a.ID(), Knew: knew})))
	slices.Sort(changed)
	want := []string{a.ID(), unknown.ID(), grandchild.ID()}
	slices.Sort(want)
	if !slices.Equal(changed, want) {
		t.Errorf("told of %v; want %v", changed, want)
	}
	for _, id := range want {
		if err := s.Admitted(id); !errors.Is(err, ErrRevoked) {
			t.Errorf("%v; want revoked", err)
		}
		if _, known := s.KeyOf(id); !known {
			t.Error("the key of a revoked peer is gone; what it signed stands")
		}
		if s.Chain(id) != nil {
			t.Error("a chain for one that is out")
		}
	}
	if err := s.Admitted(kept.ID()); err != nil {
		t.Error(err)
	}
	if len(s.Chain(kept.ID())) != 2 {
		t.Error("no chain for one that stays")
	}
	addAll(t, s, ok(t)(Revoke(root, Revocation{Peer: a.ID(), WithAdmitted: true})))
	if err := s.Admitted(kept.ID()); !errors.Is(err, ErrRevoked) {
		t.Errorf("%v; want revoked with all that a let in", err)
	}
}

func TestRevocationOfOneThatLetThousandsIn(t *testing.T) {
	root, a, b := newIdentity(t), newIdentity(t), newIdentity(t)
	var knew []string
	for range 2000 {
		knew = append(knew, identity.IDOf([]byte{byte(len(knew)), byte(len(knew) >> 8)}))
	}
	knew = append(knew, b.ID())
	s := NewSet(root.Public())
	addAll(t, s, admit(t, root, a, "a", 1), admit(t, a, b, "b", 2), ok(t)(Revoke(root, Revocation{Peer: a.ID(), Knew: knew})))
	if s.Admitted(b.ID()) != nil || s.Admitted(a.ID()) == nil {
		t.Fatal(s.Admitted(a.ID()), s.Admitted(b.ID()))
	}
}

func TestForgedRecords(t *testing.T) {
	root, a, stranger := newIdentity(t), newIdentity(t), newIdentity(t)
	s := NewSet(root.Public())
	good := admit(t, root, a, "a", 1)
	for i := range good { // no bit of it may be another
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if changed, err := s.Add(bad); changed {
			t.Fatalf("byte %d changed, and taken: %v", i, err)
		}
	}
	if _, err := s.Add(append(bytes.Clone(good), 0)); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v; want invalid", err)
	}
	addAll(t, s, good, admit(t, stranger, stranger, "x", 1)) // that one waits for ever
	if err := s.Admitted(stranger.ID()); !errors.Is(err, ErrUnknown) {
		t.Errorf("%v; want unknown", err)
	}
	for i := range waitingMax + 10 {
		key := make([]byte, 32)
		key[0], key[1] = byte(i), byte(i>>8)
		addAll(t, s, ok(t)(Admit(stranger, Admission{Key: key})))
	}
	if n := len(s.waiting.order); n > waitingMax {
		t.Errorf("%d records wait", n)
	}
}

func TestChainOfAStranger(t *testing.T) {
	root, a, b, c, x := newIdentity(t), newIdentity(t), newIdentity(t), newIdentity(t), newIdentity(t)
	full := NewSet(root.Public())
	addAll(t, full, admit(t, root, a, "a", 1), admit(t, a, b, "b", 1), admit(t, b, c, "c", 1))
	chain := full.Chain(c.ID())
	for name, bad := range map[string][][]byte{
		"empty": nil, "of another": chain[:2], "without its root": chain[1:], "not in order": {chain[1], chain[0], chain[2]},
		"forged":               {chain[0], admit(t, x, c, "c", 1)},
		"with a revocation":    append(slices.Clone(chain), ok(t)(Revoke(c, Revocation{Peer: a.ID()}))),
		"longer than can be":   slices.Repeat(chain, 30),
		"ends in what is none": append(slices.Clone(chain[:2]), []byte("x")),
	} {
		s := NewSet(root.Public())
		if err := s.AddChain(c.ID(), bad); !errors.Is(err, ErrInvalid) || len(s.Records()) != 0 {
			t.Errorf("%s: %v, %d records", name, err, len(s.Records()))
		}
	}
	s := NewSet(root.Public())
	if err := s.AddChain(c.ID(), chain); err != nil || s.Admitted(c.ID()) != nil {
		t.Fatal(err, s.Admitted(c.ID()))
	}
}

func TestTokens(t *testing.T) {
	root, a, stranger := newIdentity(t), newIdentity(t), newIdentity(t)
	s := NewSet(root.Public())
	addAll(t, s, admit(t, root, a, "a", 1))
	now := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	invite := func(by *identity.Identity, mesh *identity.Identity) (string, Token) {
		text, err := NewToken(by, TokenOptions{Mesh: mesh.Public(), Name: "n", Site: "s", Now: now})
		if err != nil {
			t.Fatal(err)
		}
		token, err := ParseToken(" " + text + "\n")
		if err != nil {
			t.Fatal(err)
		}
		return text, token
	}
	check := func(name string, token Token, at time.Time, want error) {
		t.Helper()
		if err := s.CheckToken(token, at); !errors.Is(err, want) {
			t.Errorf("%s: %v; want %v", name, err, want)
		}
	}
	text, good := invite(a, root)
	check("good", good, now, nil)
	check("at the root's peer too", good, now.Add(59*time.Minute), nil)
	check("with a clock of 1970", good, time.Unix(0, 0), nil)
	check("expired", good, now.Add(2*time.Hour), ErrTokenExpired)
	unset := newIdentity(t)
	addAll(t, s, admit(t, root, unset, "unset", now.Unix()))
	old, err := NewToken(unset, TokenOptions{Mesh: root.Public(), Name: "n", Now: time.Unix(60, 0)})
	if err != nil {
		t.Fatal(err)
	}
	ofOld, err := ParseToken(old)
	if err != nil {
		t.Fatal(err)
	}
	check("made by a clock of 1970", ofOld, now, ErrTokenExpired)
	if err := s.CheckToken(ofOld, now); !strings.Contains(err.Error(), "the clock of unset was wrong") {
		t.Errorf("%v; want what to do about it", err)
	}
	check("made by a clock of 1970, for one", ofOld, time.Unix(120, 0), nil)
	_, other := invite(a, stranger)
	check("of another mesh", other, now, ErrTokenMesh)
	_, forged := invite(stranger, root)
	check("forged", forged, now, ErrTokenForged)
	changed := good
	changed.body = bytes.Replace(good.body, []byte("n"), []byte("m"), 1)
	check("changed", changed, now, ErrTokenForged)
	addAll(t, s, ok(t)(Spend(a, Spent{Token: good.ID, Peer: stranger.ID()})))
	check("used", good, now, ErrTokenUsed)
	_, late := invite(a, root)
	addAll(t, s, ok(t)(Revoke(root, Revocation{Peer: a.ID()})))
	check("of one that is out", late, now, ErrTokenRevoked)
	for _, bad := range []string{"", "hansa-", text[:40], "hansa-" + strings.Repeat("x", 5000), strings.ToUpper(text)} {
		if _, err := ParseToken(bad); !errors.Is(err, ErrTokenForm) {
			t.Errorf("%.20q: %v", bad, err)
		}
	}
}

func TestNameConflicts(t *testing.T) {
	root, a, b, c := newIdentity(t), newIdentity(t), newIdentity(t), newIdentity(t)
	s := NewSet(root.Public())
	addAll(t, s, admit(t, root, b, "same", 2), admit(t, root, a, "same", 1), admit(t, root, c, "other", 1))
	if got := s.NameConflicts(); len(got) != 1 || !slices.Equal(got["same"], []string{a.ID(), b.ID()}) {
		t.Fatal(got)
	}
	addAll(t, s, ok(t)(Revoke(root, Revocation{Peer: a.ID()})))
	if got := s.NameConflicts(); len(got) != 0 {
		t.Fatal(got)
	}
}

func TestRecordKeys(t *testing.T) {
	root, a := newIdentity(t), newIdentity(t)
	for want, record := range map[string][]byte{
		"admission/" + a.ID():                    admit(t, root, a, "a", 1),
		"revocation/" + a.ID() + "/" + root.ID(): ok(t)(Revoke(root, Revocation{Peer: a.ID()})),
		"spent/t/" + a.ID():                      ok(t)(Spend(root, Spent{Token: "t", Peer: a.ID()})),
	} {
		if got, err := RecordKey(record); err != nil || got != want {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
}

func FuzzRecord(f *testing.F) {
	root := newIdentity(f)
	f.Add(admit(f, root, newIdentity(f), "a", 1))
	f.Add(ok(f)(Revoke(root, Revocation{Peer: newIdentity(f).ID()})))
	f.Add(ok(f)(Spend(root, Spent{Token: "t", Peer: root.ID()})))
	other := NewSet(newIdentity(f).Public())
	f.Fuzz(func(t *testing.T, raw []byte) {
		if changed, _ := other.Add(raw); changed {
			t.Fatal("a record without a chain was taken")
		}
		if key, err := RecordKey(raw); err == nil && strings.Count(key, "/") > 2 {
			t.Fatalf("key %q", key)
		}
	})
}

func FuzzToken(f *testing.F) {
	by := newIdentity(f)
	text, err := NewToken(by, TokenOptions{Mesh: by.Public(), Name: "n"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	s := NewSet(newIdentity(f).Public())
	f.Fuzz(func(t *testing.T, text string) {
		if token, err := ParseToken(text); err == nil && s.CheckToken(token, time.Now()) == nil {
			t.Fatal("an invitation of nobody is good")
		}
	})
}

func TestTableIsHeldAgainstTheSet(t *testing.T) {
	root, a, b, stranger := newIdentity(t), newIdentity(t), newIdentity(t), newIdentity(t)
	s := NewSet(root.Public())
	byRoot, byA := admit(t, root, b, "b", 2), admit(t, a, b, "b too", 3)
	renewed := admit(t, root, b, "b", 9)
	addAll(t, s, admit(t, root, a, "a", 1), byRoot, byA, renewed)
	key, err := RecordKey(byRoot)
	if err != nil {
		t.Fatal(err)
	}
	if held := s.ByKey()[key]; len(held) != 2 {
		t.Errorf("%d records under one key, want that of each maker", len(held))
	}
	if got := s.Replaced([][]byte{byRoot, byA, renewed, byA, []byte("no record"), admit(t, stranger, b, "b", 4)}); !slices.Equal(got, []int{0, 3}) {
		t.Errorf("replaced: %v", got)
	}
	forged := bytes.Clone(renewed)
	forged[len(forged)-1] ^= 1
	for name, c := range map[string]struct {
		key  string
		raw  []byte
		good bool
	}{
		"good": {key, renewed, true}, "another key": {key + "x", renewed, false}, "forged": {key, forged, false},
		"noise": {key, []byte("noise"), false}, "of one who is not known yet": {key, admit(t, stranger, b, "b", 4), true},
	} {
		if err := s.Check(c.key, c.raw); (err == nil) != c.good {
			t.Errorf("%s: %v", name, err)
		}
	}
	if chains := s.Chains([]string{a.ID(), b.ID(), a.ID(), stranger.ID()}); len(chains) != 2 {
		t.Errorf("%d records prove two peers that the root let in", len(chains))
	}
}
