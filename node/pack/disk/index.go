package disk

import (
	"encoding/json"
	"errors"
	"fmt"

	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Media types of a disk's artifact.
const (
	ArtifactType = "application/vnd.hansa.disk.v1"
	IndexType    = "application/vnd.hansa.disk.index.v1+json" // its config
	ChunkType    = "application/vnd.hansa.disk.chunk.v1+zstd" // its layers
)

// Limits of a disk.
const (
	SizeMax     = 64 << 30 // bytes
	IndexMax    = 4 << 20  // bytes of the index
	chunksMax   = 1 << 17  // of an index, runs of zeros among them
	layersMax   = 9_000    // so that the manifest stays within what registries take
	chunkMax    = 32 << 20 // bytes of one chunk, inflated
	chunkPacked = chunkMax + 1<<20
	partSize    = 1 << 20 // of what is read and written at a time
	hole        = 64 << 10
)

// ErrInvalid says that an index, or a chunk, is not what it should be.
var ErrInvalid = errors.New("not a disk")

// Index says what a disk is made of.
type Index struct {
	Size   int64          `json:"size"`
	Digest digests.Digest `json:"digest"` // of the whole disk
	Chunks []Chunk        `json:"chunks"`
}

// Chunk is the next bytes of a disk: a layer, or zeros.
type Chunk struct {
	Layer int   `json:"layer"` // which of the manifest's layers; -1 for zeros
	Size  int64 `json:"size"`  // inflated
}

// zeros is the Layer of a chunk that none holds.
const zeros = -1

// Parse reads an index that goes with a manifest's layers, and checks it.
func Parse(data []byte, layers []ocispec.Descriptor) (Index, error) {
	if len(data) > IndexMax {
		return Index{}, fmt.Errorf("%w: its index has %d bytes, at most %d", ErrInvalid, len(data), IndexMax)
	}
	var x Index
	if err := json.Unmarshal(data, &x); err != nil {
		return Index{}, fmt.Errorf("%w: its index: %w", ErrInvalid, err)
	}
	return x, x.check(layers)
}

func (x Index) check(layers []ocispec.Descriptor) error {
	switch {
	case x.Size <= 0 || x.Size > SizeMax:
		return fmt.Errorf("%w: it has %d bytes, at most %d", ErrInvalid, x.Size, int64(SizeMax))
	case x.Digest.Validate() != nil || x.Digest.Algorithm() != digests.SHA256:
		return fmt.Errorf("%w: its digest is %.80q, and no sha256", ErrInvalid, x.Digest)
	case len(x.Chunks) > chunksMax || len(layers) > layersMax:
		return fmt.Errorf("%w: it has %d chunks in %d layers, at most %d in %d", ErrInvalid, len(x.Chunks), len(layers), chunksMax, layersMax)
	}
	for i, l := range layers {
		if l.MediaType != ChunkType || l.Size <= 0 || l.Size > chunkPacked {
			return fmt.Errorf("%w: layer %d is %.80q with %d bytes, and no chunk", ErrInvalid, i, l.MediaType, l.Size)
		}
	}
	left := x.Size
	for i, c := range x.Chunks {
		switch {
		case c.Layer < zeros || c.Layer >= len(layers):
			return fmt.Errorf("%w: chunk %d is in layer %d, and there are %d", ErrInvalid, i, c.Layer, len(layers))
		case c.Size <= 0 || c.Size > left || c.Layer != zeros && c.Size > chunkMax:
			return fmt.Errorf("%w: chunk %d has %d bytes", ErrInvalid, i, c.Size)
		}
		left -= c.Size
	}
	if left != 0 {
		return fmt.Errorf("%w: its chunks are %d bytes short of the %d that it has", ErrInvalid, left, x.Size)
	}
	return nil
}

// Stored is how much room the disk takes at most: what is not zeros.
func (x Index) Stored() int64 {
	var sum int64
	for _, c := range x.Chunks {
		if c.Layer != zeros {
			sum += c.Size
		}
	}
	return sum
}
