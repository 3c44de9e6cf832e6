package table

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// memoryLog is a log in memory that can be told to fail, after or before what
// it was given reached it, and that takes some time.
type memoryLog struct {
	mu      sync.Mutex
	entries map[string][]byte
	fail    error
	reaches bool // failing writes reach the disk all the same
	syncs   int
	takes   time.Duration
}

func newLog() *memoryLog { return &memoryLog{entries: map[string][]byte{}} }

func (l *memoryLog) Load(fn func(string, []byte) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for k, v := range l.entries {
		if err := fn(k, v); err != nil {
			return err
		}
	}
	return nil
}

func (l *memoryLog) Apply(_ context.Context, writes []Write) error {
	if l.takes > 0 {
		time.Sleep(l.takes)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.syncs++
	if l.fail != nil && !l.reaches {
		return l.fail
	}
	for _, w := range writes {
		if l.entries[w.Key] = w.Value; w.Value == nil {
			delete(l.entries, w.Key)
		}
	}
	return l.fail
}

func (l *memoryLog) set(fail error, reaches bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail, l.reaches = fail, reaches
}

func open(t testing.TB, self string, log Log) *Replica {
	t.Helper()
	r, err := Open(ReplicaConfig{Table: Config{Name: "test", Self: self, Incarnation: 1}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRumourOnlyAfterDurable(t *testing.T) {
	log := newLog()
	r := open(t, "a", log)
	var sent [][]byte
	r.SetPublish(func(b []byte) { sent = append(sent, b) })
	full := errors.New("disk full")
	log.set(full, false)
	if err := r.Put(t.Context(), "k", []byte("1")); !errors.Is(err, full) {
		t.Fatalf("error %v", err)
	}
	if _, ok := r.Get("k"); ok || len(sent) != 0 {
		t.Fatalf("a refused write is readable (%v) or was sent (%d)", ok, len(sent))
	}
	log.set(nil, false)
	if err := r.Put(t.Context(), "k", []byte("2")); err != nil || len(sent) != 1 {
		t.Fatalf("after recovery: %v, sent %d", err, len(sent))
	}
}

// TestFailureThatReachedTheLog: an error may hide a success. What the caller
// was told failed must not come back after the next batch and a restart.
func TestFailureThatReachedTheLog(t *testing.T) {
	log := newLog()
	r := open(t, "a", log)
	if err := r.Put(t.Context(), "k", []byte("1")); err != nil {
		t.Fatal(err)
	}
	log.set(errors.New("timeout"), true)
	if err := r.Put(t.Context(), "k", []byte("2")); err == nil {
		t.Fatal("no error")
	}
	if _, err := r.Remove(t.Context(), "k"); err == nil {
		t.Fatal("no error")
	}
	log.set(nil, false)
	if err := r.Put(t.Context(), "other", nil); err != nil {
		t.Fatal(err)
	}
	again := open(t, "a", log)
	if v, _ := again.Get("k"); string(v) != "1" || again.Hash() != r.Hash() {
		t.Errorf("after a restart k is %q", v)
	}
}

func TestGroupCommit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		log.takes = time.Millisecond
		r := open(t, "a", log)
		changed := map[string]bool{}
		var mu sync.Mutex
		defer r.OnChange(func(keys []string) {
			mu.Lock()
			defer mu.Unlock()
			for _, k := range keys {
				changed[k] = true
			}
		})()
		start := time.Now()
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				for j := range 10 {
					if err := r.Put(t.Context(), fmt.Sprint(i, "/", j), nil); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if took := time.Since(start); r.Len() != 640 || log.syncs > 30 || took > 30*time.Millisecond {
			t.Errorf("%d keys in %d syncs, %v", r.Len(), log.syncs, took)
		}
		mu.Lock()
		defer mu.Unlock()
		if len(changed) != 640 {
			t.Errorf("%d keys were reported", len(changed))
		}
	})
}

func TestAbandonedWritesLeaveNothingStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := newLog()
		log.takes = time.Second
		r := open(t, "a", log)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*100*time.Millisecond)
				defer cancel()
				_ = r.Put(ctx, fmt.Sprint(i), nil) // whether it was in time is not the point
			})
		}
		wg.Wait()
		if err := r.Put(t.Context(), "last", nil); err != nil {
			t.Fatal(err)
		}
		if again := open(t, "a", log); again.Hash() != r.Hash() {
			t.Error("log and memory differ")
		}
	})
}

