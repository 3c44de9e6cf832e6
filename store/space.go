package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// mergeMax bounds what Badger writes anew in one merge of its tables.
	mergeMax = 192 << 20
	// measureEvery is how much may be written before the tables are measured
	// again, in bytes.
	measureEvery = 8 << 20
	// openNeeds is what opening and closing write beside the log: the
	// MANIFEST, first pages of files, indexes of tables.
	openNeeds = 4 << 20
	// filesMargin is how much more free space, as a part of the floor, files by
	// digest leave than batches: artifacts must not keep the ledger from
	// writing.
	filesMargin = 4
)

// space guards a floor of free space. Badger writes to files that are mapped
// and sparse: when a page of one cannot be backed, SIGBUS ends the process. So
// what may be written is decided before, from a fresh reading.
type space struct {
	dir    string
	memory int64 // of Badger's table in memory
	least  int64 // the floor of an empty store
	ask    func(dir string) (free, total int64, err error)

	mu      sync.Mutex // guards what follows
	free    int64      // at the last reading
	tables  int64      // bytes of Badger's tables when they were measured
	written int64      // since then
	bare    bool       // this file system can't hold a ballast
}

func freeSpace(dir string) (free, total int64, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, 0, fmt.Errorf("store: free space of %s: %w", dir, err)
	}
	return int64(fs.Bavail) * int64(fs.Bsize), int64(fs.Blocks) * int64(fs.Bsize), nil
}

// newSpace looks at the disk before Badger is opened, since opening writes.
func newSpace(cfg Config) (*space, error) {
	free, total, err := cfg.Free(cfg.Dir)
	if err != nil {
		return nil, err
	}
	s := &space{dir: cfg.Dir, memory: cfg.Memory, least: cfg.FreeFloor, ask: cfg.Free, free: free}
	if s.memory == 0 {
		s.memory = min(memoryDefault, total/memoryShare)
	}
	s.memory = max(s.memory, memoryMin)
	if s.least == 0 {
		s.least = min(freeFloorDefault, total/10)
	}
	s.measure()
	return s, nil
}

// measure reads how large Badger's tables are. The caller holds mu, or is
// alone.
func (s *space) measure() { s.tables, s.written = bytesIn(s.dir, "*.sst"), 0 }

// bytesIn is the space that files of the store take, sparse ones what is in
// them.
func bytesIn(dir, pattern string) (n int64) {
	paths, _ := filepath.Glob(filepath.Join(dir, "db", pattern)) // fails for no pattern of ours
	for _, path := range paths {
		var info unix.Stat_t
		if unix.Stat(path, &info) == nil { // else it was merged away meanwhile
			n += info.Blocks * 512
		}
	}
	return n
}

// floor is the free space below which nothing is written: what was asked for,
// or, on a small disk, all that Badger may do by itself after the last batch:
// write two tables from memory and merge what it has.
func (s *space) floor() int64 {
	return max(s.least, min(s.tables+s.written, mergeMax)+2*s.memory)
}

// check refuses a write of so many bytes when it would go below the floor.
func (s *space) check(bytes int64) error { return s.checkAbove(bytes, 0) }

// checkFile is check for a file by digest.
func (s *space) checkFile(bytes int64) error {
	s.mu.Lock()
	margin := s.floor() / filesMargin
	s.mu.Unlock()
	return s.checkAbove(bytes, margin)
}

func (s *space) checkAbove(bytes, margin int64) error {
	free, _, err := s.ask(s.dir)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.free = free
	if floor := s.floor() + margin; free-bytes < floor {
		return fmt.Errorf("%w: %d MiB are free at %s, and %d are kept free: make room", ErrFull, free>>20, s.dir, floor>>20)
	}
	return nil
}

// wrote notes what went to the disk.
func (s *space) wrote(bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.written += bytes; s.written > measureEvery {
		s.measure()
	}
}

// seen is the last reading, and the floor.
func (s *space) seen() (free, floor int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.free, s.floor()
}

func (s *space) ballast() string { return filepath.Join(s.dir, "ballast") }

// flushable makes sure that the log can become a table, which opening and
// closing do whatever the floor says. The ballast is given back for it.
func (s *space) flushable() error {
	need := bytesIn(s.dir, "*.mem") + openNeeds
	for {
		free, _, err := s.ask(s.dir)
		if err != nil || free >= need {
			return err
		}
		if err := os.Remove(s.ballast()); errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("store: %w: %d MiB are free at %s, and %d are needed: make room and start again",
				ErrFull, free>>20, s.dir, need>>20)
		} else if err != nil {
			return fmt.Errorf("store: %w: the ballast can't be given back: %w", ErrFull, err)
		}
	}
}

// tend lays in the ballast where there is room for it well above the floor.
func (s *space) tend(log *slog.Logger) {
	size := 2 * s.memory
	_, err := os.Stat(s.ballast())
	if !errors.Is(err, fs.ErrNotExist) || s.bare || s.checkFile(size) != nil {
		return
	}
	if err := layBallast(s.ballast(), size); err != nil {
		s.bare = errors.Is(err, unix.EOPNOTSUPP)
		log.Warn("no ballast could be laid in: on a full disk this peer may not start again before there is room", "err", err)
	}
}

func layBallast(path string, size int64) error {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	// Allocated, not sparse: it must be there to be given back.
	err = unix.Fallocate(int(file.Fd()), 0, 0, size)
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// syncData makes a file's bytes durable.
func syncData(file *os.File) error { return unix.Fdatasync(int(file.Fd())) }
