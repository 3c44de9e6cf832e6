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
	"os"
	"path/filepath"
	"slices"

	"github.com/dgraph-io/badger/v4"
	"github.com/fxamacker/cbor/v2"
)

// A backup is a stream of frames after a line of its own. Each frame is the
// length of its body (4 bytes, big-endian), the body (CBOR: a list of
// backupRecord) and the SHA-256 of the line and all bodies so far, so that
// frames cannot be cut, changed, dropped or moved. A frame of length 0 ends it.
const (
	backupLine   = "hansa backup 1\n"
	frameBytes   = 256 << 10 // a frame is closed past this
	frameMax     = frameBytes + ValueMax + KeyMax + 64
	restoreBatch = 512
)

type backupRecord struct {
	_     struct{} `cbor:",toarray"`
	Table string
	Key   string
	Value []byte
}

// Backup writes all keys as they stand at one moment. Files by digest are not
// part of it: they verify themselves and can be copied.
func (s *Store) Backup(ctx context.Context, w io.Writer) (err error) {
	defer rescue(&err)
	s.dbMu.RLock()
	defer s.dbMu.RUnlock()
	if s.db == nil {
		return ErrClosed
	}
	out := &frameWriter{w: bufio.NewWriter(w), sum: sha256.New()}
	if err := out.begin(); err != nil {
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

func (f *frameWriter) begin() error {
	f.sum.Write([]byte(backupLine))
	_, err := f.w.WriteString(backupLine)
	return err
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

// readBackup gives the records of a backup to fn, each frame once it is
// verified. That the backup is whole is known when it returns nil.
func readBackup(r io.Reader, fn func([]backupRecord) error) error {
	in, sum := bufio.NewReader(r), sha256.New()
	line := make([]byte, len(backupLine))
	if _, err := io.ReadFull(in, line); err != nil || string(line) != backupLine {
		return fmt.Errorf("%w: it is no backup of this format", ErrCorrupt)
	}
	sum.Write(line)
	for frame := 1; ; frame++ {
		var head [4]byte
		if _, err := io.ReadFull(in, head[:]); err != nil {
			return fmt.Errorf("%w: the backup is cut off in frame %d", ErrCorrupt, frame)
		}
		length := binary.BigEndian.Uint32(head[:])
		if length > frameMax {
			return fmt.Errorf("%w: frame %d has %d bytes", ErrCorrupt, frame, length)
		}
		body := make([]byte, length+sha256.Size)
		if _, err := io.ReadFull(in, body); err != nil {
			return fmt.Errorf("%w: the backup is cut off in frame %d", ErrCorrupt, frame)
		}
		body, want := body[:length], body[length:]
		sum.Write(body)
		if !bytes.Equal(sum.Sum(nil), want) {
			return fmt.Errorf("%w: frame %d was changed", ErrCorrupt, frame)
		}
		if length == 0 {
			if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
				return fmt.Errorf("%w: there is more after the end", ErrCorrupt)
			}
			return nil
		}
		var records []backupRecord
		if err := cbor.Unmarshal(body, &records); err != nil {
			return fmt.Errorf("%w: frame %d: %w", ErrCorrupt, frame, err)
		}
		if err := fn(records); err != nil {
			return err
		}
	}
}

// Restore makes a store in cfg.Dir, which must hold none, from a backup. It is
// another life of the store: it has a new incarnation, and the tables in skip,
// whose records belong to the old one, stay out. A backup that is not whole
// leaves nothing.
func Restore(ctx context.Context, cfg Config, r io.Reader, skip ...string) (err error) {
	if _, err := os.Stat(filepath.Join(cfg.Dir, "db")); err == nil {
		return fmt.Errorf("store: restore: %s holds a store already: name an empty folder", cfg.Dir)
	}
	s, err := Open(cfg)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, s.Close())
		if err != nil {
			for _, name := range []string{"db", "head", formatFile} {
				err = errors.Join(err, os.RemoveAll(filepath.Join(cfg.Dir, name)))
			}
		}
	}()
	err = readBackup(r, func(records []backupRecord) error {
		for chunk := range slices.Chunk(records, restoreBatch) {
			var writes []Write
			size := 0
			for _, rec := range chunk {
				if slices.Contains(skip, rec.Table) {
					continue
				}
				if size += len(rec.Key) + len(rec.Value); size > BatchBytesMax {
					if err := s.Commit(ctx, writes); err != nil {
						return err
					}
					writes, size = nil, len(rec.Key)+len(rec.Value)
				}
				writes = append(writes, Write{rec.Table, rec.Key, rec.Value})
			}
			if err := s.Commit(ctx, writes); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("store: restore: %w", err)
	}
	return nil
}
