package artifact

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/store/chain"
)

// readOut reads all of r, which gives out nothing but what file begins with.
func readOut(t *testing.T, r io.Reader, file []byte) (n int, err error) {
	t.Helper()
	buffer := make([]byte, 100_000)
	for err == nil {
		var k int
		k, err = r.Read(buffer)
		if n+k > len(file) || !bytes.Equal(buffer[:k], file[n:][:k]) {
			t.Fatalf("%d bytes from %d on are not those of the file", k, n)
		}
		n += k
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

// slowLinks puts each peer behind a link that takes so many bytes a second.
func (m *mesh) slowLinks(rate int64) {
	m.hosts = map[string]host{}
	for name := range m.peers {
		m.hosts[name] = host{&link{rate: rate}, &link{rate: rate}}
	}
}

// What two peers hold is read long before all of it is here, in order; it is here
// whole afterwards.
func TestReadWhileItComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		file := content(64*mib + 5)
		m.add("one", file)
		m.add("two", file)
		here := m.add("here")
		m.slowLinks(4 << 20)
		begin := time.Now()
		r, err := here.Read(t.Context(), digestOf(file), 0, []string{"one", "two"})
		if err != nil || r.Size() != int64(len(file)) {
			t.Fatal(r, err)
		}
		if _, err := io.ReadFull(r, make([]byte, 4*mib)); err != nil {
			t.Fatal(err)
		}
		early := time.Since(begin)
		n, err := readOut(t, r, file[4*mib:])
		took := time.Since(begin)
		if err := errors.Join(err, r.Close()); err != nil || n != len(file)-4*mib {
			t.Fatalf("%d bytes: %v", n, err)
		}
		t.Logf("4 of %d MiB were read after %v, all after %v", len(file)/mib, early, took)
		if early > took/4 {
			t.Errorf("a sixteenth was read after %v, all after %v", early, took)
		}
		m.holds("here", file)
	})
}

// What one peer alone vouches for is read once it is here whole; so is what is small,
// and what is here already. Nobody has what nobody has.
func TestReadWhatIsWhole(t *testing.T) {
	for _, size := range []int{0, 1, mib, 5*mib + 5} {
		m := newMesh(t)
		file := content(size)
		m.add("one", file)
		here := m.add("here")
		for range 2 {
			r, err := here.Read(t.Context(), digestOf(file), 0, []string{"one"})
			if err != nil {
				t.Fatal(err)
			}
			m.holds("here", file)
			if n, err := readOut(t, r, file); n != size || errors.Join(err, r.Close(), r.Close()) != nil || r.Size() != int64(size) {
				t.Errorf("%d of %d bytes: %v", n, size, err)
			}
		}
		if _, err := here.Read(t.Context(), digestOf([]byte("x")), 0, []string{"one"}); !errors.Is(err, ErrNoHolder) {
			t.Errorf("%v, want ErrNoHolder", err)
		}
		if len(here.readers)+len(here.underway) > 0 {
			t.Error("something is under way still")
		}
	}
}

// One peer that lies gets no byte of its own past the reader, whoever is asked first.
func TestReadPastALiar(t *testing.T) {
	file := content(12 * mib)
	other := flipped(file, mib/2)
	for _, holders := range [][]string{{"liar", "good"}, {"good", "liar"}, {"liar", "good", "better"}} {
		for _, chunks := range []bool{true, false} {
			t.Run(fmt.Sprint(holders, chunks), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					m := newMesh(t)
					l := honest(other)
					l.chain = lie(t, digestOf(file), other)
					if !chunks { // the right bytes, with another's chain
						l.chunk = honest(file).chunk
					}
					m.add("liar").serve = l.serve
					m.add("good", file)
					m.add("better", file)
					here := m.add("here")
					r, err := here.Read(t.Context(), digestOf(file), 0, holders)
					if err != nil {
						t.Fatal(err)
					}
					n, err := readOut(t, r, file)
					if err := errors.Join(err, r.Close()); err == nil && n != len(file) || err != nil && !errors.Is(err, ErrChanged) {
						t.Errorf("%d bytes, %v", n, err)
					}
				})
			})
		}
	}
}

