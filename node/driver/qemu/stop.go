package qemu

import (
	"context"
	"fmt"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// pressEvery is the pause between presses of the power button: a guest that has
// not begun to listen yet misses the first.
const pressEvery = 3 * time.Second

// order is the stop of a machine that is under way.
type order struct {
	at     time.Time     // of the kill
	sooner chan struct{} // at was moved
}

// Stop implements driver.Driver: the power button is pressed, so that the guest
// ends in order; after the grace qemu is told to end, and then killed. The disk
// is parked.
func (d *Driver) Stop(ctx context.Context, id string, grace time.Duration) error {
	m, err := d.quit(ctx, id, grace)
	if err != nil {
		return fmt.Errorf("stop %q: %w", id, err)
	}
	defer d.locks.Lock(id)()
	switch now := d.machine(id); {
	case now == m:
	case now == nil:
		return nil // another Stop was first
	default:
		return fmt.Errorf("stop %q: %w", id, driver.ErrRestarted)
	}
	if err := d.inner.Stop(ctx, id, -1); err != nil { // of no machine too: a start may have left its qemu
		return err
	}
	if err := d.park(id); err != nil {
		return fmt.Errorf("stop %q: %w", id, err)
	}
	d.mu.Lock()
	delete(d.machines, id)
	d.mu.Unlock()
	if m != nil {
		d.crew.Go(d.reap)
	}
	return nil
}

// Halt implements driver.Halter: the machine powers down as at Stop, and its disk
// stays for the next start.
func (d *Driver) Halt(ctx context.Context, id string, grace time.Duration) error {
	if _, err := d.quit(ctx, id, grace); err != nil {
		return fmt.Errorf("halt %q: %w", id, err)
	}
	return nil
}

// quit powers a machine down and waits until it has ended; nil if there is none.
func (d *Driver) quit(ctx context.Context, id string, grace time.Duration) (*machine, error) {
	if err := d.load(ctx); err != nil {
		return nil, err
	}
	unlock := d.locks.Lock(id) // not while one is starting
	m := d.machine(id)
	unlock()
	if m == nil {
		return nil, nil
	}
	d.powerDown(m, grace)
	return m, d.crew.Await(ctx, m.ended)
}

// powerDown begins to end a machine, or hastens an end that has begun.
func (d *Driver) powerDown(m *machine, grace time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.settled {
		return
	}
	if grace == 0 {
		grace = m.rec.Grace
	}
	if grace == 0 { // its record is lost
		grace = driver.GraceDefault
	}
	at := time.Now().Add(grace)
	if m.order != nil {
		if at.Before(m.order.at) {
			m.order.at = at
			select {
			case m.order.sooner <- struct{}{}:
			default:
			}
		}
		return
	}
	m.order = &order{at: at, sooner: make(chan struct{}, 1)}
	d.crew.Go(func() { d.carryOut(m, m.order, grace >= 0) })
}

// carryOut sees the end of a machine through.
func (d *Driver) carryOut(m *machine, o *order, gently bool) {
	if s, known, err := d.program(d.ctx, m.id); err == nil && known {
		d.outbox.Post(m.translate(s))
	}
	kill := time.NewTimer(0)
	defer kill.Stop()
	for {
		m.mu.Lock()
		left := time.Until(o.at)
		m.mu.Unlock()
		kill.Reset(max(0, left))
		again := pressEvery
		if gently && left > 0 && !d.tell(m, "system_powerdown") {
			again = redialEvery
		}
		select {
		case <-m.gone:
			return
		case <-d.ctx.Done():
			return
		case <-o.sooner:
		case <-time.After(again):
		case <-kill.C:
			d.kill(m, gently)
			return
		}
	}
}

// kill ends a machine as a power cut does, but for what qemu itself still holds
// of what the guest has written.
func (d *Driver) kill(m *machine, gently bool) {
	s, known, err := d.program(d.ctx, m.id)
	if err == nil && known {
		why := "killed"
		if gently {
			why = "killed: it did not power down within its grace"
		}
		m.blame(verdict{Starts: s.Starts, State: driver.StateExited, ExitCode: killedCode, Reason: why})
	}
	if gently {
		d.tell(m, "quit")
		select {
		case <-m.gone:
			return
		case <-d.ctx.Done():
			return
		case <-time.After(quitGrace):
		}
	}
	if err := d.inner.Stop(d.ctx, m.id, -1); err != nil && d.ctx.Err() == nil {
		d.c.Log.Error("a machine can't be killed", "task", m.id, "error", err)
	}
}

// killedCode is that of a program that SIGKILL ended.
const killedCode = 128 + 9

// tell gives qemu a command whose effect is seen elsewhere; it may be gone, or
// not be connected yet.
func (d *Driver) tell(m *machine, command string) bool {
	m.mu.Lock()
	control := m.control
	m.mu.Unlock()
	if control == nil {
		return false
	}
	err := control.do(d.ctx, command, nil, nil)
	if err != nil {
		d.c.Log.Debug("qemu does not take a command", "task", m.id, "error", err)
	}
	return err == nil
}
