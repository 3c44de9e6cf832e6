package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
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
	if all, err := b.List(); err != nil || len(all) != 1 || all[0].Digest != digest || all[0].Size != size {
		t.Errorf("list %v: %v", all, err)
	}
	if err := b.Check(digest); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(b.Path(digest), bytes.ToUpper([]byte(text)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.Check(digest); !errors.Is(err, ErrCorrupt) || !errors.Is(err, ErrDigest) {
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
	if _, err := b.Create(t.Context(), digestOf("x"), -2); !errors.Is(err, ErrInvalid) {
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

// write writes a whole file.
func write(t *testing.T, b *Blobs, text string, size int64) string {
	t.Helper()
	w, err := b.Create(t.Context(), digestOf(text), size)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := io.WriteString(w, text[w.Offset():]); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	return digestOf(text)
}

func partials(t *testing.T, dir string) []os.DirEntry {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "blobs", "partial"))
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// Two people who upload the same file at once both succeed, and neither waits
// for the other.
func TestBlobsTwoWriters(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir).Blobs()
	text := strings.Repeat("hansa ", 1000)
	slow, err := b.Create(t.Context(), digestOf(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(slow, text[:10]); err != nil {
		t.Fatal(err)
	}
	broken, err := b.Create(t.Context(), digestOf(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	if broken.Offset() != 0 {
		t.Errorf("it resumes what another one writes, at %d", broken.Offset())
	}
	if err := broken.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, b, text, SizeUnknown)
	if !b.Has(digestOf(text)) {
		t.Error("the quicker writer's file is not shown")
	}
	if err := slow.Restart(); err != nil || slow.Offset() != 0 {
		t.Errorf("at %d: %v", slow.Offset(), err)
	}
	if _, err := io.WriteString(slow, text); err != nil {
		t.Fatal(err)
	}
	if err := slow.Commit(); err != nil {
		t.Error(err)
	}
	if err := b.Check(digestOf(text)); err != nil {
		t.Error(err)
	}
	if left := partials(t, dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// What rots on the disk is not read as if it were sound: it is dropped, so that
// it is fetched anew.
func TestBlobsRot(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	text := strings.Repeat("hansa ", 1000)
	digest := write(t, s.Blobs(), text, int64(len(text)))
	path, err := s.Blobs().Verified(digest)
	if err != nil || path != s.Blobs().Path(digest) {
		t.Fatalf("%s: %v", path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)
	if err := os.WriteFile(path, []byte(strings.Replace(text, "h", "H", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, info.ModTime(), info.ModTime()); err != nil { // a disk tells nobody
		t.Fatal(err)
	}
	b := open(t, dir).Blobs()
	if _, _, err := b.Open(digest); !errors.Is(err, ErrCorrupt) {
		t.Errorf("open: %v", err)
	}
	if _, err := b.Verified(digest); !errors.Is(err, ErrNotFound) || b.Has(digest) {
		t.Errorf("the rotten file stays: %v", err)
	}
	write(t, b, text, int64(len(text)))
	if _, err := b.Verified(digest); err != nil {
		t.Error(err)
	}
}

// What a crash leaves unfinished is resumed for a day, and then dropped.
func TestBlobsPrune(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for _, text := range []string{"abandoned", "resumed", "resumed"} { // the third is another writer's
		w, err := s.Blobs().Create(t.Context(), digestOf(text), 100)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(partials(t, dir)); n != 3 {
		t.Fatalf("%d unfinished files", n)
	}
	old := time.Now().Add(-2 * partialAge)
	if err := os.Chtimes(s.Blobs().partial(digestOf("abandoned")), old, old); err != nil {
		t.Fatal(err)
	}
	if err := s.Blobs().prune(false); err != nil || len(partials(t, dir)) != 3 {
		t.Errorf("files that are being written were dropped: %v", err)
	}
	closeStore(t, s)
	w, err := open(t, dir).Blobs().Create(t.Context(), digestOf("resumed"), 100)
	if err != nil || w.Offset() != int64(len("resumed")) {
		t.Fatalf("resumed at %d: %v", w.Offset(), err)
	}
	defer w.Close()
	if left := partials(t, dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}
