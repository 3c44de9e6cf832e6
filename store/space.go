package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// ballastLen is what is given back when the disk is full.
	ballastLen = 32 << 20
	// lookEvery and lookBytes bound how old the reading of free space is.
	lookEvery = time.Second
	lookBytes = 8 << 20
)

// space guards a floor of free space.
type space struct {
	dir   string
	floor int64
	ask   func(dir string) (free, total int64, err error)

	mu      sync.Mutex // guards what follows
	free    int64
	at      time.Time
	written int64 // since the reading
}

func freeSpace(dir string) (free, total int64, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, 0, fmt.Errorf("store: free space of %s: %w", dir, err)
	}
	return int64(fs.Bavail) * int64(fs.Bsize), int64(fs.Blocks) * int64(fs.Bsize), nil
}

// newSpace looks at the disk before Badger is opened, since opening writes,
// and gives the ballast back where that is needed.
func newSpace(cfg Config) (*space, error) {
	free, total, err := cfg.Free(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &space{dir: cfg.Dir, floor: cfg.FreeFloor, ask: cfg.Free, free: free, at: time.Now()}
	if s.floor == 0 {
		s.floor = min(freeFloorDefault, total/10)
	}
	if free < s.floor {
		if err := os.Remove(s.ballast()); err == nil {
			s.free += ballastLen
		} else if !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("store: open: %w", err)
		}
	}
	// Badger maps its files sparsely and dies when a page cannot be backed.
	if need := min(s.floor/2, 2*cfg.Memory); s.free < need {
		return nil, fmt.Errorf("store: open %s: %w: %d MiB are free, opening needs %d: make room and start again",
			cfg.Dir, ErrFull, s.free>>20, need>>20)
	}
	return s, nil
}

func (s *space) ballast() string { return filepath.Join(s.dir, "ballast") }

// check refuses a write of so many bytes when it would go below the floor.
func (s *space) check(bytes int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.written += bytes
	if time.Since(s.at) > lookEvery || s.written > lookBytes {
		free, _, err := s.ask(s.dir)
		if err != nil {
			return err
		}
		s.free, s.at, s.written = free, time.Now(), bytes
	}
	if s.free-s.written < s.floor {
		return fmt.Errorf("%w: %d MiB are free at %s, %d are kept: make room", ErrFull, s.free>>20, s.dir, s.floor>>20)
	}
	return nil
}

// seen is the last reading, and the floor.
func (s *space) seen() (free, floor int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free - s.written, s.floor
}

// tend gives the ballast back below the floor, and lays it in again well
// above.
func (s *space) tend(log *slog.Logger) {
	err := s.check(0)
	_, statErr := os.Stat(s.ballast())
	switch free, floor := s.seen(); {
	case errors.Is(err, ErrFull) && statErr == nil:
		log.Warn("the disk is full; the ballast is given back", "free", free, "floor", floor)
		if err := os.Remove(s.ballast()); err != nil {
			log.Error("the ballast can't be given back", "err", err)
		}
	case err == nil && errors.Is(statErr, os.ErrNotExist) && free > 2*floor+ballastLen:
		if err := layBallast(s.ballast()); err != nil {
			log.Warn("the ballast can't be laid in", "err", err)
		}
	}
}

func layBallast(path string) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	// Allocated, not sparse: it must be there to be given back.
	err = unix.Fallocate(int(file.Fd()), 0, 0, ballastLen)
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// syncData makes a file's bytes durable.
func syncData(file *os.File) error { return unix.Fdatasync(int(file.Fd())) }
