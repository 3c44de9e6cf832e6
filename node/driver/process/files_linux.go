package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/store"
)

// Names within a task's folder.
const (
	specFile = "spec.json" // by the daemon, before the supervisor
	runFile  = "run.json"  // by the supervisor, once the program runs
	stopFile = "stop.json" // by the daemon, before it signals the supervisor
	exitFile = "exit.json" // by the supervisor, when all is over
	lockFile = "lock"      // held by the supervisor as long as it lives
	idFile   = "id"        // by the daemon; stays with the logs
	logsDir  = "logs"
	workDir  = "work"
	tmpDir   = "tmp"
	stageDir = "stage" // where the launcher mounts the task's files, seen by nobody else
)

// jsonBytesMax bounds what is read back.
const jsonBytesMax = 4 << 20

// spec is what is known of a task on disk, for whoever adopts it. What the
// program is given (its environment, its files) is not: secrets may be in it.
type spec struct {
	Task   driver.Task `json:"task"`   // without Env and Files
	Starts int         `json:"starts"` // which start of the task this is
	Groups groups      `json:"groups"`
	// Processes is the most processes and threads that it may have.
	Processes int `json:"processes"`
	// Isolation is what the program has of its own.
	Isolation isolation `json:"isolation,omitempty"`
	// Note is for the log: what is not enforced.
	Note string `json:"note,omitempty"`
}

// order is what the supervisor is told, in memory.
type order struct {
	Spec   spec       `json:"spec"`
	Launch launchSpec `json:"launch"`
}

// runRecord says who runs.
type runRecord struct {
	Starts     int       `json:"starts"`
	Supervisor identity  `json:"supervisor"`
	Program    identity  `json:"program"`
	StartedAt  time.Time `json:"started_at"`
	// DeadlineFd is the supervisor's descriptor of the task's deadline, 0 if
	// it has none.
	DeadlineFd int `json:"deadline_fd,omitempty"`
	// LaunchFd is the supervisor's descriptor of the memory that says how the
	// program was launched, by which others are launched beside it; 0 if an
	// older version started it.
	LaunchFd int `json:"launch_fd,omitempty"`
}

// stopOrder is how a program is to be stopped.
type stopOrder struct {
	Signal string        `json:"signal"`
	Grace  time.Duration `json:"grace"` // below 0: kill at once
}

// exitRecord is how it ended.
type exitRecord struct {
	Starts   int       `json:"starts"`
	ExitCode int       `json:"exit_code"`
	Reason   string    `json:"reason,omitempty"`
	OOM      bool      `json:"oom,omitempty"`
	ExitedAt time.Time `json:"exited_at"`

	Fenced  bool          `json:"fenced,omitempty"`
	Overrun time.Duration `json:"overrun,omitempty"`
}

// writeJSON replaces the file at once, durably: after a crash there is the old
// content or the new one.
func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return store.ReplaceFile(path, b)
}

// readJSON reports false if the file is not there or is no such record.
func readJSON(path string, v any) (bool, error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if info.Size() > jsonBytesMax {
		return false, nil
	}
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return json.Unmarshal(b, v) == nil, nil
}

// lockMax is how long a lock is waited for: who only looks whether it is held
// holds it for that moment.
const lockMax = time.Second

// takeLock takes the task's lock. It is taken by the daemon and inherited by
// the supervisor, so that there is no moment in which a supervisor is on its
// way and nothing shows it: not even if the daemon is killed in it.
func takeLock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	for deadline := time.Now().Add(lockMax); ; time.Sleep(sweepInterval) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) || time.Now().After(deadline) {
			f.Close()
			return nil, fmt.Errorf("this task has a supervisor already: %w", err)
		}
	}
}

// writeLock notes in the lock's file who holds it. It need not be durable: it
// means nothing once the holder is gone.
func writeLock(f *os.File, holder identity) error {
	b, err := json.Marshal(holder)
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(b, 0)
	}
	if err != nil {
		return fmt.Errorf("note who holds the lock: %w", err)
	}
	return nil
}

// locked reports whether a supervisor lives: it holds the lock until its end,
// however that comes.
func locked(dir string) (bool, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_RDONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	err = unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}
