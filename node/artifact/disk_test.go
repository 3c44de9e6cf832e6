package artifact

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"

	"github.com/hansa-mesh/hansa/store"
	"github.com/hansa-mesh/hansa/store/chain"
)

// onDisk is the store that daemons have.
type onDisk struct{ *store.Blobs }

func (d onDisk) Open(digest string) (File, chain.Chain, error) { return d.OpenChain(digest) }

func (d onDisk) Assemble(digest string, size int64) (Assembly, error) {
	return d.Blobs.Assemble(digest, size)
}

// daemon is a Mover over a store on disk, until the returned end.
func (m *mesh) daemon(name, dir string) (p *peer, end func()) {
	m.t.Helper()
	s, err := store.Open(store.Config{Dir: dir})
	if err != nil {
		m.t.Fatal(err)
	}
	p = m.add(name)
	p.Mover.cfg.Store = onDisk{s.Blobs()}
	return p, func() {
		if err := s.Close(); err != nil {
			m.t.Error(err)
		}
	}
}

// A daemon that was stopped in the middle of a fetch goes on where it was: what
// it has on disk is not fetched again, but for what a crash has torn.
func TestRestartInTheMiddle(t *testing.T) {
	file := content(12*mib + 1)
	digest := digestOf(file)
	m := newMesh(t)
	m.add("good", file)
	dir := t.TempDir()
	here, end := m.daemon("here", dir)
	ctx, cancel := context.WithCancel(t.Context())
	here.Mover.cfg.Store = watched{here.Mover.cfg.Store, func(chunks int) {
		if chunks == 6 {
			cancel()
		}
	}}
	if err := here.Fetch(ctx, digest, 0, []string{"good"}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	came := here.Moved().FetchedBytes
	end()

	here, end = m.daemon("here", dir)
	defer end()
	if err := here.Fetch(t.Context(), digest, 0, []string{"good"}); err != nil {
		t.Fatal(err)
	}
	got := here.Moved()
	if came == 0 || got.ResumedBytes != came || got.FetchedBytes+came != int64(len(file)) {
		t.Errorf("%d bytes came before the restart; %+v", came, got)
	}
	path, err := here.Mover.cfg.Store.(onDisk).Verified(digest)
	if err != nil {
		t.Fatal(err)
	}
	if on, err := os.ReadFile(path); err != nil || !bytes.Equal(on, file) {
		t.Errorf("the file on disk is another: %v", err)
	}
}

// watched tells how many chunks were written.
type watched struct {
	Store
	wrote func(chunks int)
}

type watchedPart struct {
	Assembly
	wrote func()
}

func (w watched) Assemble(digest string, size int64) (Assembly, error) {
	a, err := w.Store.Assemble(digest, size)
	n := 0
	return watchedPart{a, func() { n++; w.wrote(n) }}, err
}

func (w watchedPart) WriteAt(p []byte, offset int64) (int, error) {
	n, err := w.Assembly.WriteAt(p, offset)
	w.wrote()
	return n, err
}

// A file that rots on a peer's disk is found when it is asked for, put aside and
// told of; the peer heals it from another.
func TestRotOnDisk(t *testing.T) {
	file := content(5 * mib)
	digest := digestOf(file)
	m := newMesh(t)
	m.add("good", file)
	told := 0
	s, err := store.Open(store.Config{Dir: t.TempDir(), Rotten: func(d string, _ error) {
		if d == digest {
			told++
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rotten := m.add("rotten")
	rotten.Mover.cfg.Store = onDisk{s.Blobs()}
	if err := rotten.Fetch(t.Context(), digest, 0, []string{"good"}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(s.Blobs().Path(digest))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Blobs().Path(digest), flipped(file, 3*mib), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(s.Blobs().Path(digest), info.ModTime(), info.ModTime()); err != nil { // a disk tells nobody
		t.Fatal(err)
	}
	here := m.add("here")
	if err := here.Fetch(t.Context(), digest, 0, []string{"rotten"}); !errors.Is(err, ErrNoHolder) || here.Moved().Wrong > 0 {
		t.Errorf("%v, %+v", err, here.Moved())
	}
	if told != 1 || s.Blobs().Has(digest) {
		t.Errorf("told %d times", told)
	}
	if err := rotten.Fetch(t.Context(), digest, 0, []string{"good"}); err != nil {
		t.Fatal(err)
	}
	if err := here.Fetch(t.Context(), digest, 0, []string{"rotten"}); err != nil {
		t.Fatal(err)
	}
	m.holds("here", file)
}
