package artifact

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/store/chain"
	"github.com/hansa-mesh/hansa/transport"
)

const mib = chain.ChunkLen

// content is so many bytes that no two chunks of are alike.
func content(size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

// one is what every digest of these tests has in common with each other.
const one = "sha256:0000000000000000000000000000000000000000000000000000000000000000"

func digestOf(data []byte) string {
	digest, _, err := chain.Sum(bytes.NewReader(data), one)
	if err != nil {
		panic(err)
	}
	return digest
}

// memory is a small store of files by digest that keeps what was written of
// an unfinished one.
type memory struct {
	mu      sync.Mutex
	files   map[string][]byte
	chains  map[string]chain.Chain
	parts   map[string]*part
	checked map[string]int
	unknown map[string]time.Duration // how long they take to be read through
	writing func(offset int64) error
}

func newMemory(files ...[]byte) *memory {
	m := &memory{
		files: map[string][]byte{}, chains: map[string]chain.Chain{}, parts: map[string]*part{},
		checked: map[string]int{}, unknown: map[string]time.Duration{},
	}
	for _, f := range files {
		digest, c, err := chain.Sum(bytes.NewReader(f), one)
		if err != nil {
			panic(err)
		}
		m.files[digest], m.chains[digest] = f, c
	}
	return m
}

func (m *memory) Has(d string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.files[d] != nil
}

func (m *memory) file(d string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.files[d]
}

func (m *memory) Known(d string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.unknown[d] == 0
}

type seeker struct{ *bytes.Reader }

func (seeker) Close() error { return nil }

func (m *memory) Open(d string) (File, chain.Chain, error) {
	m.mu.Lock()
	took := m.unknown[d]
	delete(m.unknown, d)
	m.mu.Unlock()
	<-time.After(took)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files[d] == nil {
		return nil, chain.Chain{}, errors.New("no such file")
	}
	return seeker{bytes.NewReader(m.files[d])}, m.chains[d], nil
}

func (m *memory) Check(d string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.checked[d]++
	if digestOf(m.files[d]) == d {
		return nil
	}
	delete(m.files, d)
	return errors.New("it has rotted")
}

// part is an unfinished file.
type part struct {
	m       *memory
	digest  string
	mu      sync.Mutex
	data    []byte
	written map[int64]bool // by offset
}

func (m *memory) Assemble(d string, size int64) (Assembly, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.parts[d]
	if p == nil || int64(len(p.data)) != size {
		p = &part{m: m, digest: d, data: make([]byte, size), written: map[int64]bool{}}
		m.parts[d] = p
	}
	return p, nil
}

func (p *part) ReadAt(b []byte, offset int64) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return copy(b, p.data[offset:]), nil
}

