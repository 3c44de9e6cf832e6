package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

func timePasses(d time.Duration) { <-time.After(d) } // in a synctest bubble

func digestOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256:" + hex.EncodeToString(sum[:])
}

func TestBlobs(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	b := s.Blobs()
	text := strings.Repeat("hansa ", 1000)
	digest := digestOf(text)
	w, err := b.Create(t.Context(), digest, int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(t.Context(), digest, 3); !errors.Is(err, ErrBusy) {
		t.Errorf("two writers: %v", err)
	}
	if _, err := io.WriteString(w, text[:700]); err != nil {
		t.Fatal(err)
	}
	if b.Has(digest) {
		t.Error("an unfinished file is shown")
	}
	if err := w.Close(); err != nil { // broken off
		t.Fatal(err)
	}
	closeStore(t, s)

	b = open(t, dir).Blobs()
	if w, err = b.Create(t.Context(), digest, int64(len(text))); err != nil {
		t.Fatal(err)
	}
	if w.Offset() != 700 {
		t.Errorf("resumed at %d", w.Offset())
	}
	if _, err := io.WriteString(w, text[700:]); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "too much"); !errors.Is(err, ErrInvalid) {
		t.Errorf("beyond the size: %v", err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	file, size, err := b.Open(digest)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	got, err := io.ReadAll(file)
	if err != nil || string(got) != text || size != int64(len(text)) {
		t.Errorf("%d bytes of %d: %v", len(got), size, err)
	}
	if all, err := b.List(); err != nil || len(all) != 1 || all[0] != digest {
		t.Errorf("list %v: %v", all, err)
	}
	if err := b.Verify(digest); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(b.Path(digest), bytes.ToUpper([]byte(text)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Verify(digest); !errors.Is(err, ErrCorrupt) || !errors.Is(err, ErrDigest) {
		t.Errorf("changed bytes: %v", err)
	}
	if err := errors.Join(b.Delete(digest), b.Delete(digest)); err != nil {
		t.Error(err)
	}
	if _, err := b.Size(digest); !errors.Is(err, ErrNotFound) {
		t.Errorf("after delete: %v", err)
	}
}

func TestBlobsRefuse(t *testing.T) {
	b := open(t, t.TempDir()).Blobs()
	for _, digest := range []string{"", "sha256:", "sha256:../../etc/passwd", strings.ToUpper(digestOf("x")), "sha512:" + digestOf("x")[7:], digestOf("x") + "/"} {
		if _, err := b.Create(t.Context(), digest, 1); !errors.Is(err, ErrInvalid) {
			t.Errorf("create %q: %v", digest, err)
		}
		if b.Path(digest) != "" || b.Has(digest) {
			t.Errorf("%q has a path", digest)
		}
		if err := b.Delete(digest); !errors.Is(err, ErrInvalid) {
			t.Errorf("delete %q: %v", digest, err)
		}
	}
	if _, err := b.Create(t.Context(), digestOf("x"), -1); !errors.Is(err, ErrInvalid) {
		t.Errorf("a negative size: %v", err)
	}
	w, err := b.Create(t.Context(), digestOf("x"), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("too short: %v", err)
	}
	if w, err = b.Create(t.Context(), digestOf("x"), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "y"); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); !errors.Is(err, ErrDigest) {
		t.Errorf("other bytes: %v", err)
	}
	if w, err = b.Create(t.Context(), digestOf("x"), 1); err != nil || w.Offset() != 0 {
		t.Fatalf("the wrong bytes were kept: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}
