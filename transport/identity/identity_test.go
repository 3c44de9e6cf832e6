package identity

import (
	"bytes"
	"crypto/x509"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestSaveAndLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "identity")
	if _, err := Load(dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("%v; want that there is none", err)
	}
	a, err := LoadOrNew(dir)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(dir, KeyFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v; want a file that only its owner reads", info, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Fatalf("%v, %v; want the key alone", entries, err)
	}
	b, err := LoadOrNew(dir)
	if err != nil || a.ID() != b.ID() || !a.Public().Equal(b.Public()) || a.ResetKey() != b.ResetKey() {
		t.Fatalf("%v; want the same identity after a restart", err)
	}
	other, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if other.ResetKey() == a.ResetKey() || other.ID() == a.ID() {
		t.Fatal("two identities share what is their own")
	}
	for name, content := range map[string]string{"empty": "", "cut": "-----BEGIN PRIVATE KEY-----\nMC4C", "no key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"} {
		if err := os.WriteFile(filepath.Join(dir, KeyFile), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadOrNew(dir); err == nil {
			t.Errorf("%s: a damaged key was replaced by another", name)
		}
	}
}

func TestIDs(t *testing.T) {
	a, err := New()
	if err != nil {
		t.Fatal(err)
	}
	if !ValidID(a.ID()) || a.ID() != IDOf(a.Public()) {
		t.Fatalf("id %q", a.ID())
	}
	for _, bad := range []string{"", a.ID()[1:], a.ID() + "a", "A" + a.ID()[1:], "/" + a.ID()[1:], "1" + a.ID()[1:]} {
		if ValidID(bad) {
			t.Errorf("%q is taken for an id", bad)
		}
	}
}

func TestSignaturesAreForOnePurpose(t *testing.T) {
	a, err := New()
	if err != nil {
		t.Fatal(err)
	}
	sig := a.SignFor("one", []byte("text"))
	if !VerifyFor(a.Public(), "one", []byte("text"), sig) {
		t.Fatal("a good signature is refused")
	}
	for name, wrong := range map[string]bool{
		"another purpose":      VerifyFor(a.Public(), "two", []byte("text"), sig),
		"another text":         VerifyFor(a.Public(), "one", []byte("texts"), sig),
		"a moved border":       VerifyFor(a.Public(), "onet", []byte("ext"), sig),
		"a key that is no key": VerifyFor(a.Public()[:5], "one", []byte("text"), sig),
		"no signature":         VerifyFor(a.Public(), "one", []byte("text"), nil),
	} {
		if wrong {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestCertificateOutlivesClocks(t *testing.T) {
	a, err := New()
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(a.Certificate().Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if cert.NotBefore.After(time.Unix(0, 0)) || cert.NotAfter.Year() < 9000 {
		t.Fatalf("good from %v to %v", cert.NotBefore, cert.NotAfter)
	}
	if key, err := x509.MarshalPKIXPublicKey(a.Public()); err != nil || !bytes.Equal(key, cert.RawSubjectPublicKeyInfo) {
		t.Fatal("it does not carry the peer's key")
	}
}
