package qemu

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/store"
)

// machine is one start of a machine.
type machine struct {
	id      string
	console hub
	gone    chan struct{} // closed when qemu has ended
	watched chan struct{} // closed when nobody listens to qemu any more
	ended   chan struct{} // closed when it is known how

	mu       sync.Mutex // guards what follows
	rec      record
	starts   int  // which start of it this is; 0 until that is known
	starting bool // qemu has not answered yet: nothing is reported
	settling bool // somebody finds out how it ended
	settled  bool // that is known
	leaving  bool // gone is closed
	control  *qmp // nil while there is no connection
	order    *order
}

// record is what is kept of a machine beside its disk.
type record struct {
	ID        string        `json:"id"`
	Image     string        `json:"image,omitempty"` // digest of what the disk lies over
	DiskBytes int64         `json:"disk_bytes,omitempty"`
	Grace     time.Duration `json:"grace"`
	// End is how a start ended, where that is not simply how qemu did.
	End *verdict `json:"end,omitempty"`
}

// verdict is how a start of a machine ended.
type verdict struct {
	Starts   int          `json:"starts"` // which
	State    driver.State `json:"state"`
	ExitCode int          `json:"exit_code"`
	Reason   string       `json:"reason"`
}

func newMachine(id string) *machine {
	return &machine{id: id, gone: make(chan struct{}), watched: make(chan struct{}), ended: make(chan struct{})}
}

// translate makes a machine's status of that of its qemu.
func (m *machine) translate(s driver.Status) driver.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch over := s.State.Ended(); {
	case over && m.settled:
		if e := m.rec.End; e != nil && e.Starts == s.Starts {
			s.State, s.ExitCode, s.Reason = e.State, e.ExitCode, e.Reason
		}
		return s
	case over: // not before it is known how
		s.ExitCode, s.Reason, s.OOM, s.ExitedAt, s.Fenced, s.Overrun = -1, "", false, time.Time{}, false, 0
		s.State = driver.StateRunning
	}
	switch {
	case m.order != nil:
		s.State = driver.StateStopping
	case m.starting:
		s.State = driver.StateStarting
	}
	return s
}

// leave notes that qemu has ended.
func (m *machine) leave() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.leaving {
		m.leaving = true
		close(m.gone)
	}
}

// blame notes why a machine that runs is about to end; the first reason counts.
func (m *machine) blame(v verdict) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.rec.End; e == nil || e.Starts != v.Starts {
		m.rec.End = &v
	}
}

// recordMax bounds what is read back.
const recordMax = 64 << 10

func readRecord(dir string) (record, error) {
	var r record
	b, err := os.ReadFile(filepath.Join(dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if err != nil {
		return r, fmt.Errorf("read %s: %w", recordFile, err)
	}
	if len(b) > recordMax || json.Unmarshal(b, &r) != nil {
		return record{}, nil // damaged: what qemu says of itself is left
	}
	return r, nil
}

// writeRecord replaces a machine's record at once and durably.
func writeRecord(dir string, r record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("write %s: %w", recordFile, err)
	}
	return store.ReplaceFile(filepath.Join(dir, recordFile), b)
}