func TestWatcherMayWrite(t *testing.T) {
	r := open(t, "a", newLog())
	defer r.OnChange(func(keys []string) {
		if slices.Contains(keys, "cause") {
			if err := r.Put(context.Background(), "effect", nil); err != nil {
				t.Error(err)
			}
		}
	})()
	if err := r.Put(t.Context(), "cause", nil); err != nil {
		t.Fatal(err)
	}
	if _, ok := r.Get("effect"); !ok {
		t.Error("no effect")
	}
}

// only finds one replica.
func only(r *Replica) func(string) (*Replica, bool) {
	return func(name string) (*Replica, bool) { return r, name == r.Name() }
}

func syncOver(t testing.TB, a, b *Replica, ca, cb net.Conn) (SyncStats, SyncStats, error) {
	t.Helper()
	var statsB SyncStats
	var errB error
	done := make(chan struct{})
	go func() {
		defer close(done)
		errB = Serve(context.Background(), cb, only(b), func(s SyncStats, _ error) { statsB = s })
	}()
	statsA, errA := a.Sync(context.Background(), ca)
	_ = ca.Close() // there is no other table
	<-done
	return statsA, statsB, errors.Join(errA, errB)
}

func TestSyncOverAStream(t *testing.T) {
	logA, logB := newLog(), newLog()
	a, b := open(t, "a", logA), open(t, "b", logB)
	for i := range 2000 {
		if err := a.Put(t.Context(), fmt.Sprint("a", i), make([]byte, 500)); err != nil {
			t.Fatal(err)
		}
		if err := b.Put(t.Context(), fmt.Sprint("b", i), make([]byte, 500)); err != nil {
			t.Fatal(err)
		}
	}
	ca, cb := net.Pipe()
	sa, sb, err := syncOver(t, a, b, ca, cb)
	if err != nil || a.Hash() != b.Hash() || a.Len() != 4000 {
		t.Fatalf("%v: %+v %+v", err, sa, sb)
	}
	if open(t, "b", logB).Hash() != a.Hash() || open(t, "a", logA).Hash() != a.Hash() {
		t.Error("what was exchanged is not durable")
	}
}

// brokenAfter is a stream that breaks after some bytes were written to it.
type brokenAfter struct {
	net.Conn
	left int
}

func (b *brokenAfter) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		_ = b.Close()
		return 0, errors.New("cut")
	}
	return b.Conn.Write(p)
}

