package node

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"testing"

	"github.com/hansa-mesh/hansa/transport/identity"
)

// A signature that was found right before is right again, and nothing else is:
// not another text, context, signature or key.
func TestVerifiedRemembersWhatIsRight(t *testing.T) {
	id, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	other, err := identity.New()
	if err != nil {
		t.Fatal(err)
	}
	body := []byte("a record")
	sig := id.SignFor("here", body)
	flip := func(b []byte) []byte {
		b = bytes.Clone(b)
		b[0] ^= 1
		return b
	}
	var v verified
	for round := range 3 {
		if !v.check(id.Public(), "here", body, sig) {
			t.Fatalf("round %d: a right signature is refused", round)
		}
		for name, ok := range map[string]bool{
			"another text":      v.check(id.Public(), "here", flip(body), sig),
			"another signature": v.check(id.Public(), "here", body, flip(sig)),
			"another context":   v.check(id.Public(), "there", body, sig),
			"another key":       v.check(other.Public(), "here", body, sig),
			"another cut":       v.check(id.Public(), "her", append([]byte("e"), body...), sig),
			"no signature":      v.check(id.Public(), "here", body, nil),
			"no key":            v.check(nil, "here", body, sig),
		} {
			if ok {
				t.Errorf("round %d: %s is taken for right", round, name)
			}
		}
	}
}

// What is remembered is bounded, and the newest of it stays.
func TestVerifiedIsBounded(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	var v verified
	for n := range 3*verifiedMax + 1 {
		v.add(signedSum(public, "", fmt.Append(nil, n), private[:1]))
	}
	if n := len(v.young) + len(v.old); n > 2*verifiedMax {
		t.Errorf("%d are remembered, at most %d should be", n, 2*verifiedMax)
	}
	for n := 2*verifiedMax + 1; n <= 3*verifiedMax; n++ {
		if !v.has(signedSum(public, "", fmt.Append(nil, n), private[:1])) {
			t.Fatalf("%d is forgotten", n)
		}
	}
	if v.has(signedSum(public, "", fmt.Append(nil, 0), private[:1])) {
		t.Error("the oldest is remembered still")
	}
}

func BenchmarkVerified(b *testing.B) {
	id, err := identity.New()
	if err != nil {
		b.Fatal(err)
	}
	body := bytes.Repeat([]byte("record "), 100)
	sig := id.SignFor("here", body)
	b.Run("first", func(b *testing.B) {
		for b.Loop() {
			var v verified
			if !v.check(id.Public(), "here", body, sig) {
				b.Fatal("refused")
			}
		}
	})
	b.Run("again", func(b *testing.B) {
		var v verified
		for b.Loop() {
			if !v.check(id.Public(), "here", body, sig) {
				b.Fatal("refused")
			}
		}
	})
}
