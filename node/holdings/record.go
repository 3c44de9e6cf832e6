package holdings

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fxamacker/cbor/v2"
)

// Limits of a record.
const (
	// BlobsMax is how many files one record names.
	BlobsMax = 4096
	// blobsBytesMax is what they take at most.
	blobsBytesMax = BlobsMax * binary.MaxVarintLen32
	// recordMax bounds a whole record, signed.
	recordMax = blobsBytesMax + 1024
	version   = 1
)

var errForm = errors.New("holdings: not a record")

// record is what one peer has.
type record struct {
	Version int    `cbor:"a"`
	Blobs   []byte `cbor:"b"`           // prefixes, ascending: the first, then the difference to the one before, as varints
	More    bool   `cbor:"c,omitempty"` // it has others, too
}

// Prefix is the first 32 bits of a digest, whatever its algorithm; false for what
// is none.
func Prefix(digest string) (uint32, bool) {
	_, hexed, ok := strings.Cut(digest, ":")
	if !ok || len(hexed) < 8 {
		return 0, false
	}
	raw, err := hex.DecodeString(hexed[:8])
	if err != nil {
		return 0, false
	}
	return binary.BigEndian.Uint32(raw), true
}

// Prefixes are those of digests, sorted, each once, of the first BlobsMax.
func Prefixes(digests []string) (prefixes []uint32, more bool) {
	seen := map[uint32]bool{}
	for _, d := range digests {
		p, ok := Prefix(d)
		if !ok || seen[p] {
			continue
		}
		if len(prefixes) == BlobsMax {
			more = true
			break
		}
		seen[p] = true
		prefixes = append(prefixes, p)
	}
	slices.Sort(prefixes)
	return prefixes, more
}

// encode writes sorted prefixes, each once.
func encode(prefixes []uint32, more bool) ([]byte, error) {
	r := record{Version: version, Blobs: []byte{}, More: more}
	last := uint32(0)
	for _, p := range prefixes {
		r.Blobs = binary.AppendUvarint(r.Blobs, uint64(p-last))
		last = p
	}
	return cbor.Marshal(r)
}

// decode reads what encode wrote. One of a later version is read as far as it is
// understood, so that releases may differ.
func decode(data []byte) (prefixes []uint32, more bool, err error) {
	var r record
	if err := cbor.Unmarshal(data, &r); err != nil {
		return nil, false, fmt.Errorf("%w: %w", errForm, err)
	}
	if r.Version < 1 || len(r.Blobs) > blobsBytesMax {
		return nil, false, fmt.Errorf("%w: version %d, %d bytes of prefixes, at most %d", errForm, r.Version, len(r.Blobs), blobsBytesMax)
	}
	last := uint64(0)
	for rest := r.Blobs; len(rest) > 0; {
		d, n := binary.Uvarint(rest)
		if n <= 0 || d > 1<<32-1-last || d == 0 && len(prefixes) > 0 || len(prefixes) == BlobsMax {
			return nil, false, fmt.Errorf("%w: prefix %d is not above the one before, or one of more than %d", errForm, len(prefixes), BlobsMax)
		}
		last += d
		prefixes = append(prefixes, uint32(last))
		rest = rest[n:]
	}
	return prefixes, r.More, nil
}
