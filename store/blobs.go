package store

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hansa-mesh/hansa/store/chain"
)

// ErrNotFound says that there is no such file.
var ErrNotFound = errors.New("not found")

// ErrDigest says that a file is not what its digest says.
var ErrDigest = errors.New("the bytes are not those of the digest")

// BlobMax bounds one file by digest, in bytes.
const BlobMax = 64 << 30

// SizeUnknown is the size of a file of which only the end will tell.
const SizeUnknown = -1

// usedEvery is how exactly it is known when a file was read last.
const usedEvery = time.Minute

// The folders under blobs/. Files lie under their algorithm, in folders by
// their first two digits.
const (
	partialDir    = "partial"
	uploadDir     = "upload"
	quarantineDir = "quarantine"
)

var algorithms = []string{"sha256", "sha512"}

// Blobs are files by digest: "sha256:" and 64 hexadecimal digits, or "sha512:"
// and 128. A file is visible once it is whole, verified and durable. It is
// verified again when it is read first after the store was opened, or was
// touched: what has rotted on the disk is put aside, so that it is fetched anew.
//
// There are three ways to bring one in: Create, of which the digest is known,
// from its first byte to its last; Assemble, in any order; BeginUpload, when
// only the end tells the digest. All three can be resumed, also by the next
// daemon.
type Blobs struct {
	dir    string
	space  *space
	rotten func(digest string, err error) // may be nil

	mu      sync.Mutex // guards what follows
	busy    map[string]bool
	uploads map[string]bool       // to which someone is writing
	whole   map[string]verified   // by digest
	reading map[string]*verifying // now
	rot     int64
}

// verified is what is known of a file that was read through: how it looked, so
// that a change shows, and its chain.
type verified struct {
	stamp
	chain chain.Chain
}

// verifying is one reading of a file, for all who wait for it.
type verifying struct {
	done chan struct{} // closed when err is set
	err  error
}

// stamp is how a file looked when it was verified.
type stamp struct {
	size int64
	at   time.Time
}

func stampOf(info fs.FileInfo) stamp { return stamp{info.Size(), info.ModTime()} }

func openBlobs(dir string, space *space, rotten func(string, error)) (*Blobs, error) {
	for _, d := range append([]string{partialDir, uploadDir, quarantineDir}, algorithms...) {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("blobs: %w", err)
		}
	}
	if err := errors.Join(syncDir(dir), syncDir(filepath.Dir(dir))); err != nil {
		return nil, err
	}
	b := &Blobs{
		dir: dir, space: space, rotten: rotten,
		busy: map[string]bool{}, uploads: map[string]bool{}, whole: map[string]verified{}, reading: map[string]*verifying{},
	}
	return b, b.prune(true)
}

// ValidDigest says whether a digest is of a form that is understood.
func ValidDigest(digest string) bool { return chain.ValidDigest(digest) }

func checkDigest(digest string) error {
	if err := chain.CheckDigest(digest); err != nil {
		return fmt.Errorf("blob: %w: %w", ErrInvalid, err)
	}
	return nil
}

// Path is where the file of a digest lies, or will; "" for what is no digest.
func (b *Blobs) Path(digest string) string {
	if !ValidDigest(digest) {
		return ""
	}
	algorithm, hexed, _ := strings.Cut(digest, ":")
	return filepath.Join(b.dir, algorithm, hexed[:2], hexed)
}

// Has says whether the file is here. It does not read it.
func (b *Blobs) Has(digest string) bool {
	_, err := b.Size(digest)
	return err == nil
}

// Size is the length of the file in bytes, or ErrNotFound.
func (b *Blobs) Size(digest string) (int64, error) {
	info, err := b.stat(digest)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

func (b *Blobs) stat(digest string) (fs.FileInfo, error) {
	if err := checkDigest(digest); err != nil {
		return nil, err
	}
	info, err := os.Stat(b.Path(digest))
	if err != nil {
		return nil, blobError(digest, err)
	}
	return info, nil
}

// blobError names the file that an error is about.
func blobError(digest string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("blob %s: %w", digest, ErrNotFound)
	}
	return fmt.Errorf("blob %s: %w", digest, err)
}

// BlobFile is an open file.
type BlobFile interface {
	io.ReadSeekCloser
	io.ReaderAt
}

// Open opens the file to read, verified.
func (b *Blobs) Open(digest string) (BlobFile, int64, error) {
	file, c, err := b.OpenChain(digest)
	return file, c.Size(), err
}

