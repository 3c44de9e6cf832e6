package placement

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"
)

// pemKey is a public key as cosign writes it.
var pemKey = func() []byte {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}()

// A policy that is set at one peer holds at all of them, until it is removed; it
// is no app, and of its namespace alone.
func TestNamespacePolicy(t *testing.T) {
	v := newVillage(t, FaultNone, "a", "b", "c", "d")
	rule := SignatureRule{Images: "shop/*", Keys: []string{string(pemKey)}}
	set := NamespacePolicy{Namespace: "prod", Signatures: []SignatureRule{rule}}
	v.step(v.peers["a"], Submit{Ticket: 1, App: set.App()})
	if r := v.answers[1]; r.Err != nil || !r.Quorum {
		t.Fatalf("%+v", r)
	}
	for _, id := range v.order {
		got, tag := v.peers[id].Policy("prod")
		if len(got.Signatures) != 1 || !got.Signatures[0].Covers("shop/api") || tag != v.answers[1].ETag {
			t.Errorf("%s: %+v %q", id, got, tag)
		}
		if other, tag := v.peers[id].Policy("test"); len(other.Signatures) > 0 || tag != "" {
			t.Errorf("%s: another namespace has %+v", id, other)
		}
		if len(v.peers[id].Apps()) > 0 {
			t.Errorf("%s shows it as an app", id)
		}
	}
	v.step(v.peers["d"], Remove{Ticket: 2, Key: set.Key()})
	v.pass(30 * time.Second)
	if got, tag := v.peers["b"].Policy("prod"); len(got.Signatures) > 0 || tag != "" || v.answers[2].Err != nil {
		t.Errorf("after it was removed: %+v", got)
	}
}

// Two policies that were set on two sides of a cut, by two that knew of none,
// both hold from then on.
func TestPoliciesOfTwoSidesBothHold(t *testing.T) {
	p, now := newTestPeer("a")
	policy := func(images string) App {
		return NamespacePolicy{Namespace: "prod", Signatures: []SignatureRule{{Images: images, Keys: []string{string(pemKey)}}}}.App()
	}
	here, there := intentBy("b", "u1", policy("x"), nil), intentBy("c", "u2", policy("y"), nil)
	step(p, now, RecordChanged{Table: TableIntents, Key: PolicyKey("prod").String(), Siblings: [][]byte{Encode(here), Encode(there)}})
	got, tag := p.Policy("prod")
	if len(got.Signatures) != 2 || tag == "" {
		t.Errorf("%+v %q", got, tag)
	}
	for _, a := range p.apps {
		if p.conflict(a) {
			t.Error("it is shown as a conflict")
		}
	}
}

func TestPolicyIsRefused(t *testing.T) {
	key := string(pemKey)
	many := make([]SignatureRule, signaturesMax+1)
	for i := range many {
		many[i].Keys = []string{key}
	}
	for name, n := range map[string]NamespacePolicy{
		"no namespace":       {},
		"another's":          {Namespace: NamespaceImages},
		"no key":             {Namespace: "p", Signatures: []SignatureRule{{}}},
		"no PEM":             {Namespace: "p", Signatures: []SignatureRule{{Keys: []string{"cosign.pub"}}}},
		"a private key":      {Namespace: "p", Signatures: []SignatureRule{{Keys: []string{strings.ReplaceAll(key, "MFk", "AAk")}}}},
		"too long a key":     {Namespace: "p", Signatures: []SignatureRule{{Keys: []string{key + strings.Repeat("\n", signKeyMax)}}}},
		"too many keys":      {Namespace: "p", Signatures: []SignatureRule{{Keys: make([]string, signKeysMax+1)}}},
		"too many rules":     {Namespace: "p", Signatures: many},
		"no repository":      {Namespace: "p", Signatures: []SignatureRule{{Images: "*", Keys: []string{key}}}},
		"a path":             {Namespace: "p", Signatures: []SignatureRule{{Images: "../x/*", Keys: []string{key}}}},
		"a repository's tag": {Namespace: "p", Signatures: []SignatureRule{{Images: "shop:1", Keys: []string{key}}}},
	} {
		if err := n.App().submitted(nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for images, covers := range map[string]bool{"": true, "shop/api": true, "shop/*": true, "shop": false, "shop/a": false, "sho/*": false} {
		if got := (SignatureRule{Images: images}).Covers("shop/api"); got != covers {
			t.Errorf("%q covers it: %t", images, got)
		}
	}
}