// Two that lie together may have something else begun, and never ended.
func TestReadOfTwoLiars(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		file := content(12 * mib)
		other := flipped(file, mib/2)
		l := honest(other)
		l.chain = lie(t, digestOf(file), other)
		m.add("liar").serve = l.serve
		m.add("other liar").serve = l.serve
		here := m.add("here")
		r, err := here.Read(t.Context(), digestOf(file), 0, []string{"liar", "other liar"})
		if err != nil {
			return // found before anything was read
		}
		defer r.Close()
		all, err := io.ReadAll(r)
		if err == nil || len(all) > len(file)-mib {
			t.Errorf("%d bytes of something else, %v", len(all), err)
		}
	})
}

// When the holders die the reader is told; what came is kept, and the next one gets
// all of it. A reader that leaves ends the fetch.
func TestReadBrokenOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		file := content(16 * mib)
		m.add("one", file)
		m.add("two", file)
		here := m.add("here")
		m.slowLinks(2 << 20)
		holders := []string{"one", "two"}
		r, err := here.Read(t.Context(), digestOf(file), 0, holders)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(r, make([]byte, mib+1)); err != nil {
			t.Fatal(err)
		}
		m.cutOff("one")
		m.cutOff("two")
		if n, err := readOut(t, r, file[mib+1:]); err == nil || n >= 15*mib {
			t.Errorf("%d bytes, %v: nobody holds it", n, err)
		}
		_ = r.Close()
		m.heal("one")
		m.heal("two")

		ctx, leave := context.WithCancel(t.Context())
		if r, err = here.Read(ctx, digestOf(file), 0, holders); err != nil {
			t.Fatal(err)
		}
		leave()
		if _, err := readOut(t, r, file); !errors.Is(err, context.Canceled) {
			t.Errorf("read on after it was to end: %v", err)
		}
		if err := r.Close(); err != nil || len(here.underway) > 0 {
			t.Errorf("the fetch goes on: %v", err)
		}

		if r, err = here.Read(t.Context(), digestOf(file), 0, holders); err != nil {
			t.Fatal(err)
		}
		n, err := readOut(t, r, file)
		if errors.Join(err, r.Close()) != nil || n != len(file) {
			t.Errorf("%d bytes, %v", n, err)
		}
		if got := here.Moved(); got.ResumedBytes < 2*mib {
			t.Errorf("what came before was not used: %+v", got)
		}
		m.holds("here", file)
	})
}

// More readers than there is memory for wait for the whole file.
func TestReadersAreBounded(t *testing.T) {
	m := newMesh(t)
	file := content(3 * mib)
	m.add("one", file)
	m.add("two", file)
	here := m.add("here")
	for range ReadersMax {
		here.readers <- struct{}{}
	}
	r, err := here.Read(t.Context(), digestOf(file), 0, []string{"one", "two"})
	if err != nil || r.f != nil {
		t.Fatal(r, err)
	}
	if n, err := readOut(t, r, file); n != len(file) || errors.Join(err, r.Close()) != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
}

// A file that rots while it is read is found at the chunk.
func TestReadOfWhatRots(t *testing.T) {
	m := newMesh(t)
	file := content(3 * mib)
	here := m.add("here", bytes.Clone(file))
	digest := digestOf(file)
	r, err := here.Read(t.Context(), digest, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadFull(r, make([]byte, mib)); err != nil {
		t.Fatal(err)
	}
	here.store.file(digest)[chain.ChunkLen+9] ^= 1
	if n, err := readOut(t, r, file[mib:]); err == nil || n > 0 {
		t.Errorf("%d bytes, %v", n, err)
	}
}
