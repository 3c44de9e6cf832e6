package signature

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"

	digests "github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// blobs is a registry's.
type blobs map[digests.Digest][]byte

func (b blobs) open(_ context.Context, d ocispec.Descriptor, max int64) ([]byte, error) {
	data, ok := b[d.Digest]
	if !ok {
		return nil, errors.New("not here")
	}
	if int64(len(data)) > max {
		return nil, errors.New("too long")
	}
	return data, nil
}

func (b blobs) put(all ...Blob) {
	for _, x := range all {
		b[x.Descriptor.Digest] = x.Data
	}
}

var api = Subject{"shop/api", digests.FromString("the image").String()}

// keysOf is one key of each kind.
func keysOf(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, rsaBitsMin)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]crypto.Signer{"ecdsa": ec, "ed25519": ed, "rsa": rs}
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func publics(keys ...crypto.Signer) (out []crypto.PublicKey) {
	for _, k := range keys {
		out = append(out, k.Public())
	}
	return out
}

// signAs adds a signature, and gives the manifest.
func signAs(t *testing.T, b blobs, key crypto.Signer, of Subject, old []byte) []byte {
	t.Helper()
	top, parts, err := Sign(t.Context(), key, of, old, b.open)
	if err != nil {
		t.Fatal(err)
	}
	b.put(parts...)
	return top.Data
}

