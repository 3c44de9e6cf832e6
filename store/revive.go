package store

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"
)

// reviveEvery is the least time between two tries to get a store going again
// whose disk failed.
const reviveEvery = 2 * time.Second

// faulty is the error that a test has the disk make before a step.
func (s *Store) faulty(step string) error {
	if s.cfg.fault == nil {
		return nil
	}
	return s.cfg.fault(step)
}

// revive gets a store going again after the disk refused a batch. Only the
// committer calls it; readers wait.
//
//	healthy ── a write or a sync fails ──▶ failed: every batch is refused
//	   ▲                                      │ reviveEvery, at the next batch
//	   │                                      ▼
//	   └── taken back, written ◀── closed and opened anew, verified ── no ──▶ failed
//
// Closing writes what is only in the log anew, as a table: after a sync that
// failed the log's pages may be marked clean without being on disk (Rebello et
// al., "Can Applications Recover from fsync Failures?", 2020), and what follows
// in the same log would be lost with them. The batch that failed may be there all
// the same. Whoever made it was told that it is not, so it is taken back.
func (s *Store) revive() error {
	s.dbMu.Lock()
	defer s.dbMu.Unlock()
	failed := func(err error) error {
		return s.fail(fmt.Errorf("store: %w: %w: it is tried again by itself", ErrFailed, err))
	}
	if err := s.reopen(); err != nil {
		return failed(err)
	}
	if s.last.Incarnation != s.acked.Incarnation || s.last.Sequence < s.acked.Sequence {
		return s.fail(fmt.Errorf("store: %w: batch %d is the last on disk, and %d was acknowledged: restart the daemon, which puts the store aside",
			ErrFailed, s.last.Sequence, s.acked.Sequence))
	}
	for _, part := range parts(s.debt) {
		if err := s.apply([]*batch{{writes: part}}); err != nil {
			return failed(err)
		}
	}
	s.debt = nil
	s.statMu.Lock()
	s.failed = nil
	s.statMu.Unlock()
	s.log.Info("the disk takes writes again")
	return nil
}

// owe notes, when a group failed, what takes it back: the values that were there
// before, so that it may be written any number of times.
func (s *Store) owe(acked state) {
	s.acked, s.debt = acked, slices.Clone(s.undo)
	slices.Reverse(s.debt) // of a key that was written twice the first old value counts
}

// parts are the writes in batches that fit a transaction; one of none, for none.
func parts(writes []Write) (out [][]Write) {
	begin, size := 0, 0
	for i, w := range writes {
		n := len(w.Table) + len(w.Key) + len(w.Value)
		if size += n; size > BatchBytesMax && i > begin {
			out = append(out, writes[begin:i])
			begin, size = i, n
		}
	}
	return append(out, writes[begin:])
}

// reopen closes and opens Badger and the head, and verifies them.
func (s *Store) reopen() error {
	if s.db != nil {
		db := s.db
		s.db = nil
		if err := errors.Join(s.faulty("close"), db.Close()); err != nil {
			s.log.Warn("the store did not close well after the disk failed", "err", err)
		}
	}
	if err := s.faulty("open"); err != nil {
		return err
	}
	if err := s.space.flushable(); err != nil {
		return err
	}
	s.calm = s.space.check(0) != nil
	db, err := openBadger(s.cfg, s.space.memory, s.calm)
	if err != nil {
		return err
	}
	s.db = db
	head, err := openHead(filepath.Join(s.cfg.Dir, "head"))
	if err != nil {
		return err
	}
	_ = s.head.close() // what it did not write is written anew
	s.head = head
	fresh, err := s.verify()
	if err == nil && fresh {
		err = corrupt("it is empty")
	}
	return err
}
