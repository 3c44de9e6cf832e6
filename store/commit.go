package store

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"maps"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/fxamacker/cbor/v2"
)

// stateKey is where Badger holds the state; no table begins with NUL.
var stateKey = []byte("\x00state")

// state is what every batch carries on: its number, the hash chained over all
// batches, and the additive hash over the live keys of each table.
type state struct {
	Incarnation uint64         `json:"incarnation"`
	Sequence    uint64         `json:"sequence"`
	Chain       [16]byte       `json:"chain"`
	Tables      map[string]sum `json:"tables"`
}

// sum is an additive hash: the sum of the hashes of what is in a set, whatever
// their order (a multiset hash in the manner of Clarke et al., 2003; against
// damage, not against an enemy who owns the disk).
type sum [2]uint64

func (s sum) plus(o sum) sum  { return sum{s[0] + o[0], s[1] + o[1]} }
func (s sum) minus(o sum) sum { return sum{s[0] - o[0], s[1] - o[1]} }

// sumOf is the hash of one key with its sealed value.
func sumOf(key, sealed []byte) sum {
	h := sha256.New()
	var n [4]byte
	binary.LittleEndian.PutUint32(n[:], uint32(len(key)))
	h.Write(n[:])
	h.Write(key)
	h.Write(sealed)
	d := h.Sum(nil)
	return sum{binary.LittleEndian.Uint64(d), binary.LittleEndian.Uint64(d[8:])}
}

// commitLoop drains the queue into transactions until it is closed.
func (s *Store) commitLoop() {
	defer close(s.ended)
	var held *batch // taken, but it would have made the group too large
	for {
		first := held
		held = nil
		if first == nil {
			b, open := <-s.queue
			if !open {
				return
			}
			first = b
		}
		group := []*batch{first}
		writes, size := len(first.writes), bytesOf(first)
		bytesMax := s.groupBytes()
	fill:
		for writes < groupWritesMax && size < bytesMax {
			select {
			case b, open := <-s.queue:
				if !open {
					break fill
				}
				if writes+len(b.writes) > groupWritesMax || size+bytesOf(b) > bytesMax {
					held = b
					break fill
				}
				group = append(group, b)
				writes, size = writes+len(b.writes), size+bytesOf(b)
			default:
				break fill
			}
		}
		s.commitGroup(group, size)
	}
}

// groupBytes is what one transaction may hold.
func (s *Store) groupBytes() int {
	if s.db == nil { // the disk failed: it will be refused
		return groupBytesMax
	}
	return min(groupBytesMax, int(s.db.MaxBatchSize())-stateRoom)
}

func bytesOf(b *batch) int {
	n := 0
	for _, w := range b.writes {
		n += len(w.Table) + len(w.Key) + len(w.Value) + 64
	}
	return n
}

// commitGroup makes a group durable and acknowledges it, or refuses it.
func (s *Store) commitGroup(group []*batch, size int) {
	err := s.writable(int64(size))
	if err == nil {
		err = s.apply(group)
		if errors.Is(err, badger.ErrTxnTooBig) && len(group) > 1 {
			for _, b := range group { // nothing was written: one by one
				s.commitGroup([]*batch{b}, bytesOf(b))
			}
			return
		}
		s.space.wrote(int64(size))
		if errors.Is(err, badger.ErrTxnTooBig) {
			err = fmt.Errorf("store: commit: %w: %w", ErrInvalid, err)
		} else if err != nil {
			// Whether the batch is on disk is not known any more: revive finds
			// out, or the next Open.
			s.owe(s.last)
			err = s.fail(fmt.Errorf("store: commit: %w: %w: it is tried again by itself", ErrFailed, err))
		}
	}
	s.statMu.Lock()
	switch {
	case err == nil:
		s.stats.Batches += int64(len(group))
		s.stats.Syncs++
		for _, b := range group {
			s.stats.Writes += int64(len(b.writes))
		}
	case errors.Is(err, ErrFull):
		s.stats.Refused += int64(len(group))
	}
	s.statMu.Unlock()
	for _, b := range group {
		b.done(err)
	}
}

// writable says whether so many bytes may be written now.
func (s *Store) writable(size int64) error {
	err := s.failure()
	if err != nil && time.Since(s.revived) >= reviveEvery {
		s.revived = time.Now()
		err = s.revive()
	}
	if err == nil {
		err = s.space.check(size)
	}
	if err != nil || !s.calm {
		return err
	}
	if err := s.waken(); err != nil {
		s.undo = nil
		s.owe(s.last)
		return s.fail(fmt.Errorf("store: %w: %w: it is tried again by itself", ErrFailed, err))
	}
	return nil
}

// fail ends the writing until the store is revived or opened again.
func (s *Store) fail(err error) error {
	s.statMu.Lock()
	defer s.statMu.Unlock()
	s.failed = err
	return err
}

