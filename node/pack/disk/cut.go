package disk

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/klauspost/compress/zstd"
	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/restic/chunker"
	"golang.org/x/sync/errgroup"
)

// polynomial says where chunks end. Another one would cut every disk anew.
const polynomial = chunker.Pol(0x3DA3358B4DC173)

// averageMin is how long a chunk of a small disk is, about: shorter ones would
// ship less of a change, and cost each registry more.
const averageMin = 512 << 10

// atOnce is how many chunks are compressed, or on their way to where they are
// kept, at a time.
const atOnce = 6

// averageOf is how long the chunks of a disk are, about. It grows with the disk
// by doubling, so that a disk of any size fits into one manifest: no chunk is
// shorter than half of it.
func averageOf(size int64) (average uint, bits int) {
	average, bits = averageMin, 19
	for int64(average) < size/(layersMax/2-1) {
		average, bits = average*2, bits+1
	}
	return average, bits
}

// Cut reads a disk and gives each chunk of it, compressed, to keep, which may be
// called by several goroutines at once, and once for chunks that are the same.
func Cut(ctx context.Context, r io.Reader, size int64, keep func(ctx context.Context, layer ocispec.Descriptor, data []byte) error) (Index, []ocispec.Descriptor, error) {
	if size <= 0 || size > SizeMax {
		return Index{}, nil, fmt.Errorf("a disk of %d bytes: it has 1 to %d", size, int64(SizeMax))
	}
	c := newCutter(ctx, keep)
	whole := sha256.New()
	err := c.cut(io.TeeReader(r, whole), size)
	if err = errors.Join(err, c.group.Wait()); err != nil {
		return Index{}, nil, err
	}
	x := Index{Size: size, Digest: digests.NewDigest(digests.SHA256, whole), Chunks: c.chunks}
	return x, c.layers, x.check(c.layers)
}

// cutter is one Cut under way.
type cutter struct {
	group *errgroup.Group
	ctx   context.Context
	keep  func(ctx context.Context, layer ocispec.Descriptor, data []byte) error
	spare chan []byte // buffers, and so how many chunks there are at once
	zstd  *zstd.Encoder

	seen   map[[sha256.Size]byte]int // chunks by their bytes, inflated
	chunks []Chunk
	layers []ocispec.Descriptor // written by who compresses, each its own
}

func newCutter(ctx context.Context, keep func(context.Context, ocispec.Descriptor, []byte) error) *cutter {
	encoder, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		panic(fmt.Sprintf("disk: zstd: %v", err)) // its options are constants
	}
	c := &cutter{
		keep: keep, zstd: encoder, seen: map[[sha256.Size]byte]int{},
		spare: make(chan []byte, atOnce), layers: make([]ocispec.Descriptor, 0, layersMax),
	}
	c.group, c.ctx = errgroup.WithContext(ctx)
	for range cap(c.spare) {
		c.spare <- nil
	}
	return c
}

func (c *cutter) cut(r io.Reader, size int64) error {
	average, bits := averageOf(size)
	cuts := chunker.NewWithBoundaries(io.LimitReader(r, size+1), polynomial, average/2, min(4*average, chunkMax))
	cuts.SetAverageBits(bits)
	var got int64
	for {
		var buf []byte
		select {
		case buf = <-c.spare:
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		}
		chunk, err := cuts.Next(buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read the disk: %w", err)
		}
		got += int64(len(chunk.Data))
		if got > size {
			break
		}
		if err := c.add(chunk.Data); err != nil {
			return err
		}
	}
	if got != size {
		return fmt.Errorf("the disk had %d bytes and now has others: was it written to?", size)
	}
	return nil
}

// add takes the next chunk, and gives its buffer back once it may.
func (c *cutter) add(data []byte) error {
	size := int64(len(data))
	if allZero(data) {
		c.spare <- data
		if last := len(c.chunks) - 1; last >= 0 && c.chunks[last].Layer == zeros {
			c.chunks[last].Size += size
			return nil
		}
		c.chunks = append(c.chunks, Chunk{Layer: zeros, Size: size})
		return nil
	}
	sum := sha256.Sum256(data)
	at, known := c.seen[sum]
	if known {
		c.spare <- data
		c.chunks = append(c.chunks, Chunk{Layer: at, Size: size})
		return nil
	}
	at = len(c.layers)
	if at == layersMax {
		return fmt.Errorf("the disk is made of more than %d chunks", layersMax)
	}
	c.layers = append(c.layers, ocispec.Descriptor{}) // never moves: there is room for all
	layer := &c.layers[at]
	c.seen[sum] = at
	c.chunks = append(c.chunks, Chunk{Layer: at, Size: size})
	c.group.Go(func() error {
		defer func() { c.spare <- data }() // not before it is kept: that bounds how many are on their way
		packed := c.zstd.EncodeAll(data, nil)
		*layer = ocispec.Descriptor{MediaType: ChunkType, Digest: digests.FromBytes(packed), Size: int64(len(packed))}
		return c.keep(c.ctx, *layer, packed)
	})
	return nil
}

func allZero(data []byte) bool {
	for len(data) >= 8 {
		if data[0]|data[1]|data[2]|data[3]|data[4]|data[5]|data[6]|data[7] != 0 {
			return false
		}
		data = data[8:]
	}
	for _, b := range data {
		if b != 0 {
			return false
		}
	}
	return true
}
