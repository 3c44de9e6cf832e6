package docker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/store"
)

// Folders and files below Config.Dir.
const (
	tasksDir   = "tasks"
	stoppedDir = "stopped"
	logsDir    = "logs"
	filesDir   = "files"
	recordFile = "task.json"
)

// Labels of containers and networks. What the node gave as labels is added with
// a prefix, for people who look with the engine's own tools.
const (
	labelScope   = "hansa.scope"
	labelTask    = "hansa.task"
	labelRecord  = "hansa.record"
	labelNetwork = "hansa.network"
	labelPrefix  = "hansa.label."
)

// record is what a daemon needs to adopt a container: it is a label of it, and
// task.json.
type record struct {
	ID         string            `json:"id"`
	Labels     map[string]string `json:"labels,omitempty"`
	Starts     int               `json:"starts"`
	Ports      map[string]string `json:"ports,omitempty"`
	Image      string            `json:"image"`    // reference
	ImageID    string            `json:"image_id"` // that it stood for
	Network    string            `json:"network,omitempty"`
	StopSignal string            `json:"stop_signal"`
	Grace      time.Duration     `json:"grace"`
	Memory     int64             `json:"memory,omitempty"`
	LogMax     int64             `json:"log_max"`
	Container  string            `json:"container,omitempty"` // in task.json only
	StartedAt  time.Time         `json:"started_at,omitzero"` // in task.json only
}

// task is a container that runs, or has ended and was not acknowledged.
type task struct {
	dir string
	rec record

	drained chan struct{} // closed when nothing more is copied of its output

	mu     sync.Mutex // guards what follows
	status driver.Status
	stop   *stopping     // nil until Stop
	ended  chan struct{} // closed with the state exited or failed
	ending bool          // its end was seen; the rest of its log is awaited
}

func (d *Driver) newTask(rec record, startedAt time.Time) *task {
	return &task{
		dir: d.taskDir(rec.ID), rec: rec, drained: make(chan struct{}), ended: make(chan struct{}),
		status: driver.Status{
			ID: rec.ID, Labels: rec.Labels, State: driver.StateRunning, ExitCode: -1, StartedAt: startedAt,
			Starts: rec.Starts, Ports: rec.Ports,
		},
	}
}

func (d *Driver) taskDir(id string) string {
	return filepath.Join(d.c.Dir, tasksDir, driver.SafeID(id))
}

func (t *task) snapshot() driver.Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.status
	s.Labels, s.Ports = maps.Clone(s.Labels), maps.Clone(s.Ports)
	return s
}

// end is how a container ended.
type end struct {
	state  driver.State
	code   int
	reason string
	oom    bool
	at     time.Time
}

// endOf reads the end from what the engine says of a container that does not
// run.
func (t *task) endOf(s *container.State) end {
	e := end{state: driver.StateExited, code: s.ExitCode, at: engineTime(s.FinishedAt)}
	switch {
	case s.OOMKilled && s.ExitCode == 137:
		e.oom, e.reason = true, "killed: out of memory"
		if t.rec.Memory > 0 {
			e.reason = fmt.Sprintf("killed: out of memory (limit %d MiB)", t.rec.Memory>>20)
		}
	case s.ExitCode != 0:
		e.reason = driver.ExitReason(s.ExitCode)
	}
	if s.Error != "" {
		e.reason = fmt.Sprintf("%s: %s", e.reason, s.Error)
	}
	return e
}

// engineTime reads a time as the API gives it; the engine's zero is "0001-…".
func engineTime(s string) time.Time {
	at, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || at.Year() < 1970 {
		return time.Time{}
	}
	return at
}

// finish sets the final state once, when the rest of the output was read, and
// reports it.
func (d *Driver) finish(t *task, e end) {
	t.mu.Lock()
	if t.ending {
		t.mu.Unlock()
		return
	}
	t.ending = true
	t.mu.Unlock()
	settle := func() {
		timer := time.NewTimer(drainMax)
		defer timer.Stop()
		select {
		case <-t.drained:
		case <-d.ctx.Done(): // the next daemon reads the rest
		case <-timer.C:
			d.c.Log.Warn("the end of a container's output did not come", "task", t.rec.ID)
		}
		d.settle(t, e)
	}
	if !d.crew.Go(settle) {
		d.settle(t, e)
	}
}

func (d *Driver) settle(t *task, e end) {
	if e.at.IsZero() {
		e.at = time.Now()
	}
	t.mu.Lock()
	if e.at.Before(t.status.StartedAt) {
		e.at = t.status.StartedAt // engines stamp the start of what ends at once after its end
	}
	t.status.State, t.status.ExitCode, t.status.Reason = e.state, e.code, e.reason
	t.status.OOM, t.status.ExitedAt = e.oom, e.at
	close(t.ended)
	t.mu.Unlock()
	d.dropSecrets(t.rec.ID)
	d.outbox.Post(t.snapshot())
}

// writeRecord notes the task durably, so that a container that somebody removes,
// or that went with the engine's disk, is missed.
func (t *task) writeRecord() error {
	b, err := json.Marshal(t.rec)
	if err != nil {
		return err
	}
	return store.ReplaceFile(filepath.Join(t.dir, recordFile), b)
}

// readRecords reads the notes of all tasks that were not acknowledged. What is
// torn or not ours is no record.
func (d *Driver) readRecords() (map[string]record, error) {
	root := filepath.Join(d.c.Dir, tasksDir)
	entries, err := os.ReadDir(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	all := map[string]record{}
	for _, e := range entries {
		b, err := os.ReadFile(filepath.Join(root, e.Name(), recordFile))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var r record
		if json.Unmarshal(b, &r) == nil && driver.SafeID(r.ID) == e.Name() {
			all[r.ID] = r
		}
	}
	return all, nil
}

// archive keeps the logs of a task that was stopped, and deletes the rest. The
// rename is the acknowledgement.
func (d *Driver) archive(id string) error {
	from := d.taskDir(id)
	to := filepath.Join(d.c.Dir, stoppedDir, filepath.Base(from))
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return fmt.Errorf("archive the logs: %w", err)
	}
	if err := os.RemoveAll(to); err != nil {
		return fmt.Errorf("archive the logs: %w", err)
	}
	if err := os.Rename(from, to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("archive the logs: %w", err)
	}
	for _, name := range []string{recordFile, filesDir} {
		if err := os.RemoveAll(filepath.Join(to, name)); err != nil { // it goes with its logs
			d.c.Log.Warn("what a stopped task left is not deleted", "task", id, "error", err)
		}
	}
	return nil
}
