package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
)

// Limits of one batch, and of what waits.
const (
	BatchWritesMax = 4096
	BatchBytesMax  = 1 << 20 // tables, keys and values
	ValueMax       = 512 << 10
	KeyMax         = 1024 // table and key
	queueMax       = 8192 // batches
	groupWritesMax = 8192 // in one transaction
	groupBytesMax  = 2 << 20
	stateRoom      = 64 << 10 // bytes of a transaction that are the state's
)

const (
	// formatVersion is of the layout on disk.
	formatVersion = 1
	// freeFloorDefault is far above what Badger writes by itself.
	freeFloorDefault = 256 << 20
	memoryDefault    = 16 << 20
	memoryMin        = 8 << 20
	memoryShare      = 64 // of the disk, on a small one
	watchEvery       = 5 * time.Second
	// idleMax is for how long nothing may be written before an empty batch finds
	// out whether the disk still takes one.
	idleMax = 30 * time.Second
)

// The ways in which a store refuses. Errors wrap them and say what to do.
var (
	ErrLocked  = errors.New("the data folder is in use by another daemon")
	ErrMesh    = errors.New("the data folder belongs to another mesh")
	ErrVersion = errors.New("the data folder has another format")
	ErrCorrupt = errors.New("the store is damaged")
	ErrPartial = errors.New("a restore did not end")
	ErrHeld    = errors.New("the data folder holds a store already")
	ErrFull    = errors.New("the disk is full")
	ErrBusy    = errors.New("too many batches wait for the disk")
	ErrClosed  = errors.New("the store is closed")
	ErrInvalid = errors.New("invalid batch")
	ErrFailed  = errors.New("the disk failed")
)

// Config says which store to open.
type Config struct {
	Dir  string // made when it does not exist
	Mesh string // the mesh that the folder belongs to
	// Memory bounds Badger's table in memory, in bytes; default 16 MiB, on a
	// disk below 1 GiB a 64th of it; at least 8 MiB.
	Memory int64
	// FreeFloor is the free space, in bytes, below which writes are refused;
	// default 256 MiB, or a tenth of a disk smaller than ten times that. On a
	// small disk it rises with the store: Badger needs room to merge.
	FreeFloor int64
	// IncarnationFloor is the highest incarnation that the mesh knows of this
	// peer; a new one is above it.
	IncarnationFloor uint64
	// Quarantine puts a damaged store aside and starts empty, where Open
	// would say ErrCorrupt, and Restore ErrHeld.
	Quarantine bool
	// Rotten is told of each file by digest that was found to have rotted on the
	// disk, and was put aside; it must not block.
	Rotten func(digest string, err error)
	Log    *slog.Logger

	// Free says how much space is free; nil asks the file system. Tests fill
	// the disk with it.
	Free func(dir string) (free, total int64, err error)
	// fault stands for the disk's own errors, in tests: it is asked before the
	// step that it names (see apply and revive).
	fault func(step string) error
	// skipHead leaves the second sync out, to measure what it costs.
	skipHead bool
	// restoring marks the store as a part until Restore has ended.
	restoring bool
}

// Write is one key of a batch; a nil Value deletes.
type Write struct {
	Table string
	Key   string
	Value []byte
}

// Store is an open store.
type Store struct {
	cfg         Config
	log         *slog.Logger
	lock        *os.File
	head        *headFile
	blobs       *Blobs
	incarnation uint64
	setAside    string // where a damaged store went, and why
	reason      string

	queue chan *batch
	ended chan struct{} // closed when the committer has returned

	space *space

	mu     sync.RWMutex // guards what follows, and sends to queue
	closed bool

	// dbMu is held to read while db is read, and to write while the committer
	// opens it anew or Close ends it. The committer alone writes through db.
	dbMu sync.RWMutex
	db   *badger.DB // nil when it is closed
	calm bool       // opened on a full disk: it merges nothing

	// Only the committer's goroutine, after Open.
	last    state
	undo    []Write   // what the last group replaced, newest last
	acked   state     // when the disk failed
	debt    []Write   // what takes back the group that failed
	revived time.Time // when it was tried last

	statMu sync.Mutex // guards what follows
	stats  Stats
	failed error
}

