package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/fxamacker/cbor/v2"
)

// A backup is a stream of frames after a line of its own. Each frame is the
// length of its body (4 bytes, big-endian), the body (CBOR) and the SHA-256 of
// the line and all bodies so far, so that frames cannot be cut, changed,
// dropped or moved. The first body is a backupHead, the others are lists of
// backupRecord; a frame of length 0 ends it.
const (
	backupName   = "hansa backup "
	backupLine   = backupName + "1\n"
	frameBytes   = 256 << 10 // a frame is closed past this
	frameMax     = frameBytes + ValueMax + KeyMax + 64
	restoreBatch = 512
)

// backupHead says whose backup it is.
type backupHead struct {
	Mesh        string `json:"mesh"`
	Incarnation uint64 `json:"incarnation"` // of the life that was backed up
	At          int64  `json:"at"`          // Unix seconds
}

type backupRecord struct {
	_     struct{} `cbor:",toarray"`
	Table string
	Key   string
	Value []byte
}

// Backup writes all keys as they stand at one moment, and more after them, in
// tables that the store does not have. Files by digest are not part of it: they
// verify themselves and can be copied.
func (s *Store) Backup(ctx context.Context, w io.Writer, more ...Write) (err error) {
	defer rescue(&err)
	s.dbMu.RLock()
	defer s.dbMu.RUnlock()
	if s.db == nil {
		return ErrClosed
	}
	out := &frameWriter{w: bufio.NewWriter(w), sum: sha256.New()}
	if err := out.begin(backupHead{Mesh: s.cfg.Mesh, Incarnation: s.incarnation, At: time.Now().Unix()}); err != nil {
		return fmt.Errorf("store: backup: %w", err)
	}
	err = s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{PrefetchValues: true, PrefetchSize: 100})
		defer it.Close()
		for it.Rewind(); it.Valid() && ctx.Err() == nil; it.Next() {
			key := it.Item().KeyCopy(nil)
			if bytes.Equal(key, stateKey) {
				continue // of this life of the store
			}
			sealed, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			value, err := unseal(key, sealed)
			if err != nil {
				return err
			}
			table := tableOf(key)
			if err := out.add(backupRecord{Table: table, Key: string(key[len(table)+1:]), Value: value}); err != nil {
				return err
			}
		}
		return ctx.Err()
	})
	for _, m := range more {
		if err == nil {
			err = out.add(backupRecord{Table: m.Table, Key: m.Key, Value: m.Value})
		}
	}
	if err == nil {
		err = out.end()
	}
	if err != nil {
		return fmt.Errorf("store: backup: %w", err)
	}
	return nil
}

type frameWriter struct {
	w       *bufio.Writer
	sum     hash.Hash
	records []backupRecord
	size    int
}

func (f *frameWriter) begin(head backupHead) error {
	f.sum.Write([]byte(backupLine))
	if _, err := f.w.WriteString(backupLine); err != nil {
		return err
	}
	body, err := cbor.Marshal(head)
	if err != nil {
		return err
	}
	return f.frame(body)
}

func (f *frameWriter) add(r backupRecord) error {
	f.records = append(f.records, r)
	f.size += len(r.Key) + len(r.Value) + len(r.Table) + 16
	if f.size < frameBytes {
		return nil
	}
	return f.flush()
}

func (f *frameWriter) flush() error {
	body, err := cbor.Marshal(f.records)
	if err != nil {
		return err
	}
	f.records, f.size = nil, 0
	return f.frame(body)
}

func (f *frameWriter) frame(body []byte) error {
	f.sum.Write(body)
	_, err := f.w.Write(slices.Concat(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body, f.sum.Sum(nil)))
	return err
}

func (f *frameWriter) end() error {
	if len(f.records) > 0 {
		if err := f.flush(); err != nil {
			return err
		}
	}
	if err := f.frame(nil); err != nil {
		return err
	}
	return f.w.Flush()
}

// frameReader reads what a frameWriter wrote.
type frameReader struct {
	in    *bufio.Reader
	sum   hash.Hash
	frame int // the last that was read
}

// readHead begins a backup: its line and its first frame.
func readHead(r io.Reader) (*frameReader, backupHead, error) {
	f := &frameReader{in: bufio.NewReader(r), sum: sha256.New()}
	var head backupHead
	line := make([]byte, len(backupLine))
	if _, err := io.ReadFull(f.in, line); err != nil || !strings.HasPrefix(string(line), backupName) {
		return nil, head, fmt.Errorf("%w: it is no backup", ErrCorrupt)
	}
	if string(line) != backupLine {
		return nil, head, fmt.Errorf("%w: it is a backup of version %q, this daemon reads %q",
			ErrVersion, line[len(backupName):len(line)-1], backupLine[len(backupName):len(backupLine)-1])
	}
	f.sum.Write(line)
	body, err := f.next()
	if err != nil {
		return nil, head, err
	}
	if err := cbor.Unmarshal(body, &head); err != nil {
		return nil, head, fmt.Errorf("%w: frame 1: %w", ErrCorrupt, err)
	}
	return f, head, nil
}

// next is the body of the next frame, verified; empty at the end of a backup
// that is whole.
func (f *frameReader) next() ([]byte, error) {
	f.frame++
	var length [4]byte
	if _, err := io.ReadFull(f.in, length[:]); err != nil {
		return nil, fmt.Errorf("%w: the backup is cut off in frame %d", ErrCorrupt, f.frame)
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > frameMax {
		return nil, fmt.Errorf("%w: frame %d has %d bytes", ErrCorrupt, f.frame, n)
	}
	body := make([]byte, n+sha256.Size)
	if _, err := io.ReadFull(f.in, body); err != nil {
		return nil, fmt.Errorf("%w: the backup is cut off in frame %d", ErrCorrupt, f.frame)
	}
	body, want := body[:n], body[n:]
	f.sum.Write(body)
	if !bytes.Equal(f.sum.Sum(nil), want) {
		return nil, fmt.Errorf("%w: frame %d was changed", ErrCorrupt, f.frame)
	}
	if n == 0 {
		if _, err := f.in.ReadByte(); !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: there is more after the end", ErrCorrupt)
		}
	}
	return body, nil
}

