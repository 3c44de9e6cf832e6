package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
)

// ErrNotFound says that there is no such file.
var ErrNotFound = errors.New("not found")

// ErrDigest says that a file is not what its digest says.
var ErrDigest = errors.New("the bytes are not those of the digest")

// Limits of files by digest.
const (
	BlobMax     = 64 << 30
	partialsMax = 256 // unfinished files kept
)

var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// Blobs are files by digest, "sha256:" and 64 hexadecimal digits. A file is
// visible once it is whole, verified and durable.
type Blobs struct {
	dir   string
	space *space

	mu   sync.Mutex // guards what follows
	busy map[string]bool
}

func openBlobs(dir string, space *space) (*Blobs, error) {
	for _, d := range []string{"sha256", "partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("blobs: %w", err)
		}
	}
	b := &Blobs{dir: dir, space: space, busy: map[string]bool{}}
	return b, b.prune()
}

// prune drops the oldest unfinished files above the limit.
func (b *Blobs) prune() error {
	entries, err := os.ReadDir(filepath.Join(b.dir, "partial"))
	if err != nil {
		return fmt.Errorf("blobs: %w", err)
	}
	type partial struct {
		name string
		at   int64
	}
	var all []partial
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			all = append(all, partial{e.Name(), info.ModTime().UnixNano()})
		}
	}
	slices.SortFunc(all, func(x, y partial) int { return int(min(1, max(-1, y.at-x.at))) })
	for _, p := range all[min(len(all), partialsMax):] {
		if err := os.Remove(filepath.Join(b.dir, "partial", p.name)); err != nil {
			return fmt.Errorf("blobs: %w", err)
		}
	}
	return nil
}

// ValidDigest says whether a digest is of the one form that is understood.
func ValidDigest(digest string) bool { return digestForm.MatchString(digest) }

func checkDigest(digest string) error {
	if !ValidDigest(digest) {
		return fmt.Errorf("blob %.80q: %w: a digest is sha256: and 64 hexadecimal digits", digest, ErrInvalid)
	}
	return nil
}

// Path is where the file of a digest lies, or will; "" for what is no digest.
func (b *Blobs) Path(digest string) string {
	if !ValidDigest(digest) {
		return ""
	}
	hexed := digest[len("sha256:"):]
	return filepath.Join(b.dir, "sha256", hexed[:2], hexed)
}

func (b *Blobs) partial(digest string) string {
	return filepath.Join(b.dir, "partial", digest[len("sha256:"):])
}

// Has says whether the file is here.
func (b *Blobs) Has(digest string) bool {
	_, err := b.Size(digest)
	return err == nil
}

// Size is the length of the file in bytes, or ErrNotFound.
func (b *Blobs) Size(digest string) (int64, error) {
	if err := checkDigest(digest); err != nil {
		return 0, err
	}
	info, err := os.Stat(b.Path(digest))
	if errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("blob %s: %w", digest, ErrNotFound)
	}
	if err != nil {
		return 0, fmt.Errorf("blob %s: %w", digest, err)
	}
	return info.Size(), nil
}

// Open opens the file to read.
func (b *Blobs) Open(digest string) (io.ReadSeekCloser, int64, error) {
	size, err := b.Size(digest)
	if err != nil {
		return nil, 0, err
	}
	file, err := os.Open(b.Path(digest))
	if err != nil {
		return nil, 0, fmt.Errorf("blob %s: %w", digest, err)
	}
	return file, size, nil
}

// Delete removes the file; nil when it was not there.
func (b *Blobs) Delete(digest string) error {
	if err := checkDigest(digest); err != nil {
		return err
	}
	if err := os.Remove(b.Path(digest)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("blob %s: %w", digest, err)
	}
	return nil
}

// List are the digests of all files, sorted.
func (b *Blobs) List() ([]string, error) {
	paths, err := filepath.Glob(filepath.Join(b.dir, "sha256", "??", "*"))
	if err != nil {
		return nil, err
	}
	var digests []string
	for _, p := range paths {
		if d := "sha256:" + filepath.Base(p); ValidDigest(d) {
			digests = append(digests, d)
		}
	}
	slices.Sort(digests)
	return digests, nil
}

