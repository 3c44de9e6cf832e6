package store

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// slotLen is the length of one slot of the file head: sequence, chain and a
// checksum. The slots lie in different sectors, so that a torn write of one
// leaves the other.
const (
	slotLen  = 8 + 16 + 4
	slotStep = 4096
)

// headFile is the second witness of the last batch.
type headFile struct{ file *os.File }

func openHead(path string) (*headFile, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("store: head: %w", err)
	}
	return &headFile{file}, nil
}

// write notes a batch in the slot whose turn it is, and syncs it.
func (h *headFile) write(sequence uint64, chain [16]byte) error {
	slot := make([]byte, 0, slotLen)
	slot = binary.LittleEndian.AppendUint64(slot, sequence)
	slot = append(slot, chain[:]...)
	slot = binary.LittleEndian.AppendUint32(slot, crc32.Checksum(slot, castagnoli))
	if _, err := h.file.WriteAt(slot, int64(sequence%2)*slotStep); err != nil {
		return fmt.Errorf("head: %w", err)
	}
	if err := syncData(h.file); err != nil {
		return fmt.Errorf("head: %w", err)
	}
	return nil
}

// read returns the later of the two slots that are whole.
func (h *headFile) read() (sequence uint64, chain [16]byte, written bool, err error) {
	info, err := h.file.Stat()
	if err != nil {
		return 0, chain, false, fmt.Errorf("store: head: %w", err)
	}
	for i := range int64(2) {
		slot := make([]byte, slotLen)
		if n, err := h.file.ReadAt(slot, i*slotStep); n < slotLen {
			_ = err // a short file has fewer slots
			continue
		}
		if binary.LittleEndian.Uint32(slot[24:]) != crc32.Checksum(slot[:24], castagnoli) {
			continue
		}
		if n := binary.LittleEndian.Uint64(slot); !written || n > sequence {
			sequence, written = n, true
			copy(chain[:], slot[8:24])
		}
	}
	if !written && info.Size() >= slotLen {
		return 0, chain, false, fmt.Errorf("store: head: %w: neither slot is whole", ErrCorrupt)
	}
	return sequence, chain, written, nil
}

func (h *headFile) close() error { return h.file.Close() }

// format is what format.json says of a data folder.
type format struct {
	Version     int    `json:"version"`
	Mesh        string `json:"mesh"`
	Incarnation uint64 `json:"incarnation"` // the highest used
	// Restoring is true until a restore has ended: what is here is a part.
	Restoring bool `json:"restoring,omitempty"`
	// Check is the checksum of the rest, since a flipped byte would name
	// another mesh, or the incarnation of another life.
	Check string `json:"check"`
}

const formatFile = "format.json"

// sum is what Check must be.
func (f format) sum() string {
	text := fmt.Sprintf("%d %q %d %t", f.Version, f.Mesh, f.Incarnation, f.Restoring)
	return fmt.Sprintf("%08x", crc32.Checksum([]byte(text), castagnoli))
}

// wasOlder is whether its checksum is that of a version that this daemon reads: then
// nobody wrote it in another.
func (f format) wasOlder() bool {
	check := f.Check
	for f.Version = 1; f.Version <= formatVersion; f.Version++ {
		if f.sum() == check {
			return true
		}
	}
	return false
}

func readFormat(dir string) (format, error) {
	none := format{Version: formatVersion}
	data, err := os.ReadFile(filepath.Join(dir, formatFile))
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(filepath.Join(dir, "db")); err == nil {
			return none, fmt.Errorf("store: open %s: %w: there is a db folder and no %s", dir, ErrCorrupt, formatFile)
		}
		return none, nil
	}
	if err != nil {
		return none, fmt.Errorf("store: open: %w", err)
	}
	var f format
	switch err := json.Unmarshal(data, &f); {
	case err != nil:
		return none, fmt.Errorf("store: open %s: %w: %s: %w", dir, ErrCorrupt, formatFile, err)
	case f.Version > formatVersion && f.wasOlder():
		return none, fmt.Errorf("store: open %s: %w: %s was changed", dir, ErrCorrupt, formatFile)
	case f.Version > formatVersion: // it may have fields that this daemon can't check
		return none, fmt.Errorf("store: open %s: %w: version %d, this daemon reads %d; run the daemon that wrote it, or name another folder with --data-dir",
			dir, ErrVersion, f.Version, formatVersion)
	case f.Version < 1 || f.Check != f.sum():
		return none, fmt.Errorf("store: open %s: %w: %s was changed", dir, ErrCorrupt, formatFile)
	}
	return f, nil
}

// save replaces format.json as a whole.
func (f format) save(dir string) error {
	f.Check = f.sum()
	data, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return ReplaceFile(filepath.Join(dir, formatFile), append(data, '\n'))
}

// ReplaceFile writes a file as a whole, readable by its owner only, so that a
// crash at any moment leaves the old or the new one. The folder must exist.
func ReplaceFile(path string, data []byte) error {
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("store: replace %s: %w", path, err)
	}
	defer os.Remove(file.Name()) // not there any more when it was renamed
	_, err = file.Write(data)
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("store: replace %s: %w", path, err)
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return fmt.Errorf("store: replace %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("store: sync %s: %w", dir, err)
	}
	return nil
}

// quarantinesMax bounds the damaged stores that are kept: of a disk that goes on
// breaking, the latest.
const quarantinesMax = 4

// quarantine puts a damaged store aside, whole, and keeps the files by digest,
// which verify themselves.
func (s *Store) quarantine(cause error) error {
	// What is known of the incarnation is carried on if it can be read.
	f, err := readFormat(s.cfg.Dir)
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return errors.Join(cause, err)
	}
	older, err := filepath.Glob(filepath.Join(s.cfg.Dir, "quarantine-*"))
	if err != nil {
		return errors.Join(cause, err)
	}
	for slices.Sort(older); len(older) >= quarantinesMax; older = older[1:] { // the names are times
		s.log.Warn("the oldest damaged store is dropped, to keep this one", "dropped", older[0])
		if err := os.RemoveAll(older[0]); err != nil {
			return errors.Join(cause, fmt.Errorf("store: quarantine: %w", err))
		}
	}
	aside := filepath.Join(s.cfg.Dir, "quarantine-"+time.Now().UTC().Format("20060102T150405.000"))
	if err := os.MkdirAll(aside, 0o700); err != nil {
		return errors.Join(cause, err)
	}
	for _, name := range []string{"db", "head", formatFile} {
		err := os.Rename(filepath.Join(s.cfg.Dir, name), filepath.Join(aside, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return errors.Join(cause, fmt.Errorf("store: quarantine: %w", err))
		}
	}
	f.Version = formatVersion
	if err := errors.Join(f.save(s.cfg.Dir), syncDir(aside)); err != nil {
		return errors.Join(cause, err)
	}
	s.reason, s.setAside = cause.Error(), aside
	return nil
}
