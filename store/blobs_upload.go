package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// Limits of uploads under way.
const (
	uploadsMax     = 256
	uploadBytesMax = 128 << 30 // of all of them
	uploadAge      = 24 * time.Hour
	uploadIdle     = 10 * time.Minute // after it, one may have to go for a new one
	uploadPart     = 1 << 20          // after so many bytes the disk is looked at again
)

// OffsetEnd appends wherever an upload ends.
const OffsetEnd = -1

// ErrOffset says that bytes do not begin where an upload ends.
var ErrOffset = errors.New("the bytes do not begin where the upload ends")

var uploadForm = regexp.MustCompile(`^[0-9a-f]{32}$`)

// Upload is a file whose digest only its end will tell.
type Upload struct {
	ID      string
	Size    int64     // bytes that are there
	Touched time.Time // when the last came
}

// BeginUpload begins one. It is kept until it is committed or cancelled, or for a
// day after its last byte, also by the next daemon. ErrBusy when there are too
// many, of which none is idle.
func (b *Blobs) BeginUpload() (Upload, error) {
	if err := b.space.checkFile(0); err != nil {
		return Upload{}, fmt.Errorf("upload: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	infos, err := b.infos(uploadDir)
	if err != nil {
		return Upload{}, err
	}
	if len(infos) >= uploadsMax {
		last := infos[len(infos)-1]
		if b.uploads[last.Name()] || time.Since(last.ModTime()) < uploadIdle {
			return Upload{}, fmt.Errorf("upload: %w: %d are under way; wait for one to end, or cancel one", ErrBusy, len(infos))
		}
		if err := os.Remove(b.uploadPath(last.Name())); err != nil {
			return Upload{}, fmt.Errorf("upload: %w", err)
		}
	}
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return Upload{}, fmt.Errorf("upload: %w", err)
	}
	u := Upload{ID: hex.EncodeToString(id[:]), Touched: time.Now()}
	if err := os.WriteFile(b.uploadPath(u.ID), nil, 0o600); err != nil {
		return Upload{}, fmt.Errorf("upload: %w", err)
	}
	return u, nil
}

func (b *Blobs) uploadPath(id string) string { return filepath.Join(b.dir, uploadDir, id) }

// Upload is one that is under way, or ErrNotFound.
func (b *Blobs) Upload(id string) (Upload, error) {
	if !uploadForm.MatchString(id) {
		return Upload{}, fmt.Errorf("upload %.40q: %w", id, ErrNotFound)
	}
	info, err := os.Stat(b.uploadPath(id))
	if err != nil {
		return Upload{}, uploadError(id, err)
	}
	return uploadOf(info), nil
}

func uploadOf(info fs.FileInfo) Upload { return Upload{info.Name(), info.Size(), info.ModTime()} }

func uploadError(id string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("upload %s: %w: it was committed or cancelled, or nobody went on with it for too long", id, ErrNotFound)
	}
	return fmt.Errorf("upload %s: %w", id, err)
}

// Uploads are those under way, the one that was written last first.
func (b *Blobs) Uploads() ([]Upload, error) {
	infos, err := b.infos(uploadDir)
	uploads := make([]Upload, len(infos))
	for i, info := range infos {
		uploads[i] = uploadOf(info)
	}
	return uploads, err
}

// takeUpload opens an upload for one user: ErrBusy while it has another.
func (b *Blobs) takeUpload(id string) (*os.File, error) {
	if _, err := b.Upload(id); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.uploads[id] {
		return nil, fmt.Errorf("upload %s: %w: another request is at it", id, ErrBusy)
	}
	file, err := os.OpenFile(b.uploadPath(id), os.O_RDWR, 0o600)
	if err != nil {
		return nil, uploadError(id, err)
	}
	b.uploads[id] = true
	return file, nil
}

func (b *Blobs) leaveUpload(id string, file *os.File) {
	b.mu.Lock()
	delete(b.uploads, id)
	b.mu.Unlock()
	_ = file.Close() // it was synced if that matters
}

// AppendUpload adds the bytes of r to an upload that is offset bytes long, or
// OffsetEnd. What came before an error is kept; the Upload says how much there
// is now. ErrOffset, ErrBusy, ErrFull and ErrNotFound say what is wrong.
func (b *Blobs) AppendUpload(ctx context.Context, id string, offset int64, r io.Reader) (Upload, error) {
	file, err := b.takeUpload(id)
	if err != nil {
		return Upload{}, err
	}
	defer b.leaveUpload(id, file)
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return Upload{}, uploadError(id, err)
	}
	u := Upload{ID: id, Size: end, Touched: time.Now()}
	if offset != OffsetEnd && offset != end {
		return u, fmt.Errorf("upload %s: %w: they begin at %d, and it has %d", id, ErrOffset, offset, end)
	}
	for more := true; more; {
		if err := b.roomForUpload(u); err != nil {
			return u, fmt.Errorf("upload %s: %w", id, err)
		}
		n, err := io.CopyN(file, r, uploadPart)
		u.Size += n
		if more = !errors.Is(err, io.EOF); more && err == nil {
			err = ctx.Err()
		}
		if more && err != nil {
			return u, fmt.Errorf("upload %s: at %d: %w", id, u.Size, err)
		}
	}
	return u, nil
}

// roomForUpload says whether another part may be written.
func (b *Blobs) roomForUpload(u Upload) error {
	if u.Size > BlobMax-uploadPart {
		return fmt.Errorf("%w: over %d bytes", ErrInvalid, int64(BlobMax))
	}
	all, err := b.Uploads()
	if err != nil {
		return err
	}
	bytes := int64(0)
	for _, other := range all {
		bytes += other.Size
	}
	if bytes > uploadBytesMax {
		return fmt.Errorf("%w: uploads under way have %d bytes together, at most %d", ErrFull, bytes, int64(uploadBytesMax))
	}
	return b.space.checkFile(uploadPart)
}

// CommitUpload ends an upload as the file of a digest, verified and durable, and
// says how long it is. ErrDigest when the bytes are others: the upload is gone
// then.
func (b *Blobs) CommitUpload(id, digest string) (int64, error) {
	if err := checkDigest(digest); err != nil {
		return 0, err
	}
	file, err := b.takeUpload(id)
	if err != nil {
		return 0, err
	}
	defer b.leaveUpload(id, file)
	if err := b.publish(file, digest); err != nil {
		if errors.Is(err, ErrDigest) {
			err = errors.Join(err, os.Remove(file.Name()))
		}
		return 0, fmt.Errorf("upload %s of %s: %w", id, digest, err)
	}
	info, err := file.Stat()
	if err != nil {
		return 0, uploadError(id, err)
	}
	return info.Size(), nil
}

// CancelUpload forgets an upload, or says ErrNotFound.
func (b *Blobs) CancelUpload(id string) error {
	file, err := b.takeUpload(id)
	if err != nil {
		return err
	}
	defer b.leaveUpload(id, file)
	if err := os.Remove(file.Name()); err != nil {
		return uploadError(id, err)
	}
	return nil
}

// pruneUploads drops uploads that nobody goes on with. The caller holds mu.
func (b *Blobs) pruneUploads() error {
	infos, err := b.infos(uploadDir)
	for _, info := range infos {
		if !b.uploads[info.Name()] && time.Since(info.ModTime()) > uploadAge {
			err = errors.Join(err, os.Remove(b.uploadPath(info.Name())))
		}
	}
	return err
}
