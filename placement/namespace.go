package placement

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
)

// NamespacePolicies is where the policies of namespaces are kept: no app can be
// there.
const NamespacePolicies = "_policies"

// Bounds of a namespace's policy.
const (
	signaturesMax = 32 // rules
	signKeysMax   = 16 // of one rule
	signKeyMax    = 4 << 10
)

// NamespacePolicy is what holds for all apps of a namespace. As an intent it is
// an App that has it and no components. Where several stand side by side all of
// them hold: the most restrictive applies.
type NamespacePolicy struct {
	Namespace string `json:"namespace"`
	// Signatures are rules that all hold; none: nothing needs to be signed.
	Signatures []SignatureRule `json:"signatures,omitempty"`
}

// SignatureRule demands that what runs was signed.
type SignatureRule struct {
	// Images is the repository that it is about, or with "/*" at its end all
	// below it; empty for everything that runs in the namespace.
	Images string `json:"images,omitempty"`
	// Keys are public keys in PEM, of which one must have signed.
	Keys []string `json:"keys"`
}

// Key is what the policy is kept under.
func (n NamespacePolicy) Key() AppKey { return PolicyKey(n.Namespace) }

// PolicyKey is what the policy of a namespace is kept under.
func PolicyKey(namespace string) AppKey {
	return AppKey{Namespace: NamespacePolicies, App: namespace}
}

// App is the policy as what is submitted, held and spread.
func (n NamespacePolicy) App() App {
	key := n.Key()
	return App{Namespace: key.Namespace, Name: key.App, Policy: &n}
}

// Covers says whether the rule is about an image of a repository.
func (r SignatureRule) Covers(repository string) bool {
	if above, below := strings.CutSuffix(r.Images, "/*"); below {
		return strings.HasPrefix(repository, above+"/")
	}
	return r.Images == "" || r.Images == repository
}

// check says what is wrong with a policy. Of another peer's the keys may be of a
// kind that this release does not read: nothing that they should have signed
// runs here then.
func (n NamespacePolicy) check(lenient bool) error {
	bad := func(at int, what, fix string) error {
		return fmt.Errorf("policy of namespace %s: %w: rule %d: %s: %s", n.Namespace, ErrInvalid, at+1, what, fix)
	}
	if !nameForm.MatchString(n.Namespace) {
		return fmt.Errorf("policy: namespace %.80q: %w: %s", n.Namespace, ErrInvalid, nameRule)
	}
	if len(n.Signatures) > signaturesMax {
		return fmt.Errorf("policy of namespace %s: %w: %d rules, at most %d", n.Namespace, ErrInvalid, len(n.Signatures), signaturesMax)
	}
	for at, r := range n.Signatures {
		if r.Images != "" && CheckRepository(strings.TrimSuffix(r.Images, "/*")) != nil {
			return bad(at, fmt.Sprintf("images %.80q is no repository", r.Images), `for instance "shop/api", or "shop/*"`)
		}
		if len(r.Keys) == 0 || len(r.Keys) > signKeysMax {
			return bad(at, fmt.Sprintf("%d keys", len(r.Keys)), fmt.Sprintf("1 to %d", signKeysMax))
		}
		for _, key := range r.Keys {
			if len(key) > signKeyMax {
				return bad(at, fmt.Sprintf("a key of %d bytes", len(key)), fmt.Sprintf("at most %d", signKeyMax))
			}
			block, _ := pem.Decode([]byte(key))
			if lenient {
				continue
			}
			if block == nil {
				return bad(at, "a key is not in PEM", `it begins with "-----BEGIN PUBLIC KEY-----"`)
			}
			if _, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil {
				return bad(at, "a key can't be read", "give a public key, as cosign generate-key-pair writes it to cosign.pub")
			}
		}
	}
	return nil
}

// strictest is a policy under which all of these hold.
func strictest(namespace string, policies []NamespacePolicy) NamespacePolicy {
	out := NamespacePolicy{Namespace: namespace}
	var seen [][]byte
	for _, n := range policies {
		for _, r := range n.Signatures {
			text := Encode(r)
			if !slices.ContainsFunc(seen, func(o []byte) bool { return bytes.Equal(o, text) }) {
				seen = append(seen, text)
				out.Signatures = append(out.Signatures, r)
			}
		}
	}
	// In one order, whichever policy is looked at first.
	slices.SortFunc(out.Signatures, func(a, b SignatureRule) int { return bytes.Compare(Encode(a), Encode(b)) })
	return out
}
