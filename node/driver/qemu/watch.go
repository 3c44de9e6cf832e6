package qemu

import (
	"bufio"
	"context"
	"regexp"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

const (
	redialEvery  = 500 * time.Millisecond
	panicGrace   = 2 * time.Second // for a guest to write out what its panic was about
	quitEvery    = 2 * time.Second
	watchedMax   = 2 * time.Second // for the last that qemu said to be heard
	panicTextMax = 200
)

// follow looks after a machine that runs: it listens to qemu, over the
// connection or over one that it makes, and reads the console for a panic.
func (d *Driver) follow(m *machine, control *qmp, s driver.Status) {
	m.mu.Lock()
	m.control = control
	m.mu.Unlock()
	if !d.crew.Go(func() { d.listen(m, control, s) }) {
		close(m.watched)
		if control != nil {
			control.close()
		}
	}
	d.crew.Go(func() { d.readConsole(m, s) })
}

// listen hears what qemu tells, until it is gone.
func (d *Driver) listen(m *machine, control *qmp, s driver.Status) {
	defer close(m.watched)
	for {
		if control == nil {
			ctx, cancel := context.WithTimeout(d.ctx, qmpTimeout)
			control, _ = d.dialControl(ctx, m.id) // nil where it failed: once more
			cancel()
			m.mu.Lock()
			m.control = control
			m.mu.Unlock()
		}
		if control != nil {
			d.hear(m, control, s)
			control = nil
		}
		select {
		case <-m.gone:
			return
		case <-d.ctx.Done():
			return
		case <-time.After(redialEvery):
		}
	}
}

// hear takes events until the connection ends.
func (d *Driver) hear(m *machine, control *qmp, s driver.Status) {
	defer func() {
		m.mu.Lock()
		m.control = nil
		m.mu.Unlock()
		control.close()
	}()
	for {
		select {
		case <-d.ctx.Done():
			return
		case e, ok := <-control.events:
			if !ok {
				return
			}
			switch e.Name {
			case "GUEST_PANICKED": // qemu ends by itself
				m.blame(panicked(s, ""))
			case "BLOCK_IO_ERROR":
				d.c.Log.Warn("a machine's disk fails", "task", m.id, "data", string(e.Data[:min(len(e.Data), 400)]))
			}
		}
	}
}

func panicked(s driver.Status, why string) verdict {
	reason := "the guest's kernel panicked"
	if why != "" {
		reason = "kernel panic: " + why
	}
	return verdict{Starts: s.Starts, State: driver.StateFailed, ExitCode: -1, Reason: reason}
}

// readConsole waits for the line of a panic: a kernel without a driver for
// pvpanic tells nobody else, and stands still or reboots for ever.
func (d *Driver) readConsole(m *machine, s driver.Status) {
	ctx, cancel := context.WithCancel(d.ctx)
	defer cancel()
	r, err := d.inner.Logs(ctx, m.id, driver.LogOptions{Follow: true, Since: s.StartedAt})
	if err != nil {
		d.c.Log.Warn("a machine's console is not watched", "task", m.id, "error", err)
		return
	}
	defer r.Close()
	why, ok := panicIn(r)
	if !ok {
		return
	}
	select {
	case <-m.gone:
		return // settle reads why
	case <-d.ctx.Done():
		return
	case <-time.After(panicGrace):
	}
	m.blame(panicked(s, why))
	for {
		d.tell(m, "quit")
		select {
		case <-m.gone:
			return
		case <-d.ctx.Done():
			return
		case <-time.After(quitEvery):
		}
	}
}

// panicLine is what Linux begins a line with, apart from the time, and what a
// person or a program that writes of panics seldom does.
var panicLine = regexp.MustCompile(`^(?:\[ *\d+\.\d+\](?:\[ *[TC]\d+\])? *)?Kernel panic - not syncing:? *(.*)`)

// panicIn finds the line of a panic in a log, and what it says.
func panicIn(r interface{ Read([]byte) (int, error) }) (why string, ok bool) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<10)
	for lines.Scan() {
		l, err := driver.ParseLogLine(lines.Text())
		if err != nil || l.Stream != "stdout" {
			continue
		}
		if found := panicLine.FindStringSubmatch(l.Text); found != nil {
			return found[1][:min(len(found[1]), panicTextMax)], true
		}
	}
	return "", false
}

// heard takes what the driver of programs reports of a qemu.
func (d *Driver) heard(e driver.Event) {
	s := e.Status
	m := d.machine(s.ID)
	if m == nil {
		return // of a start that was undone
	}
	m.mu.Lock()
	ours := !m.starting && m.starts == s.Starts
	m.mu.Unlock()
	switch {
	case !ours: // Start looks at its own; an earlier start is over
	case s.State.Ended():
		m.leave()
		d.crew.Go(func() {
			select {
			case <-m.watched:
			case <-time.After(watchedMax):
			}
			d.settle(m, s)
		})
	default:
		d.outbox.Post(m.translate(s))
	}
}

// settle finds out how a machine ended whose qemu has, and reports it, once.
func (d *Driver) settle(m *machine, s driver.Status) {
	m.leave()
	m.mu.Lock()
	first := !m.settling
	m.settling = true
	m.mu.Unlock()
	if !first {
		return
	}
	v := d.verdict(s)
	m.mu.Lock()
	if e := m.rec.End; v != nil && (e == nil || e.Starts != s.Starts || e.ExitCode == -1) {
		m.rec.End = v
	}
	if e := m.rec.End; e != nil && e.Starts == s.Starts && s.Fenced {
		m.rec.End = nil // its deadline was first
	}
	rec := m.rec
	m.mu.Unlock()
	if rec.End != nil {
		if err := writeRecord(d.folder(m.id), rec); err != nil {
			d.c.Log.Warn("how a machine ended is not written down", "task", m.id, "error", err)
		}
	}
	m.mu.Lock()
	m.settled = true
	m.mu.Unlock()
	m.console.close()
	d.outbox.Post(m.translate(s))
	close(m.ended)
}

// verdict is how a machine ended, where its qemu's end says less.
func (d *Driver) verdict(s driver.Status) *verdict {
	if s.Fenced || s.State == driver.StateExited && s.ExitCode == 0 {
		return nil
	}
	v := verdict{Starts: s.Starts, State: s.State, ExitCode: s.ExitCode, Reason: s.Reason}
	switch {
	case s.OOM:
		v.Reason = "qemu was killed: out of memory: it took more beside the guest's memory than is planned for"
	case s.State == driver.StateFailed:
		v.Reason = strings.NewReplacer("program", "machine").Replace(s.Reason)
	case s.ExitCode == 1:
		r, err := d.inner.Logs(d.ctx, s.ID, driver.LogOptions{Since: s.StartedAt})
		if err != nil {
			return nil
		}
		defer r.Close()
		why, ok := panicIn(r)
		if !ok {
			return nil
		}
		v = panicked(s, why)
	default:
		return nil
	}
	return &v
}
