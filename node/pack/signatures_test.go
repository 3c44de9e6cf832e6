package pack

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/signature"
	"github.com/hansa-mesh/hansa/placement"
)

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func signWith(t *testing.T, key crypto.Signer, to Target, ref Ref, d digests.Digest, isNew bool) {
	t.Helper()
	if added, err := Sign(t.Context(), key, to, ref, d); err != nil || added != isNew {
		t.Fatalf("sign %s: %v, added %v", d, err, added)
	}
}

// refer puts a signature that refers to what it signs as its subject, and has no tag.
func refer(t *testing.T, key crypto.Signer, to Remote, of ocispec.Descriptor) {
	t.Helper()
	none := func(context.Context, ocispec.Descriptor, int64) ([]byte, error) { return nil, ErrNotFound }
	top, blobs, err := signature.Sign(t.Context(), key, signature.Subject{Repository: to.Repository, Digest: string(of.Digest)}, nil, none)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blobs {
		if err := put(t.Context(), to, b.Descriptor, b.Data); err != nil {
			t.Fatal(err)
		}
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(top.Data, &m); err != nil {
		t.Fatal(err)
	}
	m.Subject = &of
	data := encode(m)
	if err := to.Tag(t.Context(), describe(m.MediaType, data), data, Ref{Repository: to.Repository}); err != nil {
		t.Fatal(err)
	}
}

// signedBy sees which keys signed something.
func signedBy(t *testing.T, at Signed, as string, d digests.Digest, keys ...crypto.Signer) {
	t.Helper()
	found, err := SignaturesOf(t.Context(), at, d)
	if err != nil {
		t.Fatal(err)
	}
	for i, key := range keys {
		if err := signature.Check(found, signature.Subject{Repository: as, Digest: string(d)}, []crypto.PublicKey{key.Public()}); err != nil {
			t.Errorf("%s by key %d: %v", d, i+1, err)
		}
	}
	if len(found) != len(keys) {
		t.Errorf("%s has %d signatures, want %d", d, len(found), len(keys))
	}
}

func copySigned(t *testing.T, from Source, root ocispec.Descriptor, to Target, ref Ref) {
	t.Helper()
	if _, err := Carry(t.Context(), from, root, to, ref); err != nil {
		t.Fatal(err)
	}
	copyTo(t, from, root, to, ref)
}

// A package goes over a tar file and a folder to another registry, and with it go
// the signatures of it and of the images in it, beside those that it has there.
func TestSignaturesTravel(t *testing.T) {
	y, first, second := newYard(t), serve(t, nil), serve(t, nil)
	ours, referring, images, theirs := newKey(t), newKey(t), newKey(t), newKey(t)

	web := Ref{Repository: "shop/web", Tag: "1"}
	layout, err := fromFile(filepath.Join(y.dir, "web"))
	if err != nil {
		t.Fatal(err)
	}
	copyTo(t, layout.Source, layout.Root, first.at(web.Repository), web)
	signWith(t, images, first.at(web.Repository), web, layout.Root.Digest, true)
	if err := layout.Close(); err != nil {
		t.Fatal(err)
	}
	y.app.Components["web"] = placement.Component{Container: &placement.Container{Image: web.String()}}
	o := y.options()
	o.Name, o.Find = shop, Finder{Dir: y.dir, Registry: func(ref Ref) (Remote, error) { return first.at(ref.Repository), nil }}.Find
	built, err := Build(t.Context(), []placement.App{y.app}, first.at("shop"), o)
	if err == nil {
		err = first.at("shop").Tag(t.Context(), built.Descriptor, built.Data, shop)
	}
	if err != nil {
		t.Fatal(err)
	}
	root := built.Descriptor
	signWith(t, ours, first.at("shop"), shop, root.Digest, true)
	signWith(t, ours, first.at("shop"), shop, root.Digest, false)
	refer(t, referring, first.at("shop"), root)
	signWith(t, theirs, second.at("shop"), shop, root.Digest, true) // who has it already

	var from Source = first.at("shop")
	dir := filepath.Join(t.TempDir(), "shop")
	for _, name := range []string{filepath.Join(t.TempDir(), "shop.tar"), dir} {
		w, err := CreateLayout(name)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Discard()
		copySigned(t, from, root, w, shop)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		l, err := OpenLayout(name)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if at, as, err := l.Root(""); err != nil || at.Digest != root.Digest || as != "shop:1.4" {
			t.Fatalf("the layout holds %s as %q: %v", at.Digest, as, err)
		}
		from = l
	}
	copySigned(t, from, root, second.at("shop"), shop)
	copySigned(t, from, root, second.at("shop"), shop) // again changes nothing
	signedBy(t, second.at("shop"), "shop", root.Digest, ours, referring, theirs)
	signedBy(t, second.at("shop"), "shop/web", layout.Root.Digest, images)

	// What was altered on its way does not arrive.
	for _, d := range blobsOf(t, first.at("shop"), root.Digest) {
		path := filepath.Join(dir, "blobs", "sha256", d.Digest.Encoded())
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(good)
		bad[len(bad)/2] ^= 1
		write(t, path, bad)
		l, err := OpenLayout(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Carry(t.Context(), l, root, serve(t, nil).at("shop"), shop); !errors.Is(err, ErrDigest) {
			t.Errorf("%s with a changed byte: %v", d.MediaType, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		write(t, path, good)
	}
}

// blobsOf are the image of signatures under the tag for a manifest, and its blobs.
func blobsOf(t *testing.T, at Remote, of digests.Digest) []ocispec.Descriptor {
	t.Helper()
	m, err := at.Resolve(t.Context(), Ref{Repository: at.Repository, Tag: signature.Tag(string(of))})
	if err != nil {
		t.Fatal(err)
	}
	var parsed ocispec.Manifest
	if err := json.Unmarshal(m.Data, &parsed); err != nil {
		t.Fatal(err)
	}
	return append(parsed.Layers, m.Descriptor)
}

// A package that is written to a file is signed there, and in a folder only once.
func TestFilesAreSigned(t *testing.T) {
	y, key := newYard(t), newKey(t)
	for _, name := range []string{filepath.Join(t.TempDir(), "shop.tar"), filepath.Join(t.TempDir(), "shop")} {
		w, err := CreateLayout(name)
		if err != nil {
			t.Fatal(err)
		}
		defer w.Discard()
		m := y.build(t, w, shop)
		signWith(t, key, w, shop, m.Descriptor.Digest, true)
		if _, reads := w.(Source); reads {
			signWith(t, key, w, shop, m.Descriptor.Digest, false)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		l, err := OpenLayout(name)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		signedBy(t, l, "shop", m.Descriptor.Digest, key)
	}
}
