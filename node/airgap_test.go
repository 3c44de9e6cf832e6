package node

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/pack"
	"github.com/hansa-mesh/hansa/placement"
)

var shopName = pack.Ref{Repository: "shop", Tag: "1"}

// packProgram packs an app of one program at a peer, signed by a key if there is one.
func (s *testSite) packProgram(t *testing.T, program []byte, key crypto.Signer) pack.Manifest {
	t.Helper()
	dir, at := t.TempDir(), s.packages(t)
	if err := os.WriteFile(filepath.Join(dir, "run"), program, 0o600); err != nil {
		t.Fatal(err)
	}
	app := fileApp("prod", "shop", "./run")
	m, err := pack.Build(t.Context(), []placement.App{app}, at, pack.Options{Dir: dir, Name: shopName})
	if err == nil && key != nil {
		_, err = pack.Sign(t.Context(), key, at, shopName, m.Descriptor.Digest)
	}
	if err == nil {
		err = at.Tag(t.Context(), m.Descriptor, m.Data, shopName)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// pull writes a package to a tar file, with its signatures or without.
func pull(from pack.Remote, m pack.Manifest, file string, signed bool, t *testing.T) {
	t.Helper()
	w, err := pack.CreateLayout(file)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Discard()
	if _, err = pack.Copy(t.Context(), from, m.Descriptor, w); err == nil && signed {
		_, err = pack.Carry(t.Context(), from, m.Descriptor, w, shopName)
	}
	if err == nil {
		err = w.Tag(t.Context(), m.Descriptor, m.Data, shopName)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// pushAndDeploy brings a package from a tar file into a mesh, and deploys it there.
func (s *testSite) pushAndDeploy(t *testing.T, file string) error {
	t.Helper()
	l, err := pack.OpenLayout(file)
	if err != nil {
		return err
	}
	defer l.Close()
	root, _, err := l.Root("")
	if err != nil {
		return err
	}
	at := s.packages(t)
	m, err := pack.Copy(t.Context(), l, root, at)
	if err == nil {
		_, err = pack.Carry(t.Context(), l, root, at, shopName)
	}
	if err == nil {
		err = at.Tag(t.Context(), m.Descriptor, m.Data, shopName)
	}
	if err != nil {
		return fmt.Errorf("push: %w", err)
	}
	p, err := pack.Read(t.Context(), at, m)
	if err != nil {
		return err
	}
	_, err = backend{s.node}.PutApp(t.Context(), api.PutRequest{App: p.Deploy(shopName)[0]})
	return err
}

// What was signed at one mesh and carried to another one as a tar file runs in a
// namespace there that demands the key; without its signature, or with one byte
// changed, it does not.
func TestSignedPackageOverAnAirGap(t *testing.T) {
	here, there := wallMesh(t, 1), wallMesh(t, 2)
	key, public := signingKey(t)
	there.demand(there.sites[0], "prod", "", public)
	dir, a, b := t.TempDir(), here.sites[0], there.sites[1]
	tar := func(name string) string { return filepath.Join(dir, name+".tar") }

	first := a.packProgram(t, []byte("the first program"), key)
	pull(a.packages(t), first, tar("bare"), false, t)
	pull(a.packages(t), first, tar("signed"), true, t)
	if err := refuses(b.pushAndDeploy(t, tar("bare")), "not signed by a key that namespace prod demands", "hansa pack --sign"); err != nil {
		t.Errorf("without its signature: %v", err)
	}
	data, err := os.ReadFile(tar("signed"))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"the first program", "cosign container image signature", `"dev.cosignproject.cosign/signature":"ME`} {
		at := bytes.Index(data, []byte(text))
		if at < 0 {
			t.Fatalf("no %q in the file", text)
		}
		changed := bytes.Clone(data)
		changed[at+len(text)-1] ^= 1
		if err := os.WriteFile(tar("changed"), changed, 0o600); err != nil {
			t.Fatal(err)
		}
		// What is in the mesh already is not sent again, and so is not read.
		if err := wallMesh(t, 1).sites[0].pushAndDeploy(t, tar("changed")); !errors.Is(err, pack.ErrDigest) {
			t.Errorf("with a byte of %q changed: %v", text, err)
		}
	}
	if err := b.pushAndDeploy(t, tar("signed")); err != nil {
		t.Errorf("signed: %v", err)
	}
	there.until("it runs", time.Minute, func() error { return there.runOnce(b, "shop", 1, "s1", "s2") })

	// Another signature of the same form, by a key that nobody demands.
	wrong, _ := signingKey(t)
	second := a.packProgram(t, []byte("the second program"), wrong)
	pull(a.packages(t), second, tar("wrong"), true, t)
	if err := refuses(b.pushAndDeploy(t, tar("wrong")), "not signed by a key"); err != nil {
		t.Errorf("signed by another key: %v", err)
	}
}
