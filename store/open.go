package store

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"golang.org/x/sys/unix"
)

// Open opens or makes a store.
func Open(cfg Config) (*Store, error) {
	if cfg.Free == nil {
		cfg.Free = freeSpace
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Store{cfg: cfg, log: cfg.Log, queue: make(chan *batch, queueMax), ended: make(chan struct{})}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("store: open: %w", err)
	}
	if err := s.takeLock(); err != nil {
		return nil, err
	}
	err := s.open()
	if errors.Is(err, ErrCorrupt) && cfg.Quarantine {
		err = s.quarantine(err)
		if err == nil {
			err = s.open()
		}
	}
	if err != nil {
		return nil, errors.Join(err, s.lock.Close())
	}
	go s.commitLoop()
	return s, nil
}

func (s *Store) takeLock() error {
	lock, err := os.OpenFile(filepath.Join(s.cfg.Dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("store: open: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return fmt.Errorf("store: open %s: %w: stop it, or name another folder with --data-dir", s.cfg.Dir, ErrLocked)
	}
	s.lock = lock
	return nil
}

// open opens what is there and checks it, or makes it.
func (s *Store) open() (err error) {
	f, err := readFormat(s.cfg.Dir)
	if err != nil {
		return err
	}
	if f.Mesh != "" && s.cfg.Mesh != "" && f.Mesh != s.cfg.Mesh {
		return fmt.Errorf("store: open %s: %w: %s, not %s; name another folder with --data-dir", s.cfg.Dir, ErrMesh, f.Mesh, s.cfg.Mesh)
	}
	if f.Restoring && !s.cfg.restoring {
		return fmt.Errorf("store: open %s: %w: restore again, from the same backup or another", s.cfg.Dir, ErrPartial)
	}
	f.Restoring = s.cfg.restoring
	if s.space, err = newSpace(s.cfg); err != nil {
		return err
	}
	if f.Incarnation == 0 { // so that a crash in the next lines is no damage
		f.Mesh = s.cfg.Mesh
		if err := f.save(s.cfg.Dir); err != nil {
			return err
		}
	}
	if err := s.space.flushable(); err != nil {
		return err
	}
	s.calm = s.space.check(0) != nil
	if s.db, err = openBadger(s.cfg, s.space.memory, s.calm); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.db.Close())
		}
	}()
	if s.head, err = openHead(filepath.Join(s.cfg.Dir, "head")); err != nil {
		return err
	}
	fresh, err := s.verify()
	if err != nil {
		return errors.Join(err, s.head.close())
	}
	if fresh {
		s.incarnation = max(uint64(time.Now().UnixMilli()), s.cfg.IncarnationFloor+1, f.Incarnation+1)
		f.Version, f.Incarnation = formatVersion, s.incarnation
		if s.cfg.Mesh != "" {
			f.Mesh = s.cfg.Mesh
		}
		if err := f.save(s.cfg.Dir); err != nil {
			return err
		}
		s.last = state{Incarnation: s.incarnation, Tables: map[string]sum{}}
		if err := s.apply(nil); err != nil { // the first batch: it holds the incarnation
			return err
		}
	}
	forgetPages(s.cfg.Dir)
	s.incarnation = s.last.Incarnation
	s.blobs, err = openBlobs(filepath.Join(s.cfg.Dir, "blobs"), s.space, s.cfg.Rotten)
	return err
}

// openBadger opens Badger; calm leaves out merging, for which a full disk may
// have no room.
func openBadger(cfg Config, memory int64, calm bool) (db *badger.DB, err error) {
	defer func() { // cut tables make Badger panic
		if r := recover(); r != nil {
			db, err = nil, fmt.Errorf("store: open: %w: badger: %v", ErrCorrupt, r)
		}
	}()
	dir := filepath.Join(cfg.Dir, "db")
	o := badger.DefaultOptions(dir).
		WithLogger(badgerLog{cfg.Log}).
		WithSyncWrites(true).
		WithMemTableSize(memory).
		WithNumMemtables(2).
		WithNumLevelZeroTables(2).
		WithNumLevelZeroTablesStall(6).
		WithNumCompactors(2).
		WithValueThreshold(min(1<<20, memory/8)). // values stay in the tables
		WithValueLogFileSize(8 << 20).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithIndexCacheSize(0).
		WithMetricsEnabled(false).
		WithDetectConflicts(false).                       // one committer
		WithChecksumVerificationMode(options.OnBlockRead) // whole tables: checkTables
	if calm {
		o = o.WithNumCompactors(0).WithNumLevelZeroTablesStall(calmTablesMax)
	}
	if err := checkTables(o); err != nil {
		return nil, err
	}
	db, err = badger.Open(o)
	if err != nil {
		if strings.Contains(err.Error(), "Cannot acquire directory lock") {
			return nil, fmt.Errorf("store: open: %w", ErrLocked)
		}
		return nil, fmt.Errorf("store: open: %w: badger: %w", ErrCorrupt, err)
	}
	return db, nil
}

// calmTablesMax is how many tables may come from memory when nothing is merged.
const calmTablesMax = 64

// waken opens Badger anew once there is room to merge. Only the committer
// calls it; readers wait.
func (s *Store) waken() error {
	s.dbMu.Lock()
	defer s.dbMu.Unlock()
	asleep := s.db
	s.db = nil
	if err := asleep.Close(); err != nil {
		return err
	}
	db, err := openBadger(s.cfg, s.space.memory, false)
	if err != nil {
		return err
	}
	s.db, s.calm = db, false
	s.log.Info("there is room on the disk again")
	return nil
}
