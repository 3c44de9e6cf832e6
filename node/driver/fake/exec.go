package fake

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// Exec implements driver.Execer. Commands are looked up as those of tasks are;
// they get no signals.
func (d *Driver) Exec(ctx context.Context, id string, x driver.Exec) (int, error) {
	d.world.mu.Lock()
	r := d.world.tasks[id]
	program := d.world.programFor(x.Command)
	d.world.mu.Unlock()
	if program == nil {
		program = runUntil(0)
	}
	if r == nil || r.snapshot().State.Ended() {
		return 0, fmt.Errorf("exec in %q: %w", id, driver.ErrUnknownTask)
	}
	if x.Console {
		return 0, fmt.Errorf("exec in %q: %w: a goroutine has no console", id, driver.ErrInvalid)
	}
	if len(x.Command) > 0 && strings.HasPrefix(x.Command[0], "/no/") {
		return 127, nil
	}
	mine, cancel := context.WithCancel(ctx)
	defer cancel()
	var mu sync.Mutex // held for one write
	p := &Proc{
		Task: r.task, Args: x.Command, Env: r.task.Environment(), Signals: make(chan string),
		Stdin: x.Stdin, Size: sizes(mine, x), run: r,
		write: func(stream, text string) {
			mu.Lock()
			defer mu.Unlock()
			w := x.Stdout
			if stream == "stderr" && !x.TTY {
				w = x.Stderr
			}
			_, _ = io.WriteString(w, text) // a reader that left is not the program's concern
		},
	}
	if p.Stdin == nil {
		p.Stdin = strings.NewReader("")
	}
	ended := make(chan int, 1)
	go func() { ended <- program(mine, p) }()
	select {
	case code := <-ended:
		return code, nil
	case <-ctx.Done():
		cancel()
		<-ended
		return 0, fmt.Errorf("exec in %q: %w", id, ctx.Err())
	case <-r.done:
		cancel()
		<-ended
		return 137, nil
	}
}

// sizes are those of an Exec's terminal, the first one included.
func sizes(ctx context.Context, x driver.Exec) <-chan driver.Size {
	all := make(chan driver.Size)
	if !x.TTY {
		return all
	}
	go func() {
		for next := x.Size; ; {
			select {
			case all <- next:
			case <-ctx.Done():
				return
			}
			select {
			case size, ok := <-x.Resize:
				if !ok {
					return
				}
				next = size
			case <-ctx.Done():
				return
			}
		}
	}()
	return all
}

// Usage implements driver.Meter: what programs said with Proc.Use.
func (d *Driver) Usage(ctx context.Context) (map[string]driver.Usage, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	d.world.mu.Lock()
	defer d.world.mu.Unlock()
	all := map[string]driver.Usage{}
	for id, r := range d.world.tasks {
		r.mu.Lock()
		if !r.status.State.Ended() {
			u := r.used
			u.Tasks, u.At = 1, time.Now()
			all[id] = u
		}
		r.mu.Unlock()
	}
	return all, nil
}

// Litter leaves something behind of a task, which only Collect removes.
func (w *World) Litter(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.litter[id] = true
}

// Littered reports whether something was left behind of a task.
func (w *World) Littered(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.litter[id]
}

// Collect implements driver.Collector.
func (d *Driver) Collect(ctx context.Context, gone func(id string) bool) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	d.world.mu.Lock()
	defer d.world.mu.Unlock()
	for id := range d.world.litter {
		if gone(id) {
			delete(d.world.litter, id)
		}
	}
	return nil
}
