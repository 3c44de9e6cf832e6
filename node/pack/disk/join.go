package disk

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"
	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Open opens a layer of a disk to read; what it gives need not be verified.
type Open func(ctx context.Context, layer ocispec.Descriptor) (io.ReadCloser, error)

// Join writes the disk into an empty file, which takes no room where the disk is
// zeros. The error wraps ErrInvalid when the chunks are not the disk.
func (x Index) Join(ctx context.Context, layers []ocispec.Descriptor, open Open, to *os.File) error {
	if err := x.check(layers); err != nil {
		return err
	}
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(2*chunkMax), zstd.WithDecoderMaxWindow(chunkMax))
	if err != nil {
		return fmt.Errorf("zstd: %w", err)
	}
	defer decoder.Close()
	j := joiner{whole: sha256.New(), to: to, part: make([]byte, partSize)}
	for i, c := range x.Chunks {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if c.Layer == zeros {
			err = j.take(io.LimitReader(nothing{}, c.Size), c.Size)
		} else {
			err = j.inflate(ctx, open, layers[c.Layer], decoder, c.Size)
		}
		if err != nil {
			return fmt.Errorf("chunk %d of the disk %s: %w", i, x.Digest, err)
		}
	}
	if err := to.Truncate(x.Size); err != nil { // it may end with zeros
		return err
	}
	if got := digests.NewDigest(digests.SHA256, j.whole); got != x.Digest {
		return fmt.Errorf("%w: put together it is %s, and should be %s", ErrInvalid, got, x.Digest)
	}
	return nil
}

// joiner is one Join under way.
type joiner struct {
	whole hash.Hash
	to    *os.File
	at    int64
	part  []byte
}

func (j *joiner) inflate(ctx context.Context, open Open, layer ocispec.Descriptor, decoder *zstd.Decoder, size int64) error {
	r, err := open(ctx, layer)
	if err != nil {
		return err
	}
	defer r.Close()
	source := &remembering{r: io.LimitReader(r, layer.Size)}
	if err := j.expand(source, decoder, size); source.err != nil {
		return fmt.Errorf("read %s: %w", layer.Digest, source.err) // and not what the decoder makes of it
	} else if err != nil {
		return fmt.Errorf("layer %s: %w", layer.Digest, err)
	}
	return nil
}

func (j *joiner) expand(r io.Reader, decoder *zstd.Decoder, size int64) error {
	if err := decoder.Reset(r); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if err := j.take(decoder, size); err != nil {
		return err
	}
	// One byte more than was declared is one too many: the rest is not looked at.
	if n, err := io.ReadFull(decoder, j.part[:1]); n > 0 {
		return fmt.Errorf("%w: it has more than the %d bytes that it should", ErrInvalid, size)
	} else if !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: after its end: %w", ErrInvalid, err)
	}
	return nil
}

// take writes the next size bytes, which r must have.
func (j *joiner) take(r io.Reader, size int64) error {
	for size > 0 {
		part := j.part[:min(int64(len(j.part)), size)]
		if n, err := io.ReadFull(r, part); err != nil {
			return fmt.Errorf("%w: it can't be read to its end, %d bytes from here: %w", ErrInvalid, size-int64(n), err)
		}
		_, _ = j.whole.Write(part) // a hash takes everything
		size -= int64(len(part))
		if err := j.write(part); err != nil {
			return err
		}
	}
	return nil
}

// write writes what is not zeros.
func (j *joiner) write(part []byte) error {
	for len(part) > 0 {
		piece := part[:min(hole, len(part))]
		if !allZero(piece) {
			if _, err := j.to.WriteAt(piece, j.at); err != nil {
				return err
			}
		}
		j.at += int64(len(piece))
		part = part[len(piece):]
	}
	return nil
}

// nothing is zeros without end.
type nothing struct{}

func (nothing) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// remembering is a reader that keeps why it could not be read on.
type remembering struct {
	r   io.Reader
	err error
}

func (m *remembering) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		m.err = err
	}
	return n, err
}