// Stats is what a store did since it was opened.
type Stats struct {
	Batches, Writes int64 // acknowledged
	Syncs           int64 // of transactions
	Refused         int64 // for want of space
	Queue           int   // waiting now
	Free, Floor     int64 // bytes
	DiskBytes       int64 // of Badger
}

// batch is one atomic group of writes that waits for the committer.
type batch struct {
	writes []Write
	done   func(error)
}

// Incarnation numbers this life of the store; see the package comment.
func (s *Store) Incarnation() uint64 { return s.incarnation }

// Quarantined says why and where a damaged store was put aside when this one
// was opened.
func (s *Store) Quarantined() (reason, path string, was bool) {
	return s.reason, s.setAside, s.setAside != ""
}

// Blobs are the files by digest.
func (s *Store) Blobs() *Blobs { return s.blobs }

// Commit applies a batch and returns when it is durable. After an error nothing
// of it was applied, or, after ErrFailed, nothing of it will be seen: what of it
// is on disk is taken back before the store takes writes again. When ctx ends first, the batch may
// be applied all the same.
func (s *Store) Commit(ctx context.Context, writes []Write) error {
	done := make(chan error, 1)
	if err := s.enqueue(ctx, &batch{writes: writes, done: func(err error) { done <- err }}, true); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// CommitAsync queues a batch; done is called on the committer's goroutine,
// and must return at once. An error means that nothing was queued: ErrBusy
// when too much waits.
func (s *Store) CommitAsync(writes []Write, done func(error)) error {
	return s.enqueue(context.Background(), &batch{writes: writes, done: done}, false)
}

func (s *Store) enqueue(ctx context.Context, b *batch, wait bool) error {
	if err := check(b.writes); err != nil {
		return err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed {
		return ErrClosed
	}
	select {
	case s.queue <- b:
		return nil
	default:
	}
	if !wait {
		return ErrBusy
	}
	select {
	case s.queue <- b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// check says what is wrong with a batch before it is queued, so that one bad
// batch fails nobody else's.
func check(writes []Write) error {
	size := 0
	for _, w := range writes {
		switch {
		case w.Table == "" || strings.ContainsRune(w.Table, 0):
			return fmt.Errorf("store: commit: %w: table %q", ErrInvalid, w.Table)
		case len(w.Table)+1+len(w.Key) > KeyMax:
			return fmt.Errorf("store: commit: %w: a key of %d bytes in %s, at most %d", ErrInvalid, len(w.Key), w.Table, KeyMax)
		case len(w.Value) > ValueMax:
			return fmt.Errorf("store: commit: %w: a value of %d bytes in %s, at most %d", ErrInvalid, len(w.Value), w.Table, ValueMax)
		}
		size += len(w.Table) + len(w.Key) + len(w.Value)
	}
	if len(writes) > BatchWritesMax || size > BatchBytesMax {
		return fmt.Errorf("store: commit: %w: %d writes of %d bytes, at most %d of %d", ErrInvalid, len(writes), size, BatchWritesMax, BatchBytesMax)
	}
	return nil
}

// keyOf is a key as Badger knows it.
func keyOf(table, key string) []byte {
	k := make([]byte, 0, len(table)+1+len(key))
	return append(append(append(k, table...), 0), key...)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seal is a value with its checksum before it.
func seal(key, value []byte) []byte {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
	return append(binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(value)), sum), value...)
}

// unseal checks a value; the result shares its memory.
func unseal(key, sealed []byte) ([]byte, error) {
	if len(sealed) < 4 {
		return nil, fmt.Errorf("store: key %q: %w: %d bytes", key, ErrCorrupt, len(sealed))
	}
	value := sealed[4:]
	if crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value) != binary.LittleEndian.Uint32(sealed) {
		return nil, fmt.Errorf("store: key %q: %w: its checksum is wrong", key, ErrCorrupt)
	}
	return value, nil
}

// Get reads one key; false when it was never written or was deleted.
func (s *Store) Get(table, key string) (value []byte, ok bool, err error) {
	defer rescue(&err)
	s.dbMu.RLock()
	defer s.dbMu.RUnlock()
	if s.db == nil {
		return nil, false, ErrClosed
	}
	k := keyOf(table, key)
	err = s.db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(k)
		if errors.Is(err, badger.ErrKeyNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("store: get %s %q: %w", table, key, err)
		}
		sealed, err := item.ValueCopy(nil)
		if err != nil {
			return fmt.Errorf("store: get %s %q: %w", table, key, err)
		}
		value, err = unseal(k, sealed)
		ok = err == nil
		return err
	})
	return value, ok, err
}

