package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

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
		w.file, err = os.CreateTemp(filepath.Join(b.dir, partialDir), filepath.Base(b.partial(digest))+".*")
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
	return w.blobs.publish(w.file, w.digest)
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