// TestSyncResumes: a stream that breaks again and again gets everything
// across, because what was applied stays.
func TestSyncResumes(t *testing.T) {
	log := newLog()
	a, b := open(t, "a", log), open(t, "b", newLog())
	for i := range 1000 {
		if err := b.Put(t.Context(), fmt.Sprint(i), make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	last := 0
	for tries := 0; a.Hash() != b.Hash(); tries++ {
		if tries > 20 {
			t.Fatalf("no progress: %d keys", a.Len())
		}
		ca, cb := net.Pipe()
		_, _, err := syncOver(t, a, b, ca, &brokenAfter{cb, 200_000})
		if err != nil && a.Len() <= last {
			t.Fatalf("a broken stream made no progress at %d keys", last)
		}
		last = a.Len()
		a = open(t, "a", log) // and a restart between
	}
}

func TestSyncEndsWithItsContext(t *testing.T) {
	a := open(t, "a", newLog())
	ca, _ := net.Pipe()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := a.Sync(ctx, ca); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
}

// TestStallsAreEnded: whoever opens or answers an exchange and then says
// nothing, or a byte now and then, holds up nobody for long.
func TestStallsAreEnded(t *testing.T) {
	silent := func(net.Conn) {}
	cut := func(c net.Conn) { _, _ = c.Write([]byte{0, 0, 1, 0, 0xa0}) }
	drip := func(c net.Conn) {
		_, err := c.Write([]byte{0, 1, 0, 0})
		for err == nil {
			_, err = c.Write([]byte{0})
			time.Sleep(5 * time.Second)
		}
	}
	for name, stall := range map[string]func(net.Conn){"silent": silent, "cut short": cut, "a byte now and then": drip} {
		for side, run := range map[string]func(*Replica, net.Conn) error{
			"served": func(r *Replica, c net.Conn) error { return Serve(context.Background(), c, only(r), nil) },
			"begun":  func(r *Replica, c net.Conn) error { _, err := r.Sync(context.Background(), c); return err },
		} {
			synctest.Test(t, func(t *testing.T) {
				r := open(t, "a", newLog())
				here, there := net.Pipe()
				go func() { _, _ = io.Copy(io.Discard, there) }()
				var stalling sync.WaitGroup
				defer stalling.Wait()
				stalling.Go(func() { stall(there) })
				start := time.Now()
				err := run(r, here)
				if took := time.Since(start); !errors.Is(err, ErrStalled) || took > 2*stallMax+10*time.Second {
					t.Errorf("%s, %s: %v after %v", name, side, err, took)
				}
				_ = here.Close()
				_ = there.Close()
				if err := r.Put(context.Background(), "k", nil); err != nil {
					t.Errorf("%s, %s: the table is stuck: %v", name, side, err)
				}
			})
		}
	}
}

// TestTablesFollowOnOneStream: what is read of one exchange is nothing of the
// next, and a table that is not here ends the stream.
func TestTablesFollowOnOneStream(t *testing.T) {
	var here, there []*Replica
	for _, name := range []string{"one", "two", "three"} {
		for _, side := range []*[]*Replica{&here, &there} {
			r, err := Open(ReplicaConfig{Table: Config{Name: name, Self: fmt.Sprint(len(*side), side == &here), Incarnation: 1}, Log: newLog()})
			if err != nil {
				t.Fatal(err)
			}
			for i := range 100 {
				if err := r.Put(t.Context(), fmt.Sprint(side == &here, i), make([]byte, 1000)); err != nil {
					t.Fatal(err)
				}
			}
			*side = append(*side, r)
		}
	}
	ca, cb := net.Pipe()
	served, exchanges := make(chan error, 1), 0
	go func() {
		served <- Serve(context.Background(), cb, func(name string) (*Replica, bool) {
			i := slices.IndexFunc(there, func(r *Replica) bool { return r.Name() == name })
			return there[max(i, 0)], i >= 0
		}, func(SyncStats, error) { exchanges++ })
	}()
	for i, r := range here {
		if _, err := r.Sync(t.Context(), ca); err != nil || r.Hash() != there[i].Hash() || r.Len() != 200 {
			t.Errorf("%s: %v, %d keys", r.Name(), err, r.Len())
		}
	}
	_ = ca.Close()
	if err := <-served; err != nil || exchanges != 3 {
		t.Errorf("%v after %d exchanges", err, exchanges)
	}
	ca, cb = net.Pipe()
	go func() {
		_, _ = here[0].Sync(context.Background(), ca)
		_ = ca.Close()
	}()
	err := Serve(context.Background(), cb, func(string) (*Replica, bool) { return nil, false }, nil)
	if _ = cb.Close(); !errors.Is(err, ErrProtocol) {
		t.Errorf("a table that is not here: %v", err)
	}
}

func TestUnknownLogEntryIsAnError(t *testing.T) {
	for _, entries := range []map[string][]byte{
		{"x/1": nil}, {"r/1": []byte("no")}, {"c/1": []byte{0x80}},
	} {
		tab := newTable(t, "a", 1)
		if err := tab.Load(maps.All(entries)); err == nil {
			t.Errorf("%v was loaded", entries)
		}
	}
}