// apply writes a group in one transaction, then the head.
func (s *Store) apply(group []*batch) (err error) {
	defer rescue(&err)
	txn := s.db.NewTransaction(true)
	defer txn.Discard()
	next := s.last
	next.Sequence++
	next.Tables = maps.Clone(s.last.Tables)
	chain := sha256.New()
	chain.Write(s.last.Chain[:])
	s.undo = s.undo[:0:0]
	for _, b := range group {
		for _, w := range b.writes {
			old, err := put(txn, w, &next, chain)
			if err != nil {
				return err
			}
			s.undo = append(s.undo, Write{Table: w.Table, Key: w.Key, Value: old})
		}
	}
	copy(next.Chain[:], chain.Sum(nil))
	encoded, err := cbor.Marshal(next)
	if err != nil {
		return err
	}
	if err := txn.Set(stateKey, seal(stateKey, encoded)); err != nil {
		return err
	}
	if err := s.faulty("commit"); err != nil {
		return err
	}
	if err := txn.Commit(); err != nil {
		return err
	}
	if err := s.faulty("head"); err != nil {
		return err
	}
	if !s.cfg.skipHead {
		if err := s.head.write(next.Sequence, next.Chain); err != nil {
			return err
		}
	}
	s.last = next
	return nil
}

// put writes or deletes one key, and brings the sum of its table in next and
// the chain up to that. The old value is nil where there was none.
func put(txn *badger.Txn, w Write, next *state, chain hash.Hash) (old []byte, err error) {
	key := keyOf(w.Table, w.Key)
	total := next.Tables[w.Table]
	item, err := txn.Get(key)
	switch {
	case err == nil:
		err = item.Value(func(sealed []byte) error {
			total = total.minus(sumOf(key, sealed))
			value, err := unseal(key, sealed)
			old = append([]byte{}, value...)
			return err
		})
		if err != nil {
			return nil, err
		}
	case !errors.Is(err, badger.ErrKeyNotFound):
		return nil, err
	case w.Value == nil:
		return nil, nil // deleting what is not there changes nothing
	}
	chain.Write(key)
	if w.Value == nil {
		next.Tables[w.Table] = total
		return old, txn.Delete(key)
	}
	sealed := seal(key, w.Value)
	chain.Write(sealed)
	next.Tables[w.Table] = total.plus(sumOf(key, sealed))
	return old, txn.Set(key, sealed)
}

// verify compares what Badger holds with the head and with its own sums;
// fresh says that there is nothing yet.
func (s *Store) verify() (fresh bool, err error) {
	defer rescue(&err)
	sequence, chain, written, err := s.head.read()
	if err != nil {
		return false, err
	}
	found, sums, err := s.readAll()
	if err != nil {
		return false, err
	}
	switch {
	case found == nil && len(sums) > 0:
		return false, corrupt("it has keys and no state")
	case found == nil && written:
		return false, corrupt("batch %d was acknowledged, and there is none", sequence)
	case found == nil:
		return true, nil
	case !written && !s.cfg.skipHead && found.Sequence > 1:
		return false, corrupt("the file head is missing or empty, after %d batches", found.Sequence)
	case sequence > found.Sequence:
		return false, corrupt("batch %d was acknowledged, and the last one here is %d", sequence, found.Sequence)
	case sequence == found.Sequence && chain != found.Chain:
		return false, corrupt("batch %d is not the one that was acknowledged", sequence)
	}
	if err := found.compare(sums); err != nil {
		return false, err
	}
	if found.Tables == nil {
		found.Tables = map[string]sum{}
	}
	s.last = *found
	// A crash between the two syncs leaves the head one batch behind.
	if !s.cfg.skipHead && sequence < found.Sequence {
		return false, s.head.write(found.Sequence, found.Chain)
	}
	return false, nil
}

// readAll reads every key: the state, nil when there is none, and the sums of
// the tables as they are.
func (s *Store) readAll() (found *state, sums map[string]sum, err error) {
	sums = map[string]sum{}
	err = s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{PrefetchValues: true, PrefetchSize: 100})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			key := it.Item().Key()
			err := it.Item().Value(func(sealed []byte) error {
				value, err := unseal(key, sealed)
				if err != nil {
					return err
				}
				if bytes.Equal(key, stateKey) {
					found = &state{}
					return cbor.Unmarshal(value, found)
				}
				table := tableOf(key)
				sums[table] = sums[table].plus(sumOf(key, sealed))
				return nil
			})
			if err != nil {
				return fmt.Errorf("store: open: %w: %w", ErrCorrupt, err)
			}
		}
		return nil
	})
	return found, sums, err
}

// compare says which table is not what the last batch left.
func (s *state) compare(sums map[string]sum) error {
	for table, want := range s.Tables {
		if sums[table] != want {
			return corrupt("table %s has lost or changed keys", table)
		}
	}
	for table, got := range sums {
		if got != s.Tables[table] {
			return corrupt("table %s has keys that were never written", table)
		}
	}
	return nil
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("store: open: %w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

// tableOf is the table of a key as keyOf makes it.
func tableOf(key []byte) string {
	table, _, _ := bytes.Cut(key, []byte{0})
	return string(table)
}
