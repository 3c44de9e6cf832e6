package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// faults is a disk that answers some steps with EIO.
type faults struct {
	step atomic.Pointer[string]
	hit  atomic.Int64
}

func (f *faults) set(step string) { f.step.Store(&step) }

func (f *faults) fault(step string) error {
	if at := f.step.Load(); at != nil && *at == step {
		f.hit.Add(1)
		return syscall.EIO
	}
	return nil
}

// revived waits until the store takes writes again: a batch tries it.
func revived(t *testing.T, s *Store) {
	t.Helper()
	for limit := time.Now().Add(time.Minute); ; {
		err := s.Commit(t.Context(), nil)
		if err == nil {
			return
		}
		if time.Now().After(limit) {
			t.Fatalf("it does not recover: %v", err)
		}
		time.Sleep(50 * time.Millisecond) // of virtual time
	}
}

// A disk that fails before, in or after a batch: nothing more is taken until it
// is well, then the store goes on by itself, and of the batch that failed nothing
// is seen, in this run or the next.
func TestDiskFailsAndRecovers(t *testing.T) {
	for _, step := range []string{"commit", "head"} {
		for _, then := range []string{"", "open", "close", "commit", "head"} {
			t.Run(step+" then "+then, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					dir, disk := t.TempDir(), &faults{}
					s, err := tryOpen(dir, func(c *Config) { c.fault = disk.fault })
					if err != nil {
						t.Fatal(err)
					}
					commit(t, s, Write{"t", "stays", []byte("1")}, Write{"t", "goes", []byte("1")})
					commit(t, s, Write{"t", "stays", []byte("2")})

					disk.set(step)
					err = s.Commit(t.Context(), []Write{
						{"t", "stays", []byte("3")}, {"t", "stays", []byte("4")}, {"t", "goes", nil}, {"t", "new", []byte("1")}})
					if !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
						t.Fatalf("a batch on a disk that fails: %v", err)
					}
					if err := s.Health(); !errors.Is(err, ErrFailed) {
						t.Errorf("health: %v", err)
					}
					disk.set(then)
					if then != "" {
						before := disk.hit.Load()
						for limit := time.Now().Add(time.Minute); disk.hit.Load() == before; {
							if err := s.Commit(t.Context(), []Write{{"t", "refused", []byte("1")}}); err != nil && !errors.Is(err, ErrFailed) {
								t.Fatalf("while it fails: %v", err)
							}
							if time.Now().After(limit) {
								t.Fatalf("%s is never tried", then)
							}
							time.Sleep(50 * time.Millisecond) // of virtual time
						}
					}
					disk.set("")
					revived(t, s)
					if err := s.Health(); err != nil {
						t.Errorf("health: %v", err)
					}
					commit(t, s, Write{"t", "after", []byte("1")})
					look := func(s *Store) {
						t.Helper()
						for key, value := range map[string]string{"stays": "2", "goes": "1", "new": "", "after": "1"} {
							want(t, s, "t", key, value)
						}
					}
					look(s)
					if err := s.Close(); err != nil {
						t.Fatal(err)
					}
					look(open(t, dir))
				})
			})
		}
	}
}

// A store whose disk failed notices by itself that it is well, without anyone
// who writes; and one that nobody writes to notices that its disk fails.
func TestIdleStoreWatchesItsDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := &faults{}
		s := open(t, t.TempDir(), func(c *Config) { c.fault = disk.fault })
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		disk.set("head")
		wait := func(what string, ok func(error) bool) {
			t.Helper()
			for limit := time.Now().Add(2 * time.Minute); !ok(s.Health()); {
				if time.Now().After(limit) {
					t.Fatalf("not %s: %v", what, s.Health())
				}
				time.Sleep(50 * time.Millisecond) // of virtual time
			}
		}
		wait("found to fail", func(err error) bool { return errors.Is(err, ErrFailed) })
		disk.set("")
		wait("well again", func(err error) bool { return err == nil })
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestParts(t *testing.T) {
	large := Write{"t", "k", bytes.Repeat([]byte("v"), ValueMax)}
	for want, writes := range map[int][]Write{1: nil, 2: {large, large}, 3: {large, large, large}} {
		got, n := parts(writes), 0
		for _, p := range got {
			n += len(p)
			if err := check(p); err != nil {
				t.Error(err)
			}
		}
		if len(got) != want || n != len(writes) {
			t.Errorf("%s: %d parts of %d writes", fmt.Sprint(len(writes)), len(got), n)
		}
	}
}
