package fake

import (
	"context"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// linesMax bounds the log of one task.
const linesMax = 10000

// Proc is what a program of the fake sees of its task.
type Proc struct {
	Task    driver.Task
	Args    []string // the command, expanded
	Env     map[string]string
	Signals <-chan string // stop signals, by name
	Stdin   io.Reader
	Size    <-chan driver.Size // of its terminal, the first one included
	run     *run
	write   func(stream, text string)
}

// Print adds a line to the task's standard output, or gives it to whoever runs
// the program beside a task.
func (p *Proc) Print(line string) { p.write("stdout", line+"\n") }

// PrintError is Print for the standard error.
func (p *Proc) PrintError(line string) { p.write("stderr", line+"\n") }

// Program is run as a task; it returns the exit code. When ctx is done it was
// killed, and what it returns no longer matters.
type Program func(ctx context.Context, p *Proc) int

// World is the machine on which the fake's tasks run. It outlives drivers.
type World struct {
	mu       sync.Mutex // guards what follows
	tasks    map[string]*run
	ended    map[string]*run // stopped: kept for their logs
	programs map[string]Program
	onStart  func(driver.Task) error
	watchers map[*Driver]struct{}
	starts   int
	litter   map[string]bool      // ids of which something was left behind
	images   map[string]time.Time // of the mesh that tasks ran from, and when last

	made time.Time // for boottime
}

// run is one task in the world.
type run struct {
	world  *World
	task   driver.Task
	kill   func()
	signal chan string   // to its program; nil for what only runs until it is stopped
	done   chan struct{} // closed when this start has ended

	mu     sync.Mutex // guards what follows
	status driver.Status
	used   driver.Usage
	files  map[string]file
	lines  []driver.LogLine
	fence  *time.Timer   // ends it at its deadline; nil without one
	first  int           // number of lines dropped before lines[0]
	grown  chan struct{} // closed and replaced when lines or the state changes
}

// NewWorld returns an empty world.
func NewWorld() *World {
	return &World{
		tasks: map[string]*run{}, ended: map[string]*run{},
		programs: map[string]Program{}, watchers: map[*Driver]struct{}{}, litter: map[string]bool{}, images: map[string]time.Time{}, made: time.Now(),
	}
}

// Program makes a command's first word run p.
func (w *World) Program(name string, p Program) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.programs[name] = p
}

// OnStart is called before each start; an error fails the start, and waiting
// in it delays the start. nil for none.
func (w *World) OnStart(f func(driver.Task) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.onStart = f
}

// Exit makes a running task end by itself with that code, as a crash would.
// It reports whether there was one.
func (w *World) Exit(id string, code int) bool {
	w.mu.Lock()
	r := w.tasks[id]
	w.mu.Unlock()
	if r == nil {
		return false
	}
	return r.end(code, driver.StateExited, "")
}

// KillAll ends every task, as a power cut would: with no daemon told.
func (w *World) KillAll() {
	w.mu.Lock()
	runs := make([]*run, 0, len(w.tasks))
	for _, r := range w.tasks {
		runs = append(runs, r)
	}
	w.tasks = map[string]*run{}
	w.mu.Unlock()
	for _, r := range runs {
		r.end(137, driver.StateExited, "the machine went down")
		<-r.done
	}
}

// Running returns how many tasks run.
func (w *World) Running() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, r := range w.tasks {
		if !r.snapshot().State.Ended() {
			n++
		}
	}
	return n
}

// Tasks returns the tasks that run, in the order of their ids.
func (w *World) Tasks() []driver.Task {
	w.mu.Lock()
	defer w.mu.Unlock()
	var tasks []driver.Task
	for _, r := range w.tasks {
		if !r.snapshot().State.Ended() {
			tasks = append(tasks, r.task.Clone())
		}
	}
	slices.SortFunc(tasks, func(a, b driver.Task) int { return strings.Compare(a.ID, b.ID) })
	return tasks
}

// Starts returns how many starts there ever were.
func (w *World) Starts() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.starts
}

func (w *World) notify(s driver.Status) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for d := range w.watchers {
		d.outbox.Post(s)
	}
}

func (r *run) snapshot() driver.Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// set changes the state unless it ended already.
func (r *run) set(change func(*driver.Status)) bool {
	return r.setIf(func(s *driver.Status) bool { change(s); return true })
}

// setIf is set for a change that finds out whether it still applies.
func (r *run) setIf(change func(*driver.Status) bool) bool {
	r.mu.Lock()
	if r.status.State.Ended() || !change(&r.status) {
		r.mu.Unlock()
		return false
	}
	s := r.status
	if s.State.Ended() && r.fence != nil {
		r.fence.Stop()
	}
	close(r.grown)
	r.grown = make(chan struct{})
	r.mu.Unlock()
	r.world.notify(s)
	return true
}

func (r *run) end(code int, state driver.State, reason string) bool {
	ended := r.set(func(s *driver.Status) {
		s.State, s.ExitCode, s.ExitedAt, s.Reason = state, code, time.Now(), reason
		if reason == "" && code != 0 {
			s.Reason = driver.ExitReason(code)
		}
	})
	r.kill()
	return ended
}

func (r *run) print(stream, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.status.State.Ended() {
		return
	}
	for line := range strings.Lines(text) {
		r.lines = append(r.lines, driver.LogLine{Time: time.Now(), Stream: stream, Text: strings.TrimSuffix(line, "\n")})
	}
	if over := len(r.lines) - linesMax; over > 0 {
		r.lines, r.first = r.lines[over:], r.first+over
	}
	close(r.grown)
	r.grown = make(chan struct{})
}

// read writes the log to w as options say, until it ends or w is closed.
func (r *run) read(ctx context.Context, w *io.PipeWriter, o driver.LogOptions) {
	next, fresh := 0, true
	for {
		r.mu.Lock()
		if next < r.first {
			next = r.first
		}
		if fresh && o.Tail > 0 {
			next = max(next, r.first+len(r.lines)-o.Tail)
		}
		lines := r.lines[next-r.first:]
		next, fresh = r.first+len(r.lines), false
		grown, ended := r.grown, r.status.State.Ended()
		r.mu.Unlock()
		for _, l := range lines {
			if l.Time.Before(o.Since) {
				continue
			}
			if _, err := w.Write(l.Append(nil)); err != nil {
				return
			}
		}
		if ended || !o.Follow {
			w.Close()
			return
		}
		select {
		case <-grown:
		case <-ctx.Done():
			w.CloseWithError(ctx.Err())
			return
		}
	}
}
