package chain

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

// file is so many bytes that no two chunks of are alike.
func file(size int) []byte {
	data := make([]byte, size)
	seed := [32]byte{byte(size), byte(size >> 8), byte(size >> 16)}
	_, _ = rand.NewChaCha8(seed).Read(data)
	return data
}

func digests(data []byte) []string {
	a, b := sha256.Sum256(data), sha512.Sum512(data)
	return []string{"sha256:" + hex.EncodeToString(a[:]), "sha512:" + hex.EncodeToString(b[:])}
}

var sizes = []int{0, 1, 63, 64, 1000, ChunkLen - 1, ChunkLen, ChunkLen + 1, 2 * ChunkLen, 3*ChunkLen + 77}

func sum(t *testing.T, data []byte, digest string) Chain {
	t.Helper()
	got, c, err := Sum(bytes.NewReader(data), digest)
	if err != nil || got != digest {
		t.Fatalf("%d bytes: %s, want %s: %v", len(data), got, digest, err)
	}
	return c
}

func TestChunksAreToldRightFromWrong(t *testing.T) {
	for _, size := range sizes {
		data := file(size)
		for _, digest := range digests(data) {
			made := sum(t, data, digest)
			c, err := Parse(digest, int64(size), made.States())
			if err != nil || c.Size() != int64(size) || c.Digest() != digest {
				t.Fatalf("%d bytes of %.12s: %v", size, digest, err)
			}
			for i := range c.Chunks() {
				offset, length := c.Span(i)
				chunk := bytes.Clone(data[offset:][:length])
				if err := c.Check(i, chunk); err != nil {
					t.Errorf("%d bytes of %.12s, chunk %d: %v", size, digest, i, err)
				}
				if length == 0 {
					continue
				}
				chunk[length/2] ^= 1
				if err := c.Check(i, chunk); !errors.Is(err, ErrWrong) {
					t.Errorf("%d bytes of %.12s, chunk %d with one bit flipped: %v", size, digest, i, err)
				}
				chunk[length/2] ^= 1
				if err := c.Check(i, chunk[:length-1]); !errors.Is(err, ErrWrong) {
					t.Errorf("%d bytes of %.12s, chunk %d cut: %v", size, digest, i, err)
				}
				if err := c.Check((i+1)%c.Chunks(), chunk); c.Chunks() > 1 && !errors.Is(err, ErrWrong) {
					t.Errorf("%d bytes of %.12s, chunk %d in another's place: %v", size, digest, i, err)
				}
			}
			for _, i := range []int{-1, c.Chunks()} {
				if err := c.Check(i, nil); !errors.Is(err, ErrWrong) {
					t.Errorf("%d bytes of %.12s, chunk %d: %v", size, digest, i, err)
				}
			}
		}
	}
}

// Whoever gives wrong states is found: at the last place where they differ from
// the right ones, right bytes fit the right states and no others.
func TestWrongStatesAreFound(t *testing.T) {
	data := file(5*ChunkLen + 5)
	for _, digest := range digests(data) {
		c := sum(t, data, digest)
		for i := 1; i < c.Chunks(); i++ {
			states := bytes.Clone(c.States())
			n := len(states) / (c.Chunks() - 1)
			states[n*i-1] ^= 1 // of the state in which chunk i begins
			lie, err := Parse(digest, c.Size(), states)
			if err != nil {
				t.Fatal(err)
			}
			if at := c.Differ(lie); at != i || lie.Differ(c) != i {
				t.Errorf("%.12s: they differ at %d, want %d", digest, at, i)
			}
			offset, length := c.Span(i)
			if c.Check(i, data[offset:][:length]) != nil || !errors.Is(lie.Check(i, data[offset:][:length]), ErrWrong) {
				t.Errorf("%.12s: the wrong state before chunk %d is not found", digest, i)
			}
		}
		if at := c.Differ(c); at != -1 {
			t.Errorf("a chain differs from itself at %d", at)
		}
	}
}

// A file that is another one from end to end, with a chain of its own, breaks at
// the end: it does not give the digest.
func TestAnotherFileEndsElsewhere(t *testing.T) {
	data := file(3 * ChunkLen)
	other := bytes.Clone(data)
	other[0] ^= 1
	digest := digests(data)[0]
	_, made, err := Sum(bytes.NewReader(other), digest)
	if err != nil {
		t.Fatal(err)
	}
	lie, err := Parse(digest, made.Size(), made.States())
	if err != nil {
		t.Fatal(err)
	}
	if err := lie.Check(0, other[:ChunkLen]); err != nil {
		t.Errorf("its first chunk is consistent: %v", err)
	}
	if err := lie.Check(2, other[2*ChunkLen:]); !errors.Is(err, ErrWrong) {
		t.Errorf("its last chunk: %v", err)
	}
}

func TestWhatIsNoChain(t *testing.T) {
	good := digests(nil)[0]
	for _, bad := range []string{"", "sha256:", "sha256:../../x", strings.ToUpper(good), "md5:" + good[7:], "sha512:" + good[7:], good + "/"} {
		if ValidDigest(bad) {
			t.Errorf("%q passes for a digest", bad)
		}
		if _, err := Parse(bad, 0, nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
		if _, _, err := Sum(strings.NewReader(""), bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, size := range []int64{-1, 2 * ChunkLen, 3 * ChunkLen} {
		if _, err := Parse(good, size, nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("%d bytes without states: %v", size, err)
		}
	}
}