// OpenChain is Open with what tells each of its chunks right or wrong.
func (b *Blobs) OpenChain(digest string) (BlobFile, chain.Chain, error) {
	v, err := b.verifyToUse(digest)
	if err != nil {
		return nil, chain.Chain{}, err
	}
	file, err := os.Open(b.Path(digest))
	if err != nil {
		return nil, chain.Chain{}, blobError(digest, err)
	}
	return file, v.chain, nil
}

// Verified is where the file lies, once its bytes are known to be those of the
// digest. A file with other bytes is put aside: the error is ErrCorrupt, and
// ErrNotFound from then on.
func (b *Blobs) Verified(digest string) (path string, err error) {
	if _, err := b.verifyToUse(digest); err != nil {
		return "", err
	}
	return b.Path(digest), nil
}

// Known says whether Open would answer at once: the file is here, and need not
// be read through first.
func (b *Blobs) Known(digest string) bool {
	info, err := b.stat(digest)
	if err != nil {
		return false
	}
	_, ok := b.known(digest, info)
	return ok
}

func (b *Blobs) known(digest string, info fs.FileInfo) (verified, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v, ok := b.whole[digest]
	return v, ok && v.stamp == stampOf(info)
}

// verifyToUse is verify for who is about to read the file.
func (b *Blobs) verifyToUse(digest string) (verified, error) {
	v, err := b.verify(digest)
	if err != nil {
		return v, err
	}
	if info, err := b.stat(digest); err == nil {
		b.use(digest, info)
	}
	return v, nil
}

// verify reads the file through, unless that was done; who asks meanwhile waits
// for the same reading.
func (b *Blobs) verify(digest string) (verified, error) {
	for {
		info, err := b.stat(digest)
		if err != nil {
			return verified{}, err
		}
		if v, ok := b.known(digest, info); ok {
			return v, nil
		}
		b.mu.Lock()
		r, underway := b.reading[digest]
		if !underway {
			r = &verifying{done: make(chan struct{})}
			b.reading[digest] = r
		}
		b.mu.Unlock()
		if underway {
			<-r.done
		} else {
			r.err = b.readThrough(digest)
			b.mu.Lock()
			delete(b.reading, digest)
			b.mu.Unlock()
			close(r.done)
		}
		if r.err != nil {
			return verified{}, r.err
		}
	}
}

// readThrough reads the whole file; what is not what its digest says is put
// aside.
func (b *Blobs) readThrough(digest string) error {
	file, err := os.Open(b.Path(digest))
	if err != nil {
		return blobError(digest, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return blobError(digest, err)
	}
	got, c, err := chain.Sum(file, digest)
	if err != nil {
		return blobError(digest, err)
	}
	if got != digest {
		return b.putAside(digest, info, got)
	}
	b.mu.Lock()
	b.whole[digest] = verified{stampOf(info), c}
	b.mu.Unlock()
	return nil
}

// Check reads the whole file, whatever is known of it, and puts it aside when it
// is not what its digest says: the error is ErrCorrupt then. That is no use of it.
func (b *Blobs) Check(digest string) error {
	before, err := b.stat(digest)
	if err != nil {
		return err
	}
	b.mu.Lock()
	delete(b.whole, digest)
	b.mu.Unlock()
	if _, err = b.verify(digest); err != nil {
		return err
	}
	// The file system may have taken the reading for one.
	if now, err := b.stat(digest); err == nil && stampOf(now) == stampOf(before) {
		_ = os.Chtimes(b.Path(digest), accessed(before), before.ModTime())
	}
	return nil
}

// use notes when the file was read last, as its time of access.
func (b *Blobs) use(digest string, info fs.FileInfo) {
	if now := time.Now(); now.Sub(accessed(info)) > usedEvery {
		_ = os.Chtimes(b.Path(digest), now, info.ModTime()) // only what goes first depends on it
	}
}

// accessed is when the file was read last, or written.
func accessed(info fs.FileInfo) time.Time {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return time.Unix(s.Atim.Unix())
	}
	return info.ModTime()
}

// Delete removes the file; nil when it was not there. Who has it open can go on
// reading it.
func (b *Blobs) Delete(digest string) error {
	if err := checkDigest(digest); err != nil {
		return err
	}
	b.mu.Lock()
	delete(b.whole, digest)
	b.mu.Unlock()
	if err := os.Remove(b.Path(digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("blob %s: %w", digest, err)
	}
	return nil
}
