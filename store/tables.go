package store

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
)

// checkTables looks at the end of each of Badger's tables before Badger does:
// the lengths that stand there are what it reads without a check, on a
// goroutine of its own where its panic would end the daemon. All else in a
// table Badger checks itself, and verify checks what Badger gives.
//
// A table ends with: index, length of the index, checksum of the index, length
// of the checksum; both lengths big-endian in 4 bytes.
func checkTables(dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := checkTable(path); err != nil {
			return fmt.Errorf("store: open: %w: %s: %w", ErrCorrupt, filepath.Base(path), err)
		}
	}
	return nil
}

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
	at := info.Size()
	for _, what := range []string{"checksum", "index"} {
		var length [4]byte
		if at -= 4; at < 0 {
			return fmt.Errorf("it has %d bytes", info.Size())
		}
		if _, err := file.ReadAt(length[:], at); err != nil {
			return err
		}
		n := int64(binary.BigEndian.Uint32(length[:]))
		if at -= n; n == 0 || at < 0 {
			return fmt.Errorf("its %s is cut or overwritten", what)
		}
	}
	return nil
}