// Scan gives the keys of a table that begin with prefix to fn, sorted, until
// fn fails. The value is fn's to keep.
func (s *Store) Scan(table, prefix string, fn func(key string, value []byte) error) (err error) {
	defer rescue(&err)
	s.dbMu.RLock()
	defer s.dbMu.RUnlock()
	if s.db == nil {
		return ErrClosed
	}
	start, skip := keyOf(table, prefix), len(table)+1
	return s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: start, PrefetchValues: true, PrefetchSize: 100})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			item := it.Item()
			sealed, err := item.ValueCopy(nil)
			if err != nil {
				return fmt.Errorf("store: scan %s: %w", table, err)
			}
			value, err := unseal(item.Key(), sealed)
			if err != nil {
				return err
			}
			if err := fn(string(item.Key()[skip:]), value); err != nil {
				return err
			}
		}
		return nil
	})
}

// rescue turns a panic of Badger over a damaged table into an error.
func rescue(err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("store: read: %w: badger: %v", ErrCorrupt, r)
	}
}

// Health is nil while writes are taken, or says why they are not.
func (s *Store) Health() error {
	if failed := s.failure(); failed != nil {
		return failed
	}
	return s.space.check(0)
}

func (s *Store) failure() error {
	s.statMu.Lock()
	defer s.statMu.Unlock()
	return s.failed
}

// tried is how many groups of batches went to the disk.
func (s *Store) tried() int64 {
	s.statMu.Lock()
	defer s.statMu.Unlock()
	return s.stats.Syncs
}

// Stats is what the store did so far.
func (s *Store) Stats() Stats {
	s.statMu.Lock()
	stats := s.stats
	s.statMu.Unlock()
	stats.Queue = len(s.queue)
	stats.Free, stats.Floor = s.space.seen()
	s.dbMu.RLock()
	defer s.dbMu.RUnlock()
	if s.db != nil {
		lsm, vlog := s.db.Size()
		stats.DiskBytes = lsm + vlog
	}
	return stats
}

// Run looks after the disk until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	pruned := time.Now()
	batches, written := int64(-1), time.Now()
	for {
		s.space.tend(s.log)
		if n := s.tried(); n != batches {
			batches, written = n, time.Now()
		} else if s.failure() != nil || time.Since(written) > idleMax {
			_ = s.Commit(ctx, nil) // Health says what came of it
		}
		if time.Since(pruned) > pruneEvery {
			pruned = time.Now()
			if err := s.blobs.prune(false); err != nil {
				s.log.Warn("unfinished files could not be dropped", "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Close ends the store after what is queued was committed.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.queue)
	s.mu.Unlock()
	<-s.ended
	s.dbMu.Lock()
	defer s.dbMu.Unlock()
	db := s.db
	s.db = nil
	// Closing writes the log anew as a table. Where even that finds no room
	// the log stays as it is: it is as durable, and the next Open reads it.
	err := s.space.flushable()
	if err == nil && db != nil { // nil: the disk failed, and it could not be opened anew
		err = db.Close()
	}
	return errors.Join(err, s.head.close(), s.lock.Close())
}

// badgerLog passes what Badger says of trouble on.
type badgerLog struct{ log *slog.Logger }

func (l badgerLog) Errorf(f string, a ...any)   { l.log.Error(strings.TrimSpace(fmt.Sprintf(f, a...))) }
func (l badgerLog) Warningf(f string, a ...any) { l.log.Warn(strings.TrimSpace(fmt.Sprintf(f, a...))) }
func (l badgerLog) Infof(string, ...any)        {}
func (l badgerLog) Debugf(string, ...any)       {}