// records gives the records to fn, frame by frame. That the backup is whole is
// known when it returns nil.
func (f *frameReader) records(fn func([]backupRecord) error) error {
	for {
		body, err := f.next()
		if err != nil || len(body) == 0 {
			return err
		}
		var records []backupRecord
		if err := cbor.Unmarshal(body, &records); err != nil {
			return fmt.Errorf("%w: frame %d: %w", ErrCorrupt, f.frame, err)
		}
		if err := fn(records); err != nil {
			return err
		}
	}
}

// BackupInfo says what a backup is of.
type BackupInfo struct {
	Mesh        string
	Incarnation uint64 // of the life of the store that was backed up
	At          time.Time
	Records     int
}

// ReadBackup reads a backup through and gives each of its records to fn, which
// may be nil. Only when it returns nil the backup is whole, and what fn saw is
// what was written.
func ReadBackup(r io.Reader, fn func(table, key string, value []byte) error) (BackupInfo, error) {
	frames, head, err := readHead(r)
	info := BackupInfo{Mesh: head.Mesh, Incarnation: head.Incarnation, At: time.Unix(head.At, 0).UTC()}
	if err == nil {
		err = frames.records(func(records []backupRecord) error {
			info.Records += len(records)
			for _, rec := range records {
				if fn == nil {
					break
				}
				if err := fn(rec.Table, rec.Key, rec.Value); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		return info, fmt.Errorf("store: read backup: %w", err)
	}
	return info, nil
}

// Restore makes a store in cfg.Dir, which must hold none, from a backup of the
// same mesh. It is another life of the store: it has a new incarnation, and only
// the tables that keep wants come back; the records of others belong to the old
// one. With cfg.Quarantine a store that is there is put aside. A backup that is not whole leaves nothing; what a crash leaves of a
// restore is not opened (ErrPartial), and the next Restore begins anew.
func Restore(ctx context.Context, cfg Config, r io.Reader, keep func(table string) bool) error {
	frames, head, err := readHead(r)
	if err != nil {
		return fmt.Errorf("store: restore: %w", err)
	}
	if cfg.Mesh != "" && head.Mesh != cfg.Mesh {
		return fmt.Errorf("store: restore: %w: the backup is of mesh %s, not %s", ErrMesh, head.Mesh, cfg.Mesh)
	}
	if err := unused(cfg.Dir, cfg.Quarantine); err != nil {
		return fmt.Errorf("store: restore: %w", err)
	}
	f, err := readFormat(cfg.Dir)
	if err != nil {
		return fmt.Errorf("store: restore: %w", err)
	}
	if f.Restoring {
		err = removeStore(cfg.Dir)
	} else if _, statErr := os.Stat(filepath.Join(cfg.Dir, "db")); statErr == nil {
		err = fmt.Errorf("%w: %s: put it aside (--put-aside), or name another folder", ErrHeld, cfg.Dir)
	}
	if err != nil {
		return fmt.Errorf("store: restore: %w", err)
	}
	cfg.IncarnationFloor = max(cfg.IncarnationFloor, head.Incarnation, f.Incarnation)
	if err := restore(ctx, cfg, frames, keep); err != nil {
		return errors.Join(fmt.Errorf("store: restore: %w", err), removeStore(cfg.Dir))
	}
	return nil
}

// removeStore removes what a restore that did not end has left.
func removeStore(dir string) (err error) {
	for _, name := range []string{"db", "head", formatFile} { // the mark last
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
	}
	return err
}

// unused says whether a daemon uses a folder, which need not exist. With aside
// the store in it, whole or not, is put aside.
func unused(dir string, aside bool) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	s := &Store{cfg: Config{Dir: dir}, log: slog.New(slog.DiscardHandler)}
	if err := s.takeLock(); err != nil {
		return err
	}
	err := error(nil)
	if _, statErr := os.Stat(filepath.Join(dir, "db")); aside && statErr == nil {
		err = s.quarantine(errReplaced)
	}
	return errors.Join(err, s.lock.Close())
}

var errReplaced = errors.New("a restore takes its place")

func restore(ctx context.Context, cfg Config, frames *frameReader, keep func(string) bool) (err error) {
	cfg.restoring = true
	s, err := Open(cfg)
	if err != nil {
		return err
	}
	err = frames.records(func(records []backupRecord) error {
		for chunk := range slices.Chunk(records, restoreBatch) {
			if err := s.restoreChunk(ctx, chunk, keep); err != nil {
				return err
			}
		}
		return nil
	})
	if err = errors.Join(err, s.Close()); err != nil {
		return err
	}
	f, err := readFormat(cfg.Dir)
	if err != nil {
		return err
	}
	f.Restoring = false
	return f.save(cfg.Dir)
}

func (s *Store) restoreChunk(ctx context.Context, chunk []backupRecord, keep func(string) bool) error {
	var writes []Write
	size := 0
	for _, rec := range chunk {
		if !keep(rec.Table) {
			continue
		}
		n := len(rec.Table) + len(rec.Key) + len(rec.Value)
		if size += n; size > BatchBytesMax {
			if err := s.Commit(ctx, writes); err != nil {
				return err
			}
			writes, size = nil, n
		}
		writes = append(writes, Write{rec.Table, rec.Key, rec.Value})
	}
	return s.Commit(ctx, writes)
}
