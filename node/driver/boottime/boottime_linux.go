package boottime

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Counts reports whether Now goes on while the machine is suspended.
const Counts = true

// Now is the time since the machine was started, suspend included.
func Now() time.Duration { return read(unix.CLOCK_BOOTTIME) }

// Suspended is how long the machine was suspended since it was started: never
// more, and less only by the time between two readings of a clock.
func Suspended() time.Duration {
	boot := read(unix.CLOCK_BOOTTIME) // first, so that what lies between makes it less
	return boot - read(unix.CLOCK_MONOTONIC)
}

func read(clock int32) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		// Both are there since Linux 2.6.39; a filter that forbids them leaves
		// no way to keep a lease.
		panic(fmt.Sprintf("boottime: clock %d can't be read: %v", clock, err))
	}
	return time.Duration(ts.Nano())
}

// Wait returns nil once Now is until or later, or the context's error.
func Wait(ctx context.Context, until time.Duration) error {
	if ctx.Err() != nil || Now() >= until {
		return ctx.Err()
	}
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return poll(ctx, until) // out of descriptors: late by pollEvery at most
	}
	timer := os.NewFile(uintptr(fd), "timerfd")
	defer timer.Close()
	at := unix.ItimerSpec{Value: unix.NsecToTimespec(max(1, int64(until)))} // 0 would disarm it
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME, &at, nil); err != nil {
		return poll(ctx, until)
	}
	stop := context.AfterFunc(ctx, func() { _ = timer.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	var expirations [8]byte
	_, _ = timer.Read(expirations[:]) // however it ends, the clock and ctx say what is
	return poll(ctx, until)
}
