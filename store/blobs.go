package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"time"
)

// ErrNotFound says that there is no such file.
var ErrNotFound = errors.New("not found")

// ErrDigest says that a file is not what its digest says.
var ErrDigest = errors.New("the bytes are not those of the digest")

// Limits of files by digest, and of unfinished ones, which are kept so that
// they can be resumed.
const (
	BlobMax     = 64 << 30
	partialsMax = 256
	partialAge  = 24 * time.Hour // since the last byte came
	pruneEvery  = time.Hour
)

// SizeUnknown is the size of a file of which only the end will tell.
const SizeUnknown = -1

const digestPrefix = "sha256:"

var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// Blobs are files by digest, "sha256:" and 64 hexadecimal digits. A file is
// visible once it is whole, verified and durable. It is verified again when it
// is read first after the store was opened, or was touched: what has rotted on
// the disk is dropped, so that it is fetched anew.
type Blobs struct {
	dir   string
	space *space

	mu    sync.Mutex // guards what follows
	busy  map[string]bool
	whole map[string]stamp // what was verified, by digest
}

// stamp is how a file looked when it was verified.
type stamp struct {
	size int64
	at   time.Time
}

func stampOf(info fs.FileInfo) stamp { return stamp{info.Size(), info.ModTime()} }

func openBlobs(dir string, space *space) (*Blobs, error) {
	for _, d := range []string{"sha256", "partial"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("blobs: %w", err)
		}
	}
	if err := errors.Join(syncDir(dir), syncDir(filepath.Dir(dir))); err != nil {
		return nil, err
	}
	b := &Blobs{dir: dir, space: space, busy: map[string]bool{}, whole: map[string]stamp{}}
	return b, b.prune(true)
}

// prune drops unfinished files that nobody resumes: those that are too old,
// and the oldest above the limit. When the store is opened nobody writes any,
// and what another writer had for itself is dropped too.
func (b *Blobs) prune(opening bool) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	entries, err := os.ReadDir(filepath.Join(b.dir, "partial"))
	if err != nil {
		return fmt.Errorf("blobs: %w", err)
	}
	var kept []fs.FileInfo
	drop := func(name string) {
		err = errors.Join(err, os.Remove(filepath.Join(b.dir, "partial", name)))
	}
	for _, e := range entries {
		info, infoErr := e.Info()
		digest := digestPrefix + e.Name()
		own := !ValidDigest(digest) // see Create
		switch {
		case infoErr != nil || b.busy[digest] || own && !opening:
		case own || time.Since(info.ModTime()) > partialAge:
			drop(e.Name())
		default:
			kept = append(kept, info)
		}
	}
	slices.SortFunc(kept, func(x, y fs.FileInfo) int { return y.ModTime().Compare(x.ModTime()) })
	for _, info := range kept[min(len(kept), partialsMax):] {
		drop(info.Name())
	}
	if err != nil {
		return fmt.Errorf("blobs: %w", err)
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
	hexed := digest[len(digestPrefix):]
	return filepath.Join(b.dir, "sha256", hexed[:2], hexed)
}

func (b *Blobs) partial(digest string) string {
	return filepath.Join(b.dir, "partial", digest[len(digestPrefix):])
}

// Has says whether the file is here. It does not read it.
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

// Open opens the file to read, verified.
func (b *Blobs) Open(digest string) (io.ReadSeekCloser, int64, error) {
	path, err := b.Verified(digest)
	if err != nil {
		return nil, 0, err
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("blob %s: %w", digest, err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("blob %s: %w", digest, err), file.Close())
	}
	return file, info.Size(), nil
}

// Verified is where the file lies, once its bytes are known to be those of the
// digest. A file with other bytes is dropped: the error is ErrCorrupt, and
// ErrNotFound from then on.
func (b *Blobs) Verified(digest string) (path string, err error) {
	if _, err := b.Size(digest); err != nil {
		return "", err
	}
	path = b.Path(digest)
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("blob %s: %w", digest, err)
	}
	b.mu.Lock()
	known := b.whole[digest] == stampOf(info)
	b.mu.Unlock()
	if known {
		return path, nil
	}
	if err := b.Verify(digest); err != nil {
		if errors.Is(err, ErrDigest) {
			err = errors.Join(err, b.Delete(digest))
		}
		return "", err
	}
	b.mu.Lock()
	b.whole[digest] = stampOf(info)
	b.mu.Unlock()
	return path, nil
}

// Delete removes the file; nil when it was not there.
func (b *Blobs) Delete(digest string) error {
	if err := checkDigest(digest); err != nil {
		return err
	}
	b.mu.Lock()
	delete(b.whole, digest)
	b.mu.Unlock()
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
		if d := digestPrefix + filepath.Base(p); ValidDigest(d) {
			digests = append(digests, d)
		}
	}
	slices.Sort(digests)
	return digests, nil
}

