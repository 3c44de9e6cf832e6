package disk

import (
	"bytes"
	"context"
	_ "crypto/sha512" // a digest of it is refused
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/zstd"
	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// shelf keeps layers in memory.
type shelf struct {
	mu   sync.Mutex // guards data
	data map[digests.Digest][]byte
	sent int64 // bytes of the layers that were not there
}

func newShelf() *shelf { return &shelf{data: map[digests.Digest][]byte{}} }

func (s *shelf) keep(_ context.Context, layer ocispec.Descriptor, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.data[layer.Digest] == nil {
		s.sent += layer.Size
		s.data[layer.Digest] = data
	}
	return nil
}

func (s *shelf) open(_ context.Context, layer ocispec.Descriptor) (io.ReadCloser, error) {
	data, ok := s.data[layer.Digest]
	if !ok {
		return nil, os.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// content is bytes that compress as files do: words, with noise between.
func content(seed uint64, size int) []byte {
	rnd := rand.New(rand.NewPCG(seed, seed))
	words := make([][]byte, 512)
	for i := range words {
		words[i] = fmt.Appendf(nil, "%x-%d ", rnd.Uint64()>>rnd.IntN(50), i)
	}
	out := make([]byte, 0, size+64)
	for len(out) < size {
		if rnd.IntN(4) == 0 {
			out = fmt.Appendf(out, "%d", rnd.Uint64())
		}
		out = append(out, words[rnd.IntN(len(words))]...)
	}
	return out[:size]
}

func cut(t testing.TB, s *shelf, data []byte) (Index, []ocispec.Descriptor) {
	t.Helper()
	x, layers, err := Cut(t.Context(), bytes.NewReader(data), int64(len(data)), s.keep)
	if err != nil {
		t.Fatal(err)
	}
	return x, layers
}

func join(t testing.TB, s *shelf, x Index, layers []ocispec.Descriptor) ([]byte, error) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := x.Join(t.Context(), layers, s.open, f); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return data, nil
}

func TestDiskComesBack(t *testing.T) {
	hollow := make([]byte, 40<<20)
	copy(hollow[5<<20:], content(1, 3<<20))
	copy(hollow[20<<20:], content(1, 3<<20)) // the same again
	cases := map[string][]byte{
		"a byte":      {7},
		"a zero":      {0},
		"all zeros":   make([]byte, 3<<20+1),
		"words":       content(2, 6<<20+13),
		"with holes":  hollow,
		"ends in one": append(content(3, 1<<20), make([]byte, 9<<20)...),
	}
	for name, data := range cases {
		t.Run(name, func(t *testing.T) {
			s := newShelf()
			x, layers := cut(t, s, data)
			text, err := json.Marshal(x)
			if err != nil {
				t.Fatal(err)
			}
			if x, err = Parse(text, layers); err != nil {
				t.Fatal(err)
			}
			got, err := join(t, s, x, layers)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, data) {
				t.Error("it came back as something else")
			}
			again, sameLayers := cut(t, newShelf(), data)
			if !slices.Equal(again.Chunks, x.Chunks) || len(layers) > 0 && layers[0].Digest != sameLayers[0].Digest {
				t.Error("cut again it is made of other chunks")
			}
		})
	}
}

// What has moved, as clusters of a qcow2 file do, is not sent again, and a change
// of a little is a little.
func TestChangeShipsLittle(t *testing.T) {
	if testing.Short() {
		t.Skip("three disks are cut where one shows the same races; not with -short")
	}
	s := newShelf()
	data := content(4, 32<<20)
	cut(t, s, data)
	whole := s.sent
	changed := slices.Clone(data)
	copy(changed[9<<20:], content(5, 1<<20))
	s.sent = 0
	cut(t, s, changed)
	if s.sent > whole/8 {
		t.Errorf("1 MiB of 32 was written over, and %d of %d bytes are sent", s.sent, whole)
	}
	moved := slices.Concat(content(6, 192<<10), data)
	s.sent = 0
	cut(t, s, moved)
	if s.sent > whole/16 {
		t.Errorf("it has moved by 192 KiB, and %d of %d bytes are sent", s.sent, whole)
	}
}

func TestLargeDisksFitAManifest(t *testing.T) {
	for size := int64(1); size <= SizeMax; size *= 2 {
		average, _ := averageOf(size)
		if n := size / int64(average/2); n > layersMax {
			t.Errorf("a disk of %d bytes may have %d chunks, and %d fit", size, n, layersMax)
		}
		if 4*average > chunkMax && average > chunkMax {
			t.Errorf("a disk of %d bytes has chunks of %d", size, average)
		}
	}
}

// packed is a layer of bytes, and keeps it.
func (s *shelf) packed(data []byte) ocispec.Descriptor {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	out := w.EncodeAll(data, nil)
	layer := ocispec.Descriptor{MediaType: ChunkType, Digest: digests.FromBytes(out), Size: int64(len(out))}
	s.data[layer.Digest] = out
	return layer
}

func TestWrongDisksAreRefused(t *testing.T) {
	s := newShelf()
	good, bomb := s.packed([]byte("good bytes")), s.packed(make([]byte, 30<<20))
	noise := ocispec.Descriptor{MediaType: ChunkType, Digest: digests.FromString("noise"), Size: 5}
	s.data[noise.Digest] = []byte("noise")
	cutShort := s.packed(content(9, 1<<20))
	s.data[cutShort.Digest] = s.data[cutShort.Digest][:cutShort.Size/2]
	sum := digests.FromString("good bytes")
	one := func(size int64) []Chunk { return []Chunk{{Layer: 0, Size: size}} }
	cases := map[string]struct {
		x     Index
		layer ocispec.Descriptor
		says  string
	}{
		"inflates to more":      {Index{10, sum, one(10)}, bomb, "more than the 10 bytes"},
		"inflates to less":      {Index{1 << 20, sum, one(1 << 20)}, good, "can't be read to its end"},
		"is no zstd":            {Index{10, sum, one(10)}, noise, "can't be read to its end"},
		"is cut short":          {Index{1 << 20, sum, one(1 << 20)}, cutShort, "can't be read to its end"},
		"has another digest":    {Index{10, digests.FromString("other"), one(10)}, good, "should be"},
		"is too long":           {Index{SizeMax + 1, sum, []Chunk{{zeros, SizeMax + 1}}}, good, "at most"},
		"has no bytes":          {Index{0, sum, nil}, good, "0 bytes"},
		"adds up to less":       {Index{11, sum, one(10)}, good, "1 bytes short"},
		"adds up to more":       {Index{9, sum, one(10)}, good, "chunk 0 has 10 bytes"},
		"overflows":             {Index{10, sum, []Chunk{{zeros, 5}, {zeros, 1<<63 - 1}}}, good, "chunk 1 has"},
		"has a negative chunk":  {Index{10, sum, []Chunk{{zeros, -5}, {zeros, 15}}}, good, "chunk 0 has -5"},
		"has a layer too few":   {Index{10, sum, []Chunk{{1, 10}}}, good, "there are 1"},
		"has a layer below all": {Index{10, sum, []Chunk{{-2, 10}}}, good, "layer -2"},
		"has a huge chunk":      {Index{chunkMax + 1, sum, one(chunkMax + 1)}, good, "chunk 0 has"},
		"has another algorithm": {Index{10, digests.SHA512.FromString("good bytes"), one(10)}, good, "no sha256"},
		"has another layer":     {Index{10, sum, one(10)}, ocispec.Descriptor{MediaType: "text/plain", Digest: good.Digest, Size: good.Size}, "no chunk"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := join(t, s, c.x, []ocispec.Descriptor{c.layer})
			if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("it is %v, and should be ErrInvalid and say %q", err, c.says)
			}
		})
	}
	if _, err := Parse([]byte(`{"size":`), nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("half an index is %v", err)
	}
	if _, err := Parse(make([]byte, IndexMax+1), nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("an endless index is %v", err)
	}
}

