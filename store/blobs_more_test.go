package store

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/hansa-mesh/hansa/store/chain"
)

func sha512Of(text string) string {
	sum := sha512.Sum512([]byte(text))
	return "sha512:" + hex.EncodeToString(sum[:])
}

// An upload goes on where it ended, over a restart too, and only its end says
// what it is.
func TestUploads(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	text := strings.Repeat("hansa ", 500_000)
	u, err := s.Blobs().BeginUpload()
	if err != nil || u.Size != 0 {
		t.Fatalf("%+v: %v", u, err)
	}
	torn := io.MultiReader(strings.NewReader(text[:1000]), iotest.ErrReader(io.ErrUnexpectedEOF))
	if got, err := s.Blobs().AppendUpload(t.Context(), u.ID, 0, torn); got.Size != 1000 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("broken off: %+v: %v", got, err)
	}
	closeStore(t, s)

	b := open(t, dir).Blobs()
	if got, err := b.Upload(u.ID); err != nil || got.Size != 1000 {
		t.Errorf("after a restart: %+v: %v", got, err)
	}
	for _, offset := range []int64{0, 999, 1001, -2} {
		if got, err := b.AppendUpload(t.Context(), u.ID, offset, strings.NewReader("x")); !errors.Is(err, ErrOffset) || got.Size != 1000 {
			t.Errorf("at %d: %+v: %v", offset, got, err)
		}
	}
	if _, err := b.AppendUpload(t.Context(), u.ID, 1000, strings.NewReader(text[1000:2000])); err != nil {
		t.Error(err)
	}
	if got, err := b.AppendUpload(t.Context(), u.ID, OffsetEnd, strings.NewReader(text[2000:])); err != nil || got.Size != int64(len(text)) {
		t.Errorf("%+v: %v", got, err)
	}
	if all, err := b.Uploads(); err != nil || len(all) != 1 || all[0].ID != u.ID {
		t.Errorf("%+v: %v", all, err)
	}
	if b.Has(digestOf(text)) {
		t.Error("an upload under way is shown")
	}
	digest := sha512Of(text)
	if size, err := b.CommitUpload(u.ID, digest); err != nil || size != int64(len(text)) {
		t.Fatalf("%d: %v", size, err)
	}
	if _, err := b.Upload(u.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("after the commit: %v", err)
	}
	file, c, err := b.OpenChain(digest)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	got, err := io.ReadAll(file)
	if err != nil || string(got) != text {
		t.Errorf("%d bytes: %v", len(got), err)
	}
	for i := range c.Chunks() {
		offset, length := c.Span(i)
		if err := c.Check(i, got[offset:][:length]); err != nil {
			t.Error(err)
		}
	}
}