func read(t *testing.T, b blobs, manifest []byte) []Signature {
	t.Helper()
	found, err := Read(t.Context(), manifest, b.open)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestSignAndCheck(t *testing.T) {
	for kind, key := range keysOf(t) {
		t.Run(kind, func(t *testing.T) {
			b, other := blobs{}, newKey(t)
			manifest := signAs(t, b, key, api, nil)
			found := read(t, b, manifest)
			if err := Check(found, api, publics(other, key)); err != nil {
				t.Error(err)
			}
			if err := Check(found, api, publics(other)); !errors.Is(err, ErrNotSigned) {
				t.Errorf("another key: %v", err)
			}
			both := signAs(t, b, other, api, manifest)
			if found = read(t, b, both); len(found) != 2 || Check(found, api, publics(key)) != nil || Check(found, api, publics(other)) != nil {
				t.Errorf("of two keys: %d", len(found))
			}
			if top, _, err := Sign(t.Context(), key, api, both, b.open); top != nil || err != nil {
				t.Errorf("signed twice: %v %v", top, err)
			}
		})
	}
}

// A signature is of one image in one repository; the registry that it was pushed
// through, and the tag, are nothing to it.
func TestSubject(t *testing.T) {
	key, b := newKey(t), blobs{}
	for name, of := range map[string]Subject{
		"another repository": {"shop/worker", api.Digest},
		"below":              {"shop/api/v2", api.Digest},
		"above":              {"my__team/shop/api", api.Digest},
		"another image":      {"shop/api", digests.FromString("another").String()},
		"no repository":      {"", api.Digest},
	} {
		found := read(t, b, signAs(t, b, key, of, nil))
		if err := Check(found, api, publics(key)); !errors.Is(err, ErrNotSigned) {
			t.Errorf("%s: %v", name, err)
		}
		if err := Check(found, Subject{Digest: api.Digest}, publics(key)); !errors.Is(err, ErrNotSigned) {
			t.Errorf("%s, with no repository: %v", name, err)
		}
	}
	for _, name := range []string{"shop/api", "127.0.0.1:7601/shop/api", "localhost/shop/api:1.4", "localhost__5000/shop/api", "registry.example/shop/api@" + api.Digest} {
		found := read(t, b, signAs(t, b, key, Subject{name, api.Digest}, nil))
		if err := Check(found, api, publics(key)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAlteredSignatures(t *testing.T) {
	key := newKey(t)
	text, err := newPayload(api.Repository, api.Digest)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := sign(key, text)
	if err != nil {
		t.Fatal(err)
	}
	flip := func(data []byte, at int) []byte {
		data = bytes.Clone(data)
		data[at] ^= 1
		return data
	}
	for at := range text { // every byte counts
		if err := Check([]Signature{{flip(text, at), sig}}, api, publics(key)); !errors.Is(err, ErrNotSigned) {
			t.Fatalf("payload, byte %d: %v", at, err)
		}
	}
	for at := range sig {
		if err := Check([]Signature{{text, flip(sig, at)}}, api, publics(key)); !errors.Is(err, ErrNotSigned) {
			t.Fatalf("signature, byte %d: %v", at, err)
		}
	}
	for name, s := range map[string]Signature{"nothing": {}, "no signature": {Payload: text}, "cut": {text, sig[:len(sig)/2]}} {
		if err := Check([]Signature{s}, api, publics(key)); !errors.Is(err, ErrNotSigned) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := Check(nil, api, publics(key)); !errors.Is(err, ErrUnsigned) {
		t.Errorf("none: %v", err)
	}
	for _, text := range []string{"{", `{"critical":{"type":"another"}}`, `[]`} { // signed, and no payload
		sig, err := sign(key, []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if err := Check([]Signature{{[]byte(text), sig}}, api, publics(key)); !errors.Is(err, ErrNotSigned) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// Bad signatures beside a good one do not hide it; payloads that are too long, or
// not the bytes of their digest, are nobody's; what is too much is not looked at.
func TestManyAndLongSignatures(t *testing.T) {
	key, b := newKey(t), blobs{}
	good := signAs(t, b, key, api, nil)
	var m ocispec.Manifest
	if err := json.Unmarshal(good, &m); err != nil {
		t.Fatal(err)
	}
	one := m.Layers[0]
	layer := func(change func(*ocispec.Descriptor)) ocispec.Descriptor {
		l := one
		l.Annotations = map[string]string{annotation: one.Annotations[annotation]}
		change(&l)
		return l
	}
	long := blobOf(layerType, bytes.Repeat([]byte("x"), payloadMax+1))
	lie := layer(func(l *ocispec.Descriptor) { l.Digest = digests.FromString("a lie") })
	b.put(long)
	b[lie.Digest] = []byte("other bytes")
	bad := []ocispec.Descriptor{
		layer(func(l *ocispec.Descriptor) { l.Annotations[annotation] = "no base64!" }),
		layer(func(l *ocispec.Descriptor) { l.Annotations[annotation] = strings.Repeat("A", textMax+4) }),
		layer(func(l *ocispec.Descriptor) { l.Annotations = nil }),
		layer(func(l *ocispec.Descriptor) { l.MediaType = "application/octet-stream" }),
		layer(func(l *ocispec.Descriptor) { l.Digest, l.Size = long.Descriptor.Digest, long.Descriptor.Size }),
		lie,
	}
	manifest := func(layers ...ocispec.Descriptor) []byte {
		m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: m.Config, Layers: layers}
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	found := read(t, b, manifest(append(bad, one)...))
	if len(found) != 1 || Check(found, api, publics(key)) != nil {
		t.Errorf("%d signatures were read", len(found))
	}
	if found := read(t, b, manifest(bad...)); len(found) != 0 {
		t.Errorf("of bad ones %d were read", len(found))
	}
	var many []ocispec.Descriptor
	for range 4 * signaturesMax {
		many = append(many, layer(func(l *ocispec.Descriptor) {
			l.Annotations[annotation] = base64.StdEncoding.EncodeToString([]byte(rand.Text()))
		}))
	}
	if found := read(t, b, manifest(many...)); len(found) != signaturesMax {
		t.Errorf("%d signatures were read", len(found))
	}
	if _, _, err := Sign(t.Context(), key, api, manifest(many...), b.open); err == nil {
		t.Error("one more was added to too many")
	}
	for _, data := range []string{"", "{", `{"schemaVersion":1}`} {
		if _, err := Read(t.Context(), []byte(data), b.open); err == nil {
			t.Errorf("%q was read", data)
		}
	}
	delete(b, one.Digest)
	if _, err := Read(t.Context(), good, b.open); err == nil {
		t.Error("a payload that can't be had is told as none")
	}
}

func TestTags(t *testing.T) {
	tag := Tag(api.Digest)
	if digest, ok := Signs(tag); !ok || digest != api.Digest || strings.Contains(tag, ":") {
		t.Errorf("%s: %s %v", tag, digest, ok)
	}
	for _, tag := range []string{"1.4", "sha256-12.sig", ".sig", "sha256-.sig", strings.TrimSuffix(tag, ".sig"), "../" + tag} {
		if digest, ok := Signs(tag); ok {
			t.Errorf("%s signs %s", tag, digest)
		}
	}
	long := digests.SHA512.FromString("x").String()
	if _, _, err := Sign(t.Context(), newKey(t), Subject{"x", long}, nil, nil); err == nil {
		t.Error("a digest that no tag holds was signed")
	}
}

func TestKeys(t *testing.T) {
	private, public, err := Generate([]byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	if !Encrypted(private) || Encrypted(public) {
		t.Error("the private key is not encrypted")
	}
	key, err := ParsePrivate(private, []byte("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ParsePublic(public)
	if err != nil || !key.Public().(*ecdsa.PublicKey).Equal(pub) {
		t.Errorf("%v: not a pair", err)
	}
	if _, err := ParsePrivate(private, []byte("sesame open")); !errors.Is(err, ErrPassword) || strings.Contains(fmt.Sprint(err), "sesame") {
		t.Errorf("a wrong password: %v", err)
	}
	for kind, key := range keysOf(t) {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParsePrivate(pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: der}), nil)
		if err != nil || !got.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(key.Public()) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	weak, err := EncodePublic(short.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, file := range map[string][]byte{
		"nothing": nil, "text": []byte("hello"), "a public key": public, "cut": private[:len(private)/2],
		"another kind": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")}),
		"damaged":      pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: []byte("x")}),
		"too long":     bytes.Repeat([]byte("x"), KeyFileMax+1),
	} {
		if _, err := ParsePrivate(file, nil); err == nil {
			t.Errorf("private, %s: taken", name)
		}
	}
	for name, file := range map[string][]byte{"nothing": nil, "a private key": private, "weak": weak, "too long": bytes.Repeat([]byte("x"), KeyFileMax+1)} {
		if _, err := ParsePublic(file); !errors.Is(err, ErrKey) {
			t.Errorf("public, %s: %v", name, err)
		}
	}
}

// Newer releases of cosign sign with Ed25519 what is hashed first.
func TestEd25519Hashed(t *testing.T) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := newPayload(api.Repository, api.Digest)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha512.Sum512(text)
	sig, err := key.Sign(rand.Reader, sum[:], &ed25519.Options{Hash: crypto.SHA512})
	if err != nil {
		t.Fatal(err)
	}
	if err := Check([]Signature{{text, sig}}, api, []crypto.PublicKey{pub}); err != nil {
		t.Error(err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"layers":[{"mediaType":"`+layerType+`","digest":"`+api.Digest+`","size":3,"annotations":{"`+annotation+`":"AAAA"}}]}`), []byte("{}"))
	f.Fuzz(func(t *testing.T, manifest, text []byte) {
		found, err := Read(t.Context(), manifest, func(context.Context, ocispec.Descriptor, int64) ([]byte, error) { return text, nil })
		if err != nil {
			return
		}
		if len(found) > signaturesMax || Check(found, api, nil) == nil {
			t.Error("too many, or good for no key")
		}
	})
}