// What could not be read is no wrong disk: it may be tried again.
func TestUnreadableIsNotWrong(t *testing.T) {
	s := newShelf()
	x, layers := cut(t, s, content(7, 1<<20))
	broken := errors.New("the disk is gone")
	f, err := os.Create(filepath.Join(t.TempDir(), "disk"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = x.Join(t.Context(), layers, func(context.Context, ocispec.Descriptor) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader("\x28\xb5\x2f\xfd"), failing{broken})), nil
	}, f)
	if !errors.Is(err, broken) || errors.Is(err, ErrInvalid) {
		t.Errorf("it is %v", err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestCutEndsWithWhatFails(t *testing.T) {
	full := errors.New("no space left")
	data := content(8, 8<<20)
	_, _, err := Cut(t.Context(), bytes.NewReader(data), int64(len(data)), func(context.Context, ocispec.Descriptor, []byte) error { return full })
	if !errors.Is(err, full) {
		t.Errorf("it is %v", err)
	}
	for _, size := range []int64{int64(len(data)) - 1, int64(len(data)) + 1} {
		if _, _, err := Cut(t.Context(), bytes.NewReader(data), size, newShelf().keep); err == nil || !strings.Contains(err.Error(), "written to") {
			t.Errorf("a disk of another size than was said: %v", err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"size":10,"digest":"sha256:`+strings.Repeat("0", 64)+`","chunks":[{"layer":0,"size":10}]}`), int64(20))
	f.Fuzz(func(t *testing.T, data []byte, size int64) {
		layers := []ocispec.Descriptor{{MediaType: ChunkType, Size: size}}
		x, err := Parse(data, layers)
		if err != nil {
			return
		}
		var sum int64
		for _, c := range x.Chunks {
			sum += c.Size
		}
		if sum != x.Size || x.Size > SizeMax {
			t.Errorf("%d bytes in chunks of a disk of %d", sum, x.Size)
		}
	})
}