func TestUploadsRefuse(t *testing.T) {
	b := open(t, t.TempDir()).Blobs()
	for _, id := range []string{"", "..", "../lock", strings.Repeat("a", 31), strings.Repeat("A", 32), strings.Repeat("a", 32)} {
		_, err := b.AppendUpload(t.Context(), id, 0, strings.NewReader("x"))
		_, commitErr := b.CommitUpload(id, digestOf("x"))
		_, getErr := b.Upload(id)
		for _, err := range []error{err, commitErr, getErr, b.CancelUpload(id)} {
			if !errors.Is(err, ErrNotFound) {
				t.Errorf("%q: %v", id, err)
			}
		}
	}
	u, err := b.BeginUpload()
	if err != nil {
		t.Fatal(err)
	}
	for _, digest := range []string{"", "sha256:../../x", strings.ToUpper(digestOf("x"))} {
		if _, err := b.CommitUpload(u.ID, digest); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", digest, err)
		}
	}
	inside, outside := io.Pipe()
	begun, ended := make(chan bool), make(chan error)
	go func() {
		_, err := b.AppendUpload(t.Context(), u.ID, 0, io.MultiReader(readerFunc(func([]byte) (int, error) { close(begun); return 0, io.EOF }), inside))
		ended <- err
	}()
	<-begun
	_, appendErr := b.AppendUpload(t.Context(), u.ID, 0, strings.NewReader("x"))
	_, commitErr := b.CommitUpload(u.ID, digestOf("x"))
	for _, err := range []error{appendErr, commitErr, b.CancelUpload(u.ID)} {
		if !errors.Is(err, ErrBusy) {
			t.Errorf("while another request is at it: %v", err)
		}
	}
	if err := outside.Close(); err != nil || <-ended != nil {
		t.Fatal(err)
	}
	if _, err := b.CommitUpload(u.ID, digestOf("x")); !errors.Is(err, ErrDigest) {
		t.Errorf("other bytes: %v", err)
	}
	if _, err := b.Upload(u.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("wrong bytes are kept: %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// Uploads are bounded: by their number, of which an idle one makes room, and by
// their age.
func TestUploadsAreBounded(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir).Blobs()
	var first Upload
	for range uploadsMax {
		u, err := b.BeginUpload()
		if err != nil {
			t.Fatal(err)
		}
		if first.ID == "" {
			first = u
		}
	}
	if _, err := b.BeginUpload(); !errors.Is(err, ErrBusy) {
		t.Errorf("one too many: %v", err)
	}
	idle := time.Now().Add(-2 * uploadIdle)
	if err := os.Chtimes(b.uploadPath(first.ID), idle, idle); err != nil {
		t.Fatal(err)
	}
	u, err := b.BeginUpload()
	if err != nil {
		t.Errorf("an idle one makes no room: %v", err)
	}
	if _, err := b.Upload(first.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("the idle one: %v", err)
	}
	old := time.Now().Add(-2 * uploadAge)
	if err := os.Chtimes(b.uploadPath(u.ID), old, old); err != nil {
		t.Fatal(err)
	}
	if err := b.prune(false); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Upload(u.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("an old one stays: %v", err)
	}
	if all, err := b.Uploads(); err != nil || len(all) != uploadsMax-1 {
		t.Errorf("%d are left: %v", len(all), err)
	}
	// What they have together is bounded too: holes count as what they stand for.
	if err := os.Truncate(b.uploadPath(first.ID), 0); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	all, err := b.Uploads()
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range all[1:4] {
		if err := os.Truncate(b.uploadPath(other.ID), BlobMax-1); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.AppendUpload(t.Context(), all[0].ID, 0, strings.NewReader("x")); !errors.Is(err, ErrFull) {
		t.Errorf("beyond all bytes: %v", err)
	}
	if err := errors.Join(b.CancelUpload(all[2].ID), b.CancelUpload(all[3].ID)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.AppendUpload(t.Context(), all[1].ID, OffsetEnd, strings.NewReader("xx")); !errors.Is(err, ErrInvalid) {
		t.Errorf("beyond one's bytes: %v", err)
	}
}

// A file that comes in parts, in any order, is resumed by the next daemon.
func TestAssembly(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	text := strings.Repeat("hansa ", 500_000)
	digest, size := digestOf(text), int64(len(text))
	a, err := s.Blobs().Assemble(digest, size)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Blobs().Assemble(digest, size); !errors.Is(err, ErrBusy) {
		t.Errorf("two at once: %v", err)
	}
	half := size / 2
	if _, err := a.WriteAt([]byte(text[half:]), half); err != nil {
		t.Fatal(err)
	}
	if _, err := a.WriteAt([]byte("xx"), size-1); !errors.Is(err, ErrInvalid) {
		t.Errorf("beyond the end: %v", err)
	}
	if err := a.Commit(); !errors.Is(err, ErrDigest) || s.Blobs().Has(digest) {
		t.Errorf("half a file: %v", err)
	}
	if err := s.Blobs().prune(false); err != nil {
		t.Fatal(err)
	}
	write(t, s.Blobs(), "another", 7) // both ways beside each other
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	closeStore(t, s)

	b := open(t, dir).Blobs()
	if a, err = b.Assemble(digest, size); err != nil {
		t.Fatal(err)
	}
	if a.Written(0, 4096) || !a.Written(half, 4096) {
		t.Error("it does not know what was written")
	}
	got := make([]byte, size-half)
	if _, err := a.ReadAt(got, half); err != nil || string(got) != text[half:] {
		t.Errorf("what was written is gone: %v", err)
	}
	if _, err := a.WriteAt([]byte(text[:half]), 0); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.Commit(), a.Commit(), a.Close(), a.Drop()); err != nil {
		t.Fatal(err)
	}
	if path, err := b.Verified(digest); err != nil || path == "" {
		t.Error(err)
	}
	if left := partials(t, dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if a, err = b.Assemble(digestOf("x"), 1); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.Drop(), a.Close()); err != nil || len(partials(t, dir)) != 0 {
		t.Errorf("after dropping it: %v", err)
	}
	for _, size := range []int64{-1, BlobMax + 1} {
		if _, err := b.Assemble(digest, size); !errors.Is(err, ErrInvalid) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

// Rotten files are put aside, told of and counted; only the latest are kept.
func TestRottenFilesArePutAside(t *testing.T) {
	told := map[string]error{}
	dir := t.TempDir()
	s := open(t, dir, func(c *Config) { c.Rotten = func(digest string, err error) { told[digest] = err } })
	b := s.Blobs()
	const n = quarantinedMax + 2
	for i := range n {
		digest := write(t, b, fmt.Sprint("text ", i), SizeUnknown)
		if err := os.WriteFile(b.Path(digest), []byte("rotten"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := b.Check(digest); !errors.Is(err, ErrCorrupt) || !errors.Is(told[digest], ErrCorrupt) || b.Has(digest) {
			t.Errorf("%v; told %v", err, told[digest])
		}
		if err := b.Check(digest); !errors.Is(err, ErrNotFound) {
			t.Errorf("once it is gone: %v", err)
		}
	}
	u, err := b.Usage()
	if err != nil || u.Rotten != n || u.Quarantined != quarantinedMax || u.Blobs != 0 {
		t.Errorf("%+v: %v", u, err)
	}
	kept, err := filepath.Glob(filepath.Join(dir, "blobs", quarantineDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	if first := strings.ReplaceAll(digestOf("text 0"), ":", "-"); len(kept) != quarantinedMax || strings.Contains(strings.Join(kept, " "), first) {
		t.Errorf("kept: %v", kept)
	}
}

func TestListAndUsage(t *testing.T) {
	b := open(t, t.TempDir()).Blobs()
	small, large := write(t, b, "small", 5), write(t, b, strings.Repeat("large ", 1000), 6000)
	past := time.Now().Add(-time.Hour)
	for _, digest := range []string{small, large} {
		if err := os.Chtimes(b.Path(digest), past, past); err != nil {
			t.Fatal(err)
		}
	}
	file, _, err := b.Open(small)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if file, _, err = b.Open(small); err != nil { // known now: only its use is noted
		t.Fatal(err)
	}
	defer file.Close()
	all, err := b.List()
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v: %v", all, err)
	}
	for _, blob := range all {
		used := time.Since(blob.Used) < time.Hour/2
		if used != (blob.Digest == small) || time.Since(blob.Stored) < time.Hour/2 {
			t.Errorf("%+v", blob)
		}
	}
	u, err := b.BeginUpload()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.AppendUpload(t.Context(), u.ID, 0, bytes.NewReader(make([]byte, 10))); err != nil {
		t.Fatal(err)
	}
	use, err := b.Usage()
	want := BlobUsage{Blobs: 2, BlobBytes: 6005, Unfinished: 1, UnfinishedBytes: 10}
	if err != nil || use != want {
		t.Errorf("%+v, want %+v: %v", use, want, err)
	}
}

// Both algorithms lie beside each other; one file may be there under both.
func TestBothAlgorithms(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir).Blobs()
	text := strings.Repeat("hansa ", 1000)
	write(t, b, text, SizeUnknown)
	w, err := b.Create(t.Context(), sha512Of(text), int64(len(text)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
	for _, digest := range []string{digestOf(text), sha512Of(text)} {
		if err := b.Check(digest); err != nil {
			t.Error(err)
		}
	}
	if all, err := b.List(); err != nil || len(all) != 2 {
		t.Errorf("%+v: %v", all, err)
	}
	if w, err = b.Create(t.Context(), sha512Of("x"), 1); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "y"); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); !errors.Is(err, ErrDigest) {
		t.Errorf("other bytes: %v", err)
	}
	if chain.ValidDigest("sha512:" + digestOf("x")[7:]) {
		t.Error("a short sha512 passes")
	}
}

// Who asks for a file while it is being read through waits for that reading.
func TestOneReadingForAll(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	digest := write(t, s.Blobs(), strings.Repeat("hansa ", 100_000), SizeUnknown)
	closeStore(t, s)
	b := open(t, dir).Blobs()
	if b.Known(digest) {
		t.Error("it is known before it was read")
	}
	errs := make(chan error)
	for range 8 {
		go func() {
			_, err := b.Verified(digest)
			errs <- err
		}()
	}
	for range 8 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if !b.Known(digest) {
		t.Error("it is not known after it was read")
	}
}