func (p *part) WriteAt(b []byte, offset int64) (int, error) {
	if p.m.writing != nil {
		if err := p.m.writing(offset); err != nil {
			return 0, err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.written[offset] = true
	return copy(p.data[offset:], b), nil
}

func (p *part) Written(offset int64, _ int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.written[offset]
}

func (p *part) Close() error { return nil }

func (p *part) Drop() error {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	delete(p.m.parts, p.digest)
	return nil
}

func (p *part) Commit() error {
	digest, c, err := chain.Sum(bytes.NewReader(p.data), one)
	if err != nil || digest != p.digest {
		return errors.New("the bytes are not those of the digest")
	}
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	delete(p.m.parts, p.digest)
	p.m.files[p.digest], p.m.chains[p.digest] = p.data, c
	return nil
}

// mesh is some peers, whose streams are pipes in memory.
type mesh struct {
	t      *testing.T
	ctx    context.Context
	peers  map[string]*peer
	serves sync.WaitGroup
	hosts  map[string]host                                 // nil: no bounds
	change func(from, to string, s Stream) (Stream, error) // may be nil

	mu   sync.Mutex // guards what follows
	cut  map[string]bool
	ends map[string][]*end
}

type peer struct {
	*Mover
	store *memory
	lied  map[string]int
	serve func(ctx context.Context, from string, s Stream) error
}

// newMesh makes a mesh whose streams end with the test.
func newMesh(t *testing.T) *mesh {
	ctx, cancel := context.WithCancel(t.Context())
	m := &mesh{t: t, ctx: ctx, peers: map[string]*peer{}, cut: map[string]bool{}, ends: map[string][]*end{}}
	t.Cleanup(func() { cancel(); m.serves.Wait() })
	return m
}

func (m *mesh) add(name string, files ...[]byte) *peer {
	p := &peer{store: newMemory(files...), lied: map[string]int{}}
	p.Mover = New(Config{
		Store: p.store, Log: slog.New(slog.DiscardHandler),
		Open: func(ctx context.Context, to string) (Stream, error) { return m.open(ctx, name, to) },
		Lied: func(who, _ string, _ error) { p.lied[who]++ },
	})
	p.serve = p.Serve
	m.peers[name] = p
	return p
}

func (m *mesh) open(ctx context.Context, from, to string) (Stream, error) {
	target := m.peers[to]
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cut[from] || m.cut[to] {
		return nil, errors.New("unreachable")
	}
	if to == "hangs" {
		m.mu.Unlock()
		defer m.mu.Lock()
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if target == nil {
		return nil, errors.New("unreachable")
	}
	var a, b host
	if m.hosts != nil {
		a, b = m.hosts[from], m.hosts[to]
	}
	here, there := pipe(a, b)
	for _, name := range []string{from, to} {
		m.ends[name] = append(m.ends[name], here)
	}
	m.serves.Go(func() {
		defer there.Close()
		_ = target.serve(m.ctx, from, there)
	})
	if m.change != nil {
		return m.change(from, to, here)
	}
	return here, nil
}

// cutOff breaks all streams of a peer, and lets none begin.
func (m *mesh) cutOff(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.cut[name] = true
	for _, e := range m.ends[name] {
		e.Close()
	}
	m.ends[name] = nil
}

func (m *mesh) heal(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.cut, name)
}

// holds says whether a peer has a file, which must be right.
func (m *mesh) holds(name string, file []byte) {
	m.t.Helper()
	if !bytes.Equal(m.peers[name].store.file(digestOf(file)), file) {
		m.t.Errorf("%s does not hold the file", name)
	}
}

// limited breaks after so many bytes were read.
type limited struct {
	Stream
	left int
}

func (l *limited) Read(b []byte) (int, error) {
	if l.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := l.Stream.Read(b[:min(len(b), l.left)])
	l.left -= n
	return n, err
}

func TestFetch(t *testing.T) {
	for _, size := range []int{0, 1, 1000, inlineMax, inlineMax + 1, mib, mib + 1, 5*mib + 5} {
		for _, told := range []bool{true, false} {
			m := newMesh(t)
			file := content(size)
			m.add("empty")
			m.add("good", file)
			here := m.add("here")
			saidSize := int64(0)
			if told {
				saidSize = int64(size)
			}
			if err := here.Fetch(t.Context(), digestOf(file), saidSize, []string{"gone", "empty", "good"}); err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
			m.holds("here", file)
			if got := here.Moved(); got.FetchedBytes != int64(size) || got.Fetched != 1 || got.Wrong != 0 {
				t.Errorf("%d bytes: moved %+v", size, got)
			}
			if got := m.peers["good"].Moved(); got.ServedBytes < int64(size) {
				t.Errorf("%d bytes: the holder served %+v", size, got)
			}
		}
	}
}

func TestFetchOfAnotherSize(t *testing.T) {
	m := newMesh(t)
	file := content(2 * mib)
	m.add("good", file)
	here := m.add("here")
	if err := here.Fetch(t.Context(), digestOf(file), int64(len(file))-1, []string{"good"}); err == nil {
		t.Error("a file of another size than was asked for was taken")
	}
	if err := here.Fetch(t.Context(), digestOf([]byte("x")), 0, nil); !errors.Is(err, ErrNoHolder) {
		t.Errorf("no holder: %v; want ErrNoHolder", err)
	}
	for _, digest := range []string{"", "sha256:../../x"} {
		if err := here.Fetch(t.Context(), digest, 0, []string{"good"}); !errors.Is(err, chain.ErrInvalid) {
			t.Errorf("%q: %v", digest, err)
		}
	}
}

// Chunks come from all holders; one that breaks off costs what it had under way.
func TestFetchFromSeveral(t *testing.T) {
	m := newMesh(t)
	file := content(40 * mib)
	for _, name := range []string{"a", "b", "c", "breaks"} {
		m.add(name, file)
	}
	m.change = func(_, to string, s Stream) (Stream, error) {
		if to == "breaks" {
			return &limited{s, 2*mib + 300_000}, nil
		}
		return s, nil
	}
	here := m.add("here")
	if err := here.Fetch(t.Context(), digestOf(file), int64(len(file)), []string{"breaks", "a", "b", "c"}); err != nil {
		t.Fatal(err)
	}
	m.holds("here", file)
	for name, p := range m.peers {
		if served := p.Moved().ServedBytes; name != "here" && served == 0 {
			t.Errorf("%s served nothing", name)
		}
	}
}

// What an earlier try left is looked through, and only what is not right of it
// is fetched.
func TestFetchIsResumed(t *testing.T) {
	m := newMesh(t)
	file := content(10 * mib)
	m.add("good", file)
	here := m.add("here")
	left, err := here.store.Assemble(digestOf(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{2, 3, 7} {
		chunk := bytes.Clone(file[i*mib:][:mib])
		if i == 3 { // torn
			clear(chunk[mib/2:])
		}
		if _, err := left.WriteAt(chunk, int64(i*mib)); err != nil {
			t.Fatal(err)
		}
	}
	if err := here.Fetch(t.Context(), digestOf(file), 0, []string{"good"}); err != nil {
		t.Fatal(err)
	}
	m.holds("here", file)
	if got := here.Moved(); got.FetchedBytes != 8*mib || got.ResumedBytes != 2*mib {
		t.Errorf("moved %+v; want 8 MiB fetched and 2 resumed", got)
	}
}

// A fetch that ends early keeps what came.
func TestFetchKeepsWhatCame(t *testing.T) {
	m := newMesh(t)
	file := content(10 * mib)
	m.add("good", file)
	here := m.add("here")
	ctx, cancel := context.WithCancel(t.Context())
	written := 0
	here.store.writing = func(int64) error {
		if written++; written == 4 {
			cancel()
		}
		return nil
	}
	if err := here.Fetch(ctx, digestOf(file), 0, []string{"good"}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if err := here.Fetch(t.Context(), digestOf(file), 0, []string{"good"}); err != nil {
		t.Fatal(err)
	}
	m.holds("here", file)
	if got := here.Moved(); got.ResumedBytes < 4*mib || got.FetchedBytes != int64(len(file)) {
		t.Errorf("moved %+v; want each byte once", got)
	}
}

// A disk that refuses ends a fetch at once, and says why.
func TestFetchSaysWhatTheDiskSays(t *testing.T) {
	m := newMesh(t)
	file := content(10 * mib)
	m.add("good", file)
	here := m.add("here")
	full := errors.New("the disk is full")
	here.store.writing = func(int64) error { return full }
	if err := here.Fetch(t.Context(), digestOf(file), 0, []string{"good"}); !errors.Is(err, full) {
		t.Error(err)
	}
}

// A disk that does not keep what is written to it has it fetched again.
func TestFetchOverADiskThatForgets(t *testing.T) {
	m := newMesh(t)
	file := content(4 * mib)
	m.add("good", file)
	here := m.add("here")
	forgot := false
	here.store.writing = func(offset int64) error {
		if p := here.store.parts[digestOf(file)]; len(p.written) == 3 && !forgot {
			forgot = true
			for at := range p.written {
				p.data[at] ^= 1
				break
			}
		}
		return nil
	}
	if err := here.Fetch(t.Context(), digestOf(file), 0, []string{"good"}); err != nil {
		t.Fatal(err)
	}
	m.holds("here", file)
	if !forgot || here.Moved().FetchedBytes != 5*mib {
		t.Errorf("moved %+v; want 5 MiB", here.Moved())
	}
}

// Callers of one digest share a fetch; but one caller's end is not another's,
// and who knows of other holders helps all.
func TestFetchIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		file := content(mib)
		good := m.add("good", file)
		here := m.add("here")
		first, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := here.Fetch(first, digestOf(file), 0, []string{"hangs"}); !errors.Is(err, context.Canceled) {
				t.Errorf("the first: %v", err)
			}
		})
		synctest.Wait()
		cancel()
		wg.Wait()
		first, cancel = context.WithCancel(t.Context())
		defer cancel()
		wg.Go(func() {
			if err := here.Fetch(first, digestOf(file), 0, []string{"hangs"}); err != nil {
				t.Errorf("the first: %v", err)
			}
		})
		for range 3 {
			wg.Go(func() {
				if err := here.Fetch(t.Context(), digestOf(file), 0, []string{"good"}); err != nil {
					t.Errorf("another: %v", err)
				}
			})
		}
		wg.Wait()
		if got := good.Moved().ServedBytes; got != int64(len(file)) {
			t.Errorf("%d bytes were served; want them once", got)
		}
	})
}

