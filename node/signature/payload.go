package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// payloadType is what cosign writes of what a payload is.
const payloadType = "cosign container image signature"

// payload is what is signed: the "simple signing" of atomic containers.
type payload struct {
	Critical struct {
		Identity struct {
			Reference string `json:"docker-reference"`
		} `json:"identity"`
		Image struct {
			Digest string `json:"docker-manifest-digest"`
		} `json:"image"`
		Type string `json:"type"`
	} `json:"critical"`
	Optional map[string]any `json:"optional"`
}

func newPayload(repository, digest string) ([]byte, error) {
	var p payload
	p.Critical.Identity.Reference = repository
	p.Critical.Image.Digest = digest
	p.Critical.Type = payloadType
	return json.Marshal(p)
}

// Subject is what a signature has to be of.
type Subject struct {
	Repository string // where it lies
	Digest     string // of its manifest
}

func (s Subject) String() string { return s.Repository + "@" + s.Digest }

// named says why a payload is not about a subject, or nil.
func (s Subject) named(text []byte) error {
	var p payload
	if err := json.Unmarshal(text, &p); err != nil {
		return fmt.Errorf("its payload can't be read: %w", err)
	}
	switch c := p.Critical; {
	case c.Type != payloadType:
		return fmt.Errorf("its payload is a %.80q, and no %q", c.Type, payloadType)
	case c.Image.Digest != s.Digest:
		return fmt.Errorf("it is of another image, %.80q", c.Image.Digest)
	case s.Repository == "" || bare(c.Identity.Reference) != bare(s.Repository):
		return fmt.Errorf("it was signed as %.255q, and not as %s", c.Identity.Reference, s.Repository)
	}
	return nil
}

// hostPort is a registry with a port, as the mesh keeps what came from there.
var hostPort = regexp.MustCompile(`__[0-9]{1,5}$`)

// bare is a repository without the registry that it is reached at, which differs
// from peer to peer, and without a tag or digest.
func bare(reference string) string {
	reference, _, _ = strings.Cut(reference, "@")
	if host, rest, ok := strings.Cut(reference, "/"); ok && (host == "localhost" || strings.ContainsAny(host, ".:") || hostPort.MatchString(host)) {
		reference = rest
	}
	reference, _, _ = strings.Cut(reference, ":")
	return reference
}

// sign signs a text as cosign does: SHA-256 of it, or all of it with Ed25519.
func sign(key crypto.Signer, text []byte) ([]byte, error) {
	if _, ok := key.Public().(ed25519.PublicKey); ok {
		return key.Sign(rand.Reader, text, crypto.Hash(0))
	}
	sum := sha256.Sum256(text)
	return key.Sign(rand.Reader, sum[:], crypto.SHA256)
}

// signed says whether a key signed a text.
func signed(key crypto.PublicKey, text, sig []byte) bool {
	sum := sha256.Sum256(text)
	switch k := key.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, sum[:], sig)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, crypto.SHA256, sum[:], sig) == nil
	case ed25519.PublicKey: // newer releases of cosign sign the hash of the text
		long := sha512.Sum512(text)
		return ed25519.Verify(k, text, sig) ||
			ed25519.VerifyWithOptions(k, long[:], sig, &ed25519.Options{Hash: crypto.SHA512}) == nil
	}
	return false
}
