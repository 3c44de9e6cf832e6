package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/fb"
	"github.com/dgraph-io/badger/v4/table"
)

// checkTables reads each of Badger's tables, whole, before Badger does. Badger
// opens them on goroutines of its own and panics there over a wrong checksum,
// or over a length that points elsewhere: nobody can recover that, and the
// daemon would end each time that it starts.
//
// Only the tables that the MANIFEST lists are looked at. A crash can leave
// another one behind, torn: what it should hold is still in the log, and
// Badger removes it.
func checkTables(o badger.Options) error {
	file, err := os.Open(filepath.Join(o.Dir, badger.ManifestFilename))
	if errors.Is(err, os.ErrNotExist) {
		return checkNoManifest(o.Dir)
	}
	if err != nil {
		return fmt.Errorf("store: open: %w", err)
	}
	defer file.Close()
	manifest, _, err := badger.ReplayManifestFile(file, 0, o)
	if err != nil {
		return fmt.Errorf("store: open: %w: %s: %w", ErrCorrupt, badger.ManifestFilename, err)
	}
	for id := range manifest.Tables {
		path := table.NewFilename(id, o.Dir)
		if err := checkTable(path); err != nil {
			return fmt.Errorf("store: open: %w: %s: %w", ErrCorrupt, filepath.Base(path), err)
		}
	}
	return nil
}

// checkNoManifest: Badger makes the MANIFEST first, and without one removes
// all tables as strangers.
func checkNoManifest(dir string) error {
	for _, pattern := range []string{"*.sst", "*.mem"} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return fmt.Errorf("store: open: %w", err)
		}
		if len(paths) > 0 {
			return fmt.Errorf("store: open: %w: %s is missing, and %s is there", ErrCorrupt, badger.ManifestFilename, filepath.Base(paths[0]))
		}
	}
	return nil
}

// checkTable checks one table: blocks, then the index, the length of the
// index, the checksum of the index and the length of that. A block ends with
// its checksum and the length of that, too. Lengths are big-endian in 4 bytes.
func checkTable(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	end := info.Size()
	sum, at, err := lastPart(file, end)
	if err != nil {
		return fmt.Errorf("the checksum of its index: %w", err)
	}
	index, _, err := lastPart(file, at)
	if err != nil {
		return fmt.Errorf("its index: %w", err)
	}
	if string(sum) != string(sumOfBadger(index)) {
		return errors.New("its index has a wrong checksum")
	}
	blocks, buf := fb.GetRootAsTableIndex(index, 0), []byte(nil)
	if blocks.OffsetsLength() == 0 {
		return errors.New("its index lists no block")
	}
	for i := range blocks.OffsetsLength() {
		var b fb.BlockOffset
		if !blocks.Offsets(&b, i) || int64(b.Offset())+int64(b.Len()) > end {
			return fmt.Errorf("block %d is out of its bounds", i)
		}
		if n := int(b.Len()); cap(buf) < n {
			buf = make([]byte, n)
		}
		if err := checkBlock(file, buf[:b.Len()], int64(b.Offset())); err != nil {
			return fmt.Errorf("block %d: %w", i, err)
		}
	}
	return nil
}

// checkBlock reads a block into buf and compares it with its checksum.
func checkBlock(file io.ReaderAt, buf []byte, at int64) error {
	if _, err := file.ReadAt(buf, at); err != nil {
		return err
	}
	rest := len(buf) - 4
	if rest < 0 {
		return errors.New("it is cut")
	}
	n := int64(binary.BigEndian.Uint32(buf[rest:]))
	if n > int64(rest) {
		return errors.New("its checksum is overwritten")
	}
	data, sum := buf[:rest-int(n)], buf[rest-int(n):rest]
	if string(sum) != string(sumOfBadger(data)) {
		return errors.New("wrong checksum")
	}
	return nil
}

// lastPart reads what ends at end with its length, and says where it begins.
func lastPart(file io.ReaderAt, end int64) (part []byte, at int64, err error) {
	var length [4]byte
	if end < 4 {
		return nil, 0, errors.New("the file is cut")
	}
	if _, err := file.ReadAt(length[:], end-4); err != nil {
		return nil, 0, err
	}
	n := int64(binary.BigEndian.Uint32(length[:]))
	if at = end - 4 - n; at < 0 {
		return nil, 0, errors.New("its length is overwritten")
	}
	part = make([]byte, n)
	if _, err := file.ReadAt(part, at); err != nil {
		return nil, 0, err
	}
	return part, at, nil
}

// sumOfBadger is the checksum that Badger writes for data: the message
// Checksum in protocol buffers, of which the algorithm, CRC-32C, is number 0
// and so left out, and the sum is field 2. (Badger v4, pb/badgerpb4.proto.)
func sumOfBadger(data []byte) []byte {
	sum := crc32.Checksum(data, castagnoli)
	if sum == 0 {
		return nil
	}
	return binary.AppendUvarint([]byte{2 << 3}, uint64(sum))
}
