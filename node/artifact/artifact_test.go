package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/transport"
)

// memory is a small store of files by digest that keeps what was written of
// an unfinished one.
type memory struct {
	mu    sync.Mutex
	files map[string][]byte
	parts map[string]*bytes.Buffer
}

func newMemory(files ...[]byte) *memory {
	m := &memory{files: map[string][]byte{}, parts: map[string]*bytes.Buffer{}}
	for _, f := range files {
		m.files[digestOf(f)] = f
	}
	return m
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func (m *memory) Has(d string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.files[d] != nil
}

type seeker struct{ *bytes.Reader }

func (seeker) Close() error { return nil }

func (m *memory) Open(d string) (io.ReadSeekCloser, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files[d] == nil {
		return nil, 0, errors.New("no such file")
	}
	return seeker{bytes.NewReader(m.files[d])}, int64(len(m.files[d])), nil
}

type part struct {
	*bytes.Buffer
	m      *memory
	digest string
}

func (m *memory) Create(_ context.Context, d string, _ int64) (Writer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.parts[d] == nil {
		m.parts[d] = &bytes.Buffer{}
	}
	return &part{m.parts[d], m, d}, nil
}

func (p *part) Offset() int64 { return int64(p.Len()) }
func (p *part) Close() error  { return nil }
func (p *part) Commit() error {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	delete(p.m.parts, p.digest)
	if digestOf(p.Bytes()) != p.digest {
		return errors.New("the bytes are not those of the digest")
	}
	p.m.files[p.digest] = p.Bytes()
	return nil
}

// limited breaks after so many bytes were read.
type limited struct {
	net.Conn
	left int
}

func (l *limited) Read(b []byte) (int, error) {
	if l.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := l.Conn.Read(b[:min(len(b), l.left)])
	l.left -= n
	return n, err
}

// serving makes a Mover whose peers are served from the given stores.
func serving(t *testing.T, local *memory, peers map[string]*memory, breakAfter map[string]int) *Mover {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	return New(local, func(ctx context.Context, peer string) (Stream, error) {
		if peers[peer] == nil {
			return nil, errors.New("unreachable")
		}
		here, there := net.Pipe()
		server := New(peers[peer], nil, log)
		go func() {
			defer there.Close()
			_ = server.Serve(context.Background(), there)
		}()
		if n, ok := breakAfter[peer]; ok {
			return &limited{here, n}, nil
		}
		return here, nil
	}, log)
}

func TestFetchTriesHoldersAndResumes(t *testing.T) {
	file := bytes.Repeat([]byte("hansa "), 100_000)
	local := newMemory()
	m := serving(t, local, map[string]*memory{"broken": newMemory(file), "good": newMemory(file), "empty": newMemory()},
		map[string]int{"broken": 300_000})
	if err := m.Fetch(t.Context(), digestOf(file), int64(len(file)), []string{"gone", "empty", "broken", "good"}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(local.files[digestOf(file)], file) {
		t.Fatal("the file did not arrive whole")
	}
	if got := m.Moved(); got.FetchedBytes != int64(len(file)) || got.Fetched != 1 {
		t.Fatalf("moved %+v; want each byte once, though one holder broke off", got)
	}
}

func TestFetchWithoutSizeResumes(t *testing.T) {
	file := bytes.Repeat([]byte("hansa "), 1000)
	local := newMemory()
	local.parts[digestOf(file)] = bytes.NewBuffer(append([]byte{}, file[:100]...))
	m := serving(t, local, map[string]*memory{"good": newMemory(file)}, nil)
	if err := m.Fetch(t.Context(), digestOf(file), 0, []string{"good"}); err != nil {
		t.Fatal(err)
	}
	if got := m.Moved().FetchedBytes; got != int64(len(file)-100) {
		t.Fatalf("fetched %d bytes; want only what was missing, %d", got, len(file)-100)
	}
}

func TestFetchRefusesWrongBytesAndUnknown(t *testing.T) {
	file := []byte("what was asked")
	liar := newMemory()
	liar.files[digestOf(file)] = []byte("something else")
	m := serving(t, newMemory(), map[string]*memory{"liar": liar}, nil)
	if err := m.Fetch(t.Context(), digestOf(file), int64(len(file)), []string{"liar"}); err == nil {
		t.Fatal("wrong bytes were taken for the artifact")
	}
	if err := m.Fetch(t.Context(), digestOf([]byte("x")), 0, nil); !errors.Is(err, ErrNoHolder) {
		t.Fatalf("no holder: %v; want ErrNoHolder", err)
	}
}

// trickle is a holder that answers, and then sends one byte every ten seconds.
func trickle(conn net.Conn, size int64) {
	defer conn.Close()
	var q request
	if transport.ReadFrame(conn, &q, frameMax) != nil || transport.WriteFrame(conn, answer{Size: size}) != nil {
		return
	}
	for range size {
		if _, err := conn.Write([]byte("h")); err != nil {
			return
		}
		<-time.After(10 * time.Second)
	}
}

// A holder that sends next to nothing, or nothing at all, holds up a fetch for
// a bounded time; then the next one serves it.
func TestFetchLeavesSlowHolders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := bytes.Repeat([]byte("hansa "), 100_000)
		local, good := newMemory(), newMemory(file)
		var servers sync.WaitGroup
		defer servers.Wait()
		m := New(local, func(ctx context.Context, peer string) (Stream, error) {
			here, there := net.Pipe()
			switch peer {
			case "unreachable":
				<-ctx.Done()
				return nil, ctx.Err()
			case "silent": // takes the request
				servers.Go(func() { _, _ = io.Copy(io.Discard, there) })
			case "slow":
				servers.Go(func() { trickle(there, int64(len(file))) })
			default:
				servers.Go(func() {
					defer there.Close()
					_ = New(good, nil, slog.New(slog.DiscardHandler)).Serve(context.Background(), there)
				})
			}
			return here, nil
		}, slog.New(slog.DiscardHandler))
		begin := time.Now()
		if err := m.Fetch(t.Context(), digestOf(file), int64(len(file)), []string{"unreachable", "silent", "slow", "good"}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begin); took > 3*stallMax {
			t.Errorf("it took %v; want at most %v", took, 3*stallMax)
		}
	})
}

