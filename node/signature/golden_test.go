package signature

import (
	"bytes"
	"context"
	"crypto"
	"os"
	"path/filepath"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// testdata holds what cosign 2.6.5 made: a pair of keys (the password is "pw"), and a
// signature by them.
var golden = Subject{"shop", "sha256:34d9943d0845b9dbe97e409a116289c05ea9196fa384188dcd3ed699ed277313"}

func testdata(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestCosignsSignatureIsTaken(t *testing.T) {
	public, err := ParsePublic(testdata(t, "cosign.pub"))
	if err != nil {
		t.Fatal(err)
	}
	found, err := Read(t.Context(), testdata(t, "manifest.json"), func(context.Context, ocispec.Descriptor, int64) ([]byte, error) {
		return testdata(t, "payload.json"), nil
	})
	if err != nil || len(found) != 1 {
		t.Fatalf("%d signatures: %v", len(found), err)
	}
	if err := Check(found, golden, []crypto.PublicKey{public}); err != nil {
		t.Error(err)
	}
	if err := Check(found, Subject{"other", golden.Digest}, []crypto.PublicKey{public}); err == nil {
		t.Error("it passes for another repository")
	}
}

func TestCosignsKeySigns(t *testing.T) {
	key, err := ParsePrivate(testdata(t, "cosign.key"), []byte("pw"))
	if err != nil {
		t.Fatal(err)
	}
	public, err := EncodePublic(key.Public())
	if err != nil || !bytes.Equal(public, testdata(t, "cosign.pub")) {
		t.Errorf("%v: the public key is not as cosign writes it: %s", err, public)
	}
	b := blobs{}
	if err := Check(read(t, b, signAs(t, b, key, api, nil)), api, publics(key)); err != nil {
		t.Error(err)
	}
}
