package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// assemblySuffix tells files that are put together in any order from those that
// are written from their beginning.
const assemblySuffix = ".chunks"

// Assembly is one file that comes in parts, in any order. Close keeps what was
// written, so that the next Assemble resumes; Commit ends it. What of the file is
// right its user finds out with a chain, before and after a restart: it may be
// torn.
//
// WriteAt and ReadAt may be called at once, for different parts.
type Assembly struct {
	blobs  *Blobs
	digest string
	size   int64
	file   *os.File
	done   bool
}

// Assemble begins a file of a known size, or resumes it. Of one digest there is
// one Assembly at a time: ErrBusy.
func (b *Blobs) Assemble(digest string, size int64) (*Assembly, error) {
	if err := checkDigest(digest); err != nil {
		return nil, err
	}
	if size < 0 || size > BlobMax {
		return nil, fmt.Errorf("blob %s: %w: %d bytes, at most %d", digest, ErrInvalid, size, int64(BlobMax))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy[digest+assemblySuffix] {
		return nil, fmt.Errorf("blob %s: %w: it is being put together", digest, ErrBusy)
	}
	file, err := os.OpenFile(b.partial(digest)+assemblySuffix, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("blob %s: %w", digest, err)
	}
	if err := b.resize(file, size); err != nil {
		return nil, errors.Join(fmt.Errorf("blob %s: %w", digest, err), file.Close())
	}
	b.busy[digest+assemblySuffix] = true
	return &Assembly{blobs: b, digest: digest, size: size, file: file}, nil
}

// resize gives a file its size. What was written of one of another size is worth
// nothing, but goes only when there is room for the new one: the size may be a lie.
func (b *Blobs) resize(file *os.File, size int64) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if err := b.space.checkFile(max(0, size-taken(info))); err != nil {
		if info.Size() == 0 { // it is new
			return errors.Join(err, os.Remove(file.Name()))
		}
		return err
	}
	if info.Size() == size {
		return nil
	}
	return errors.Join(file.Truncate(0), file.Truncate(size))
}

// taken is what a file takes of the disk, in bytes: holes take nothing.
func taken(info fs.FileInfo) int64 {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return min(info.Size(), s.Blocks*512)
	}
	return info.Size()
}

// Written says whether anything was ever written to a part of the file.
func (a *Assembly) Written(offset int64, length int) bool {
	at, err := unix.Seek(int(a.file.Fd()), offset, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO): // nothing up to the end
		return false
	case err != nil: // the file system can't tell
		return true
	}
	return at < offset+int64(length)
}

func (a *Assembly) ReadAt(p []byte, offset int64) (int, error) { return a.file.ReadAt(p, offset) }

// WriteAt writes a part of the file.
func (a *Assembly) WriteAt(p []byte, offset int64) (int, error) {
	if offset < 0 || offset+int64(len(p)) > a.size {
		return 0, fmt.Errorf("blob %s: %w: bytes up to %d of %d", a.digest, ErrInvalid, offset+int64(len(p)), a.size)
	}
	if err := a.blobs.space.checkFile(int64(len(p))); err != nil {
		return 0, fmt.Errorf("blob %s: %w", a.digest, err)
	}
	return a.file.WriteAt(p, offset)
}

// Commit verifies the file, makes it durable and shows it under its digest. One
// with wrong bytes stays as it is, with ErrDigest: some of it may be right.
func (a *Assembly) Commit() error {
	if a.done {
		return nil
	}
	if err := a.blobs.publish(a.file, a.digest); err != nil {
		return fmt.Errorf("blob %s: %w", a.digest, err)
	}
	return a.Close()
}

// Drop ends the writing, and forgets what was written.
func (a *Assembly) Drop() error {
	if a.done {
		return nil
	}
	return errors.Join(os.Remove(a.file.Name()), a.Close())
}

// Close ends the writing; after Commit it does nothing.
func (a *Assembly) Close() error {
	if a.done {
		return nil
	}
	a.done = true
	a.blobs.mu.Lock()
	delete(a.blobs.busy, a.digest+assemblySuffix)
	a.blobs.mu.Unlock()
	return a.file.Close()
}
