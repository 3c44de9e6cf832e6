package trust

import (
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/transport/identity"
)

const (
	tokenPrefix  = "hansa-"
	tokenMax     = 2048 // characters
	tokenContext = "hansa invitation 1"
	// TTLDefault is how long an invitation is good.
	TTLDefault = time.Hour
	// skewMax is how far the clocks of inviter and redeemer may differ.
	skewMax = 5 * time.Minute
)

// The reasons why an invitation is refused.
var (
	ErrTokenForm    = errors.New("this is not an invitation")
	ErrTokenForged  = errors.New("the invitation was not made by a peer of this mesh")
	ErrTokenExpired = errors.New("the invitation has expired")
	ErrTokenUsed    = errors.New("the invitation was used already")
	ErrTokenRevoked = errors.New("the peer that made the invitation was shut out")
	ErrTokenMesh    = errors.New("the invitation is for another mesh")
)

// Token is an invitation: one name, once, for a time. Whoever has its text may
// use it, so it belongs in no log; its ID may be shown.
type Token struct {
	ID       string `json:"id"`
	Root     []byte `json:"root"` // the mesh's root key
	Name     string `json:"name"`
	Site     string `json:"site,omitempty"`     // "" leaves it to the newcomer
	Replaces string `json:"replaces,omitempty"` // the peer whose place it takes
	By       string `json:"by"`                 // the inviter
	Issued   int64  `json:"issued"`             // Unix seconds
	Expires  int64  `json:"expires"`            // Unix seconds

	body, sig []byte
}

type sealedToken struct {
	Body []byte `json:"b"`
	Sig  []byte `json:"s"`
}

// TokenOptions say what an invitation is for.
type TokenOptions struct {
	Mesh     ed25519.PublicKey // the mesh's root key; required
	Name     string
	Site     string // "" leaves it to the newcomer
	Replaces string
	TTL      time.Duration // default TTLDefault
	Now      time.Time     // default time.Now()
}

// NewToken makes an invitation, which any peer of the mesh can redeem.
func NewToken(inviter *identity.Identity, o TokenOptions) (string, error) {
	if len(o.Mesh) != ed25519.PublicKeySize {
		return "", errors.New("trust: token: the mesh's root key is needed")
	}
	if len(o.Name) > labelMax || len(o.Site) > labelMax || len(o.Replaces) > labelMax {
		return "", fmt.Errorf("trust: token: a name or site of over %d bytes", labelMax)
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return "", fmt.Errorf("trust: token: %w", err)
	}
	body, err := encoder.Marshal(Token{
		ID: hex.EncodeToString(id[:]), Root: o.Mesh, Name: o.Name, Site: o.Site, Replaces: o.Replaces, By: inviter.ID(),
		Issued: o.Now.Unix(), Expires: o.Now.Add(cmp.Or(o.TTL, TTLDefault)).Unix(),
	})
	if err != nil {
		return "", fmt.Errorf("trust: token: %w", err)
	}
	text, err := encoder.Marshal(sealedToken{Body: body, Sig: inviter.SignFor(tokenContext, body)})
	if err != nil {
		return "", fmt.Errorf("trust: token: %w", err)
	}
	return tokenPrefix + base64.RawURLEncoding.EncodeToString(text), nil
}

// ParseToken reads an invitation's text; CheckToken says whether it is good.
func ParseToken(text string) (Token, error) {
	var t Token
	encoded, ok := strings.CutPrefix(strings.TrimSpace(text), tokenPrefix)
	if !ok || len(text) > tokenMax {
		return t, fmt.Errorf("%w: it begins with %q and is one line of 'hansa invite'", ErrTokenForm, tokenPrefix)
	}
	data, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return t, fmt.Errorf("%w: it was cut or changed on the way", ErrTokenForm)
	}
	var s sealedToken
	if err := decoder.Unmarshal(data, &s); err != nil {
		return t, fmt.Errorf("%w: it was cut or changed on the way", ErrTokenForm)
	}
	if err := decoder.Unmarshal(s.Body, &t); err != nil || len(t.Root) != ed25519.PublicKeySize ||
		t.ID == "" || len(t.ID) > tokenIDMax || !identity.ValidID(t.By) {
		return Token{}, fmt.Errorf("%w: it was cut or changed on the way", ErrTokenForm)
	}
	t.body, t.sig = s.Body, s.Sig
	return t, nil
}

// CheckToken says why an invitation is refused, or nil. A clock that is behind
// the time when the invitation was made does not refuse it.
func (s *Set) CheckToken(t Token, now time.Time) error {
	if identity.IDOf(t.Root) != s.rootID {
		return fmt.Errorf("%w: %s, and this is %s", ErrTokenMesh, identity.IDOf(t.Root), s.rootID)
	}
	key, ok := s.KeyOf(t.By)
	if !ok || !identity.VerifyFor(key, tokenContext, t.body, t.sig) {
		return ErrTokenForged
	}
	if err := s.Admitted(t.By); err != nil {
		return fmt.Errorf("%w: %w", ErrTokenRevoked, err)
	}
	if now.After(time.Unix(t.Expires, 0).Add(skewMax)) {
		hint := "make another with 'hansa invite'"
		if a, ok := s.Admission(t.By); ok && t.Issued < a.At-int64(skewMax/time.Second) {
			hint = fmt.Sprintf("the clock of %s was wrong, it was not even let in by then; set it, or make one at another peer", a.Name)
		}
		return fmt.Errorf("%w at %s: %s", ErrTokenExpired, time.Unix(t.Expires, 0).UTC().Format(time.RFC3339), hint)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if peers := sortedKeys(s.spent[t.ID]); len(peers) > 0 {
		return fmt.Errorf("%w, by peer %s", ErrTokenUsed, peers[0])
	}
	return nil
}