// Verify reads the whole file and says whether it is what its digest says.
func (b *Blobs) Verify(digest string) error {
	if err := checkDigest(digest); err != nil {
		return err
	}
	file, err := os.Open(b.Path(digest))
	if errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("blob %s: %w", digest, ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("blob %s: %w", digest, err)
	}
	defer file.Close()
	got, err := digestFrom(file)
	if err != nil {
		return fmt.Errorf("blob %s: %w", digest, err)
	}
	if got != digest {
		return fmt.Errorf("blob %s: %w: %w", digest, ErrCorrupt, ErrDigest)
	}
	return nil
}

// digestFrom is the digest of what r has left to read.
func digestFrom(r io.Reader) (string, error) {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return "", err
	}
	return digestPrefix + hex.EncodeToString(h.Sum(nil)), nil
}

// BlobWriter writes one file. Close keeps what was written, so that the next
// Create resumes; Commit ends it.
type BlobWriter struct {
	blobs  *Blobs
	digest string
	size   int64 // SizeUnknown, or how long the file will be
	offset int64
	file   *os.File
	own    bool // not to be resumed: another writer has the digest

	committed, done bool
}

// Create begins a file, or resumes one. When another writer is at the same
// digest this one begins a file of its own, which is dropped unless it is
// committed: who of the two is slower need not wait for the other.
func (b *Blobs) Create(_ context.Context, digest string, size int64) (*BlobWriter, error) {
	if err := checkDigest(digest); err != nil {
		return nil, err
	}
	if size < SizeUnknown || size > BlobMax {
		return nil, fmt.Errorf("blob %s: %w: %d bytes, at most %d", digest, ErrInvalid, size, int64(BlobMax))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	w := &BlobWriter{blobs: b, digest: digest, size: size, own: b.busy[digest]}
	var err error
	if w.own {
		w.file, err = os.CreateTemp(filepath.Join(b.dir, "partial"), filepath.Base(b.partial(digest))+".*")
	} else {
		w.file, err = os.OpenFile(b.partial(digest), os.O_CREATE|os.O_RDWR, 0o600)
	}
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", digest, err)
	}
	w.offset, err = w.file.Seek(0, io.SeekEnd)
	if err == nil && size != SizeUnknown && w.offset > size { // of another size than was said before
		err = w.Restart()
	}
	if err == nil {
		err = b.space.checkFile(max(0, size-w.offset))
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("blob %s: %w", digest, err), w.dropIf(w.own), w.file.Close())
	}
	if !w.own {
		b.busy[digest] = true
	}
	return w, nil
}

func rewind(file *os.File) error {
	_, err := file.Seek(0, io.SeekStart)
	return err
}

// Offset is how many bytes are there already.
func (w *BlobWriter) Offset() int64 { return w.offset }

// Restart forgets the bytes that are there.
func (w *BlobWriter) Restart() error {
	if err := errors.Join(w.file.Truncate(0), rewind(w.file)); err != nil {
		return fmt.Errorf("blob %s: %w", w.digest, err)
	}
	w.offset = 0
	return nil
}

// Write appends bytes.
func (w *BlobWriter) Write(p []byte) (int, error) {
	sizeMax := w.size
	if sizeMax == SizeUnknown {
		sizeMax = BlobMax
	}
	if w.offset+int64(len(p)) > sizeMax {
		return 0, fmt.Errorf("blob %s: %w: more than %d bytes", w.digest, ErrInvalid, sizeMax)
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
	if err := w.settle(); err != nil {
		return errors.Join(fmt.Errorf("blob %s: %w", w.digest, err), w.dropIf(errors.Is(err, ErrDigest)), w.Close())
	}
	w.committed = true
	return w.Close()
}

func (w *BlobWriter) settle() error {
	if w.size != SizeUnknown && w.offset != w.size {
		return fmt.Errorf("%w: %d of %d bytes", io.ErrUnexpectedEOF, w.offset, w.size)
	}
	if err := rewind(w.file); err != nil {
		return err
	}
	got, err := digestFrom(w.file)
	if err != nil {
		return err
	}
	if got != w.digest {
		return fmt.Errorf("%w: they are %s", ErrDigest, got)
	}
	if err := w.file.Sync(); err != nil {
		return err
	}
	path := w.blobs.Path(w.digest)
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	if err := os.Rename(w.file.Name(), path); err != nil {
		return err
	}
	if err := errors.Join(syncDir(folder), syncDir(filepath.Dir(folder))); err != nil {
		return err
	}
	if info, err := w.file.Stat(); err == nil { // else it is verified when it is read
		w.blobs.mu.Lock()
		w.blobs.whole[w.digest] = stampOf(info)
		w.blobs.mu.Unlock()
	}
	return nil
}

// dropIf removes the unfinished file, if yes.
func (w *BlobWriter) dropIf(yes bool) error {
	if !yes {
		return nil
	}
	if err := os.Remove(w.file.Name()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Close ends the writing; after Commit it does nothing.
func (w *BlobWriter) Close() error {
	if w.done {
		return nil
	}
	w.done = true
	if !w.own {
		w.blobs.mu.Lock()
		delete(w.blobs.busy, w.digest)
		w.blobs.mu.Unlock()
	}
	return errors.Join(w.dropIf(w.own && !w.committed), w.file.Close())
}