// Verify reads the whole file and says whether it is what its digest says.
func (b *Blobs) Verify(digest string) error {
	file, _, err := b.Open(digest)
	if err != nil {
		return err
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return fmt.Errorf("blob %s: %w", digest, err)
	}
	if "sha256:"+hex.EncodeToString(h.Sum(nil)) != digest {
		return fmt.Errorf("blob %s: %w: %w", digest, ErrCorrupt, ErrDigest)
	}
	return nil
}

// BlobWriter writes one file. Close keeps what was written, so that the next
// Create resumes; Commit ends it.
type BlobWriter struct {
	blobs  *Blobs
	digest string
	size   int64
	offset int64
	file   *os.File
	done   bool
}

// Create begins a file of a known size, or resumes one. Only one writer writes
// a digest at a time: another one gets ErrBusy.
func (b *Blobs) Create(_ context.Context, digest string, size int64) (*BlobWriter, error) {
	if err := checkDigest(digest); err != nil {
		return nil, err
	}
	if size < 0 || size > BlobMax {
		return nil, fmt.Errorf("blob %s: %w: %d bytes, at most %d", digest, ErrInvalid, size, int64(BlobMax))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy[digest] {
		return nil, fmt.Errorf("blob %s: %w: it is being written", digest, ErrBusy)
	}
	file, err := os.OpenFile(b.partial(digest), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", digest, err)
	}
	offset, err := file.Seek(0, io.SeekEnd)
	if err == nil && offset > size { // of another size than was said before
		offset = 0
		err = file.Truncate(0)
	}
	if err == nil {
		_, err = file.Seek(offset, io.SeekStart)
	}
	if err == nil {
		err = b.space.checkFile(size - offset)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("blob %s: %w", digest, err), file.Close())
	}
	b.busy[digest] = true
	return &BlobWriter{blobs: b, digest: digest, size: size, offset: offset, file: file}, nil
}

// Offset is how many bytes are there already.
func (w *BlobWriter) Offset() int64 { return w.offset }

// Write appends bytes.
func (w *BlobWriter) Write(p []byte) (int, error) {
	if w.offset+int64(len(p)) > w.size {
		return 0, fmt.Errorf("blob %s: %w: more than %d bytes", w.digest, ErrInvalid, w.size)
	}
	if err := w.blobs.space.checkFile(int64(len(p))); err != nil {
		return 0, fmt.Errorf("blob %s: %w", w.digest, err)
	}
	n, err := w.file.Write(p)
	w.offset += int64(n)
	return n, err
}

// Commit verifies the file, makes it durable and shows it under its digest. A
// file with wrong bytes is dropped.
func (w *BlobWriter) Commit() error {
	if w.done {
		return nil
	}
	fail := func(err error, drop bool) error {
		if drop {
			err = errors.Join(err, os.Remove(w.file.Name()))
		}
		return errors.Join(fmt.Errorf("blob %s: %w", w.digest, err), w.Close())
	}
	if w.offset != w.size {
		return fail(fmt.Errorf("%w: %d of %d bytes", io.ErrUnexpectedEOF, w.offset, w.size), false)
	}
	if _, err := w.file.Seek(0, io.SeekStart); err != nil {
		return fail(err, false)
	}
	h := sha256.New()
	if _, err := io.Copy(h, w.file); err != nil {
		return fail(err, false)
	}
	if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); got != w.digest {
		return fail(fmt.Errorf("%w: they are %s", ErrDigest, got), true)
	}
	if err := w.file.Sync(); err != nil {
		return fail(err, false)
	}
	path := w.blobs.Path(w.digest)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fail(err, false)
	}
	if err := os.Rename(w.file.Name(), path); err != nil {
		return fail(err, false)
	}
	if err := errors.Join(syncDir(filepath.Dir(path)), syncDir(filepath.Dir(filepath.Dir(path)))); err != nil {
		return fail(err, false)
	}
	return w.Close()
}

// Close ends the writing; after Commit it does nothing.
func (w *BlobWriter) Close() error {
	if w.done {
		return nil
	}
	w.done = true
	w.blobs.mu.Lock()
	delete(w.blobs.busy, w.digest)
	w.blobs.mu.Unlock()
	return w.file.Close()
}
