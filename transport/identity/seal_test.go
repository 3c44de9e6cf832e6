package identity

import (
	"crypto/ed25519"
	"testing"
)

func TestSealingKeys(t *testing.T) {
	for range 64 {
		a, err := New()
		if err != nil {
			t.Fatal(err)
		}
		public, err := SealingKeyOf(a.Public())
		if err != nil {
			t.Fatal(err)
		}
		if !a.SealingKey().PublicKey().Equal(public) {
			t.Fatalf("of %x: what is sealed to it can't be opened with its key", a.Public())
		}
	}
	one := make(ed25519.PublicKey, ed25519.PublicKeySize) // y = 1: the neutral point
	one[0] = 1
	alias := ed25519.PublicKey(append([]byte{0xee}, fillBytes(0xff, 31)...)) // y = p + 1, which is 1
	for name, key := range map[string]ed25519.PublicKey{"short": one[:31], "nil": nil, "neutral": one, "alias": alias} {
		if _, err := SealingKeyOf(key); err == nil {
			t.Errorf("%s: it was taken for a key", name)
		}
	}
}

func fillBytes(b byte, n int) []byte {
	out := make([]byte, n)
	for i := range out {
		out[i] = b
	}
	return out
}
