package secrets

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/fxamacker/cbor/v2"

	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport/identity"
)

// Limits. Whatever another peer wrote is held against them before it is kept.
const (
	// ValueBytesMax bounds one secret.
	ValueBytesMax = 64 << 10
	// EachMax bounds the secrets of a namespace.
	EachMax = 1024
	// SitesMax bounds a list of sites.
	SitesMax = 1024

	wrapsMax     = 8192
	wrapBytesMax = 256
	sealedMax    = ValueBytesMax + 1024
	numberMax    = 1 << 40
	nameMax      = 63
	siteMax      = 63
	// recordMax is above a key's record with wrapsMax wraps.
	recordMax = 1 << 20
	// tableKeysMax and tableBytesMax bound the table, in number and in memory.
	tableKeysMax  = 1 << 16
	tableBytesMax = 128 << 20
)

// Context separates the signatures of these records from all others that a
// peer's key makes.
const Context = "hansa secrets record 1"

// The kinds of records, and how their keys begin.
const (
	kindSites  = "sites"
	kindKey    = "key"
	kindSecret = "secret"
)

// body is what a record says; which fields are set goes by its kind. At is Unix
// milliseconds, later than what its writer had seen of the same.
type body struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	At        int64  `json:"at"`

	// sites: those that may hold the namespace's key. All is for every site.
	All   bool     `json:"all,omitempty"`
	Sites []string `json:"sites,omitempty"`

	// key
	Number uint64            `json:"number,omitempty"`
	Public []byte            `json:"public,omitempty"` // of a secret: the key that it is sealed to
	Wraps  map[string][]byte `json:"wraps,omitempty"`  // by peer

	// secret
	Name   string `json:"name,omitempty"`
	Sealed []byte `json:"sealed,omitempty"`
	By     string `json:"by,omitempty"` // the peer that took it; another may have sealed it anew
}

// key is where a record stands in the table.
func (b *body) key() string {
	switch b.Kind {
	case kindKey:
		return kindKey + "/" + b.Namespace + "/" + hex.EncodeToString(b.Public)
	case kindSecret:
		return kindSecret + "/" + b.Namespace + "/" + b.Name
	}
	return kindSites + "/" + b.Namespace
}

var encoder = func() cbor.EncMode {
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err) // constant options
	}
	return m
}()

var decoder = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		MaxArrayElements: wrapsMax, MaxMapPairs: wrapsMax, MaxNestedLevels: 8, DupMapKey: cbor.DupMapKeyEnforcedAPF,
		IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

// decode reads a record and looks at its form, not at who signed it.
func decode(raw []byte) (placement.Signed, *body, error) {
	var s placement.Signed
	b := &body{}
	if len(raw) > recordMax {
		return s, nil, fmt.Errorf("a record of %d bytes, at most %d", len(raw), recordMax)
	}
	if err := decoder.Unmarshal(raw, &s); err != nil {
		return s, nil, fmt.Errorf("a record that can't be read: %w", err)
	}
	if err := decoder.Unmarshal(s.Body, b); err != nil {
		return s, nil, fmt.Errorf("a record of %s that can't be read: %w", clip(string(s.By)), err)
	}
	if err := b.check(); err != nil {
		return s, nil, fmt.Errorf("a record of %s: %w", clip(string(s.By)), err)
	}
	return s, b, nil
}

func (b *body) check() error {
	if !IsName(b.Namespace) {
		return fmt.Errorf("namespace %q: not a name", clip(b.Namespace))
	}
	if b.At < 0 || b.At >= 1<<53 {
		return fmt.Errorf("time %d: out of range", b.At)
	}
	switch b.Kind {
	case kindSites:
		return checkSites(b.All, b.Sites)
	case kindKey:
		return b.checkKey()
	case kindSecret:
		switch {
		case !IsName(b.Name):
			return fmt.Errorf("secret %q: not a name", clip(b.Name))
		case len(b.Public) != keyBytes, len(b.Sealed) == 0, len(b.Sealed) > sealedMax, !identity.ValidID(b.By):
			return fmt.Errorf("secret %s of namespace %s: out of form", b.Name, b.Namespace)
		}
		return nil
	}
	return fmt.Errorf("kind %q: unknown", clip(b.Kind))
}

func (b *body) checkKey() error {
	if len(b.Public) != keyBytes || b.Number == 0 || b.Number > numberMax || len(b.Wraps) > wrapsMax {
		return fmt.Errorf("key of namespace %s: out of form", b.Namespace)
	}
	for id, w := range b.Wraps {
		if !identity.ValidID(id) || len(w) == 0 || len(w) > wrapBytesMax {
			return fmt.Errorf("key of namespace %s: the wrap for %q is out of form", b.Namespace, clip(id))
		}
	}
	return nil
}

func checkSites(all bool, sites []string) error {
	if len(sites) > SitesMax || all && len(sites) > 0 {
		return fmt.Errorf("%d sites: at most %d, and none beside all", len(sites), SitesMax)
	}
	for _, s := range sites {
		if s == "" || len(s) > siteMax {
			return fmt.Errorf("site %q: not a site", clip(s))
		}
	}
	return nil
}

// Check says whether a record that comes from elsewhere may be kept under a key:
// it has the form, is signed by a peer that was let in, and says what its key
// says.
func (v *Vault) Check(key string, raw []byte) error {
	s, b, err := decode(raw)
	if err != nil {
		return err
	}
	if b.key() != key {
		return fmt.Errorf("a record of %s: it is under %q and belongs under %q", clip(string(s.By)), clip(key), b.key())
	}
	return v.cfg.Verify(s)
}

// IsName says whether text has the form of a namespace's or a secret's name.
func IsName(text string) bool {
	if text == "" || len(text) > nameMax || strings.HasPrefix(text, "-") || strings.HasSuffix(text, "-") {
		return false
	}
	for _, c := range []byte(text) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// clip keeps what others wrote from filling a message.
func clip(text string) string { return text[:min(len(text), 100)] }
