package chain

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"regexp"
	"strings"
)

// ChunkLen is the length of every chunk but the last.
const ChunkLen = 1 << 20

// ErrWrong says that a chunk is not what the chain wants in its place.
var ErrWrong = errors.New("these are not the bytes of this chunk")

// ErrInvalid says that a digest is none, or that states are no chain.
var ErrInvalid = errors.New("invalid")

var form = regexp.MustCompile(`^(sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$`)

// ValidDigest says whether a digest is of a form that is understood: an
// algorithm, sha256 or sha512, a colon, and hexadecimal digits.
func ValidDigest(digest string) bool { return form.MatchString(digest) }

// CheckDigest is ErrInvalid, and why, for what is no digest.
func CheckDigest(digest string) error {
	if !ValidDigest(digest) {
		return fmt.Errorf("digest %.80q: %w: it is sha256: and 64 hexadecimal digits, or sha512: and 128", digest, ErrInvalid)
	}
	return nil
}

// algorithm is how the states of a hash are written. The hash's own form is
// magic, state, the begun block, and how many bytes went in.
type algorithm struct {
	name     string
	fresh    func() hash.Hash
	magicLen int
	stateLen int
	blockLen int
}

var (
	sha2x256 = &algorithm{"sha256", sha256.New, 4, sha256.Size, sha256.BlockSize}
	sha2x512 = &algorithm{"sha512", sha512.New, 4, sha512.Size, sha512.BlockSize}
)

// algorithmOf is that of a valid digest.
func algorithmOf(digest string) *algorithm {
	if strings.HasPrefix(digest, "sha512:") {
		return sha2x512
	}
	return sha2x256
}

// NewHash is a hash as a valid digest wants it.
func NewHash(digest string) hash.Hash { return algorithmOf(digest).fresh() }

// state is that of a hash between two blocks.
func (a *algorithm) state(h hash.Hash) []byte {
	whole, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		panic("chain: " + err.Error()) // the standard library's never fail
	}
	return whole[a.magicLen:][:a.stateLen]
}

// resume is a hash that has taken so many bytes, whole blocks, and is in state.
func (a *algorithm) resume(state []byte, taken int64) (hash.Hash, error) {
	h := a.fresh()
	if taken == 0 {
		return h, nil
	}
	whole, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return nil, err
	}
	copy(whole[a.magicLen:], state)
	binary.BigEndian.PutUint64(whole[a.magicLen+a.stateLen+a.blockLen:], uint64(taken))
	return h, h.(encoding.BinaryUnmarshaler).UnmarshalBinary(whole)
}

func (a *algorithm) digest(h hash.Hash) string { return a.name + ":" + hex.EncodeToString(h.Sum(nil)) }

// Chain is what a digest's hash goes through over a file.
type Chain struct {
	digest string
	size   int64
	states []byte // those between chunks: after the first, the second...
}

// Chunks is how many chunks a file of so many bytes has: one if it is empty.
func Chunks(size int64) int { return max(1, int((size+ChunkLen-1)/ChunkLen)) }

// StatesLen is how long the states of a file are; the digest is valid.
func StatesLen(digest string, size int64) int {
	return (Chunks(size) - 1) * algorithmOf(digest).stateLen
}

// Parse takes states from anyone. That their number is right is all that is
// known of them.
func Parse(digest string, size int64, states []byte) (Chain, error) {
	if err := CheckDigest(digest); err != nil {
		return Chain{}, err
	}
	if size < 0 || len(states) != StatesLen(digest, size) {
		return Chain{}, fmt.Errorf("%w: %d bytes of states for a file of %d bytes", ErrInvalid, len(states), size)
	}
	return Chain{digest, size, states}, nil
}

// Sum reads all of r: its digest by the algorithm that digest has, and its
// chain. The digest is the caller's to compare.
func Sum(r io.Reader, digest string) (string, Chain, error) {
	if err := CheckDigest(digest); err != nil {
		return "", Chain{}, err
	}
	a := algorithmOf(digest)
	h := a.fresh()
	c := Chain{}
	buffer := make([]byte, 256<<10)
	for {
		part := io.LimitReader(r, ChunkLen)
		n, err := io.CopyBuffer(struct{ io.Writer }{h}, part, buffer)
		if err != nil {
			return "", Chain{}, err
		}
		c.size += n
		if n < ChunkLen {
			break
		}
		c.states = append(c.states, a.state(h)...)
	}
	if c.size > 0 && c.size%ChunkLen == 0 { // the end is no boundary
		c.states = c.states[:len(c.states)-a.stateLen]
	}
	c.digest = a.digest(h)
	return c.digest, c, nil
}

func (c Chain) Digest() string { return c.digest }
func (c Chain) Size() int64    { return c.size }
func (c Chain) Chunks() int    { return Chunks(c.size) }
func (c Chain) States() []byte { return c.states }

// Span is where chunk i lies.
func (c Chain) Span(i int) (offset int64, length int) { return Span(c.size, i) }

// Span is where chunk i of a file of so many bytes lies.
func Span(size int64, i int) (offset int64, length int) {
	offset = int64(i) * ChunkLen
	return offset, int(min(ChunkLen, size-offset))
}

// before is the state in which chunk i begins; nil for the first.
func (c Chain) before(i int) []byte {
	if i == 0 {
		return nil
	}
	n := algorithmOf(c.digest).stateLen
	return c.states[(i-1)*n : i*n]
}

// Check says whether data takes the chain from chunk i to the next: ErrWrong if
// not. For the last one it must give the digest.
func (c Chain) Check(i int, data []byte) error {
	if i < 0 || i >= c.Chunks() {
		return fmt.Errorf("chunk %d of %d: %w", i, c.Chunks(), ErrWrong)
	}
	offset, length := c.Span(i)
	if len(data) != length {
		return fmt.Errorf("chunk %d: %w: %d bytes, not %d", i, ErrWrong, len(data), length)
	}
	a := algorithmOf(c.digest)
	h, err := a.resume(c.before(i), offset)
	if err != nil {
		return fmt.Errorf("chunk %d: %w", i, err)
	}
	h.Write(data) // never fails
	right := false
	if i == c.Chunks()-1 {
		right = a.digest(h) == c.digest
	} else {
		right = bytes.Equal(a.state(h), c.before(i+1))
	}
	if !right {
		return fmt.Errorf("chunk %d: %w", i, ErrWrong)
	}
	return nil
}

// Differ is the last chunk that begins in different states in two chains of one
// digest and size; -1 when they are the same. It ends in the same state in
// both, so at most one of them can have bytes that fit.
func (c Chain) Differ(other Chain) int {
	if len(c.states) > 0 && len(c.states) == len(other.states) && &c.states[0] == &other.states[0] { // the same one: quick
		return -1
	}
	for i := c.Chunks() - 1; i > 0; i-- {
		if !bytes.Equal(c.before(i), other.before(i)) {
			return i
		}
	}
	return -1
}