// What an earlier try left behind may be torn, after a crash: one holder is
// enough all the same.
func TestFetchOverTornPart(t *testing.T) {
	file := bytes.Repeat([]byte("hansa "), 1000)
	local := newMemory()
	local.parts[digestOf(file)] = bytes.NewBuffer(make([]byte, 100))
	m := serving(t, local, map[string]*memory{"good": newMemory(file)}, nil)
	if err := m.Fetch(t.Context(), digestOf(file), int64(len(file)), []string{"good"}); err != nil {
		t.Fatal(err)
	}
}

// Callers of one digest share a fetch; but one caller's end, or its want of
// holders, is not another's.
func TestFetchIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := []byte("hansa")
		local, good := newMemory(), newMemory(file)
		opened := 0
		m := New(local, func(ctx context.Context, peer string) (Stream, error) {
			if peer == "hangs" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			opened++
			here, there := net.Pipe()
			go func() {
				defer there.Close()
				_ = New(good, nil, slog.New(slog.DiscardHandler)).Serve(context.Background(), there)
			}()
			return here, nil
		}, slog.New(slog.DiscardHandler))
		first, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := m.Fetch(first, digestOf(file), 0, []string{"hangs"}); !errors.Is(err, context.Canceled) {
				t.Errorf("the first: %v", err)
			}
		})
		synctest.Wait()
		for range 3 {
			wg.Go(func() {
				if err := m.Fetch(t.Context(), digestOf(file), 0, []string{"good"}); err != nil {
					t.Errorf("another: %v", err)
				}
			})
		}
		synctest.Wait()
		cancel()
		wg.Wait()
		if opened != 1 {
			t.Errorf("fetched %d times", opened)
		}
	})
}

func FuzzServe(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 0xa0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		here, there := net.Pipe()
		go func() {
			_, _ = here.Write(data)
			here.Close()
		}()
		go func() { _, _ = io.Copy(io.Discard, here) }()
		// Whatever a peer sends, serving it ends and does not panic.
		_ = New(newMemory(), nil, slog.New(slog.DiscardHandler)).Serve(t.Context(), there)
		there.Close()
	})
}
