package wasm

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// measured runs f on a thread of its own and returns the time that this thread
// was on a core: a guest runs on the thread that calls it.
func measured(f func() error) (time.Duration, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	begin := threadTime()
	err := f()
	return threadTime() - begin, err
}

func threadTime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return 0 // every kernel has this clock
	}
	return time.Duration(t.Nano())
}