// trickle is a holder of some files that answers, and then sends one byte every ten
// seconds.
func trickle(files ...chain.Chain) func(context.Context, string, Stream) error {
	return func(ctx context.Context, _ string, s Stream) error {
		var c chain.Chain
		for {
			var q request
			if err := transport.ReadFrame(s, &q, frameMax); err != nil {
				return err
			}
			for _, f := range files {
				if f.Digest() == q.Digest { // in the first request
					c = f
				}
			}
			a := answer{Size: c.Size(), Whole: true}
			switch q.What {
			case askChain:
				a = answer{Size: c.Size(), Length: len(c.States())}
			case askChunk:
				a = answer{Length: mib}
			}
			if err := transport.WriteFrame(s, a); err != nil {
				return err
			}
			if q.What == askChain {
				if _, err := s.Write(c.States()); err != nil {
					return err
				}
			}
			for i := 0; q.What == askChunk && i < mib; i++ {
				if _, err := s.Write([]byte("h")); err != nil {
					return err
				}
				select {
				case <-time.After(10 * time.Second):
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
	}
}

// A holder that is unreachable, silent, or sends next to nothing costs less than
// a second: others are asked as well.
func TestDeadHolderCostsUnderASecond(t *testing.T) {
	file := content(20 * mib)
	c := newMemory(file).chains[digestOf(file)]
	for _, bad := range []string{"hangs", "gone", "silent", "slow"} {
		synctest.Test(t, func(t *testing.T) {
			m := newMesh(t)
			m.add("good", file)
			m.add("silent", file).serve = func(ctx context.Context, _ string, s Stream) error {
				_, err := io.Copy(io.Discard, s) // takes the requests
				return err
			}
			m.add("slow").serve = trickle(c)
			here := m.add("here")
			begin := time.Now()
			if err := here.Fetch(t.Context(), digestOf(file), int64(len(file)), []string{bad, "good"}); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); took > 900*time.Millisecond {
				t.Errorf("%s: it took %v", bad, took)
			}
			m.holds("here", file)
		})
	}
}

// With nobody else to ask a slow holder is given up after a while.
func TestSlowHoldersAloneAreGivenUp(t *testing.T) {
	file := content(3 * mib)
	c := newMemory(file).chains[digestOf(file)]
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		m.add("slow").serve = trickle(c)
		here := m.add("here")
		begin := time.Now()
		if err := here.Fetch(t.Context(), digestOf(file), 0, []string{"hangs", "slow"}); !errors.Is(err, ErrNoHolder) {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 4*stallMax {
			t.Errorf("it took %v; want at most %v", took, 4*stallMax)
		}
	})
}

// A large file is read through before it is served first: who asks waits for it.
func TestHolderThatReadsItsFileFirst(t *testing.T) {
	file := content(3 * mib)
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		m.add("good", file).store.unknown[digestOf(file)] = 3 * stallMax
		here := m.add("here")
		if err := here.Fetch(t.Context(), digestOf(file), 0, []string{"good"}); err != nil {
			t.Fatal(err)
		}
		m.holds("here", file)
	})
}

func FuzzServe(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 0xa0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	var seed bytes.Buffer
	file := content(1000)
	for _, what := range []string{askHave, askChain, askChunk} {
		if err := transport.WriteFrame(&seed, request{Digest: digestOf(file), What: what, Chunk: 7}); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(seed.Bytes())
	f.Fuzz(func(t *testing.T, data []byte) {
		here, there := net.Pipe()
		go func() {
			_, _ = here.Write(data)
			here.Close()
		}()
		go func() { _, _ = io.Copy(io.Discard, here) }()
		// Whatever a peer sends, serving it ends and does not panic.
		_ = New(Config{Store: newMemory(file), Log: slog.New(slog.DiscardHandler)}).Serve(t.Context(), "someone", there)
		there.Close()
	})
}
