// Package boottime reads and waits for CLOCK_BOOTTIME: the time since the
// machine was started, suspend included, which nobody can set. Leases end on
// it, because the clock of Go's timers and of time.Since stands still while a
// machine is suspended (clock_gettime(2), timerfd_create(2)).
//
//	until := boottime.Now() + 15*time.Second
//	err := boottime.Wait(ctx, until) // at once after a resume, if it passed meanwhile
//
// Elsewhere than on Linux Now counts from the start of the process, and stops
// in suspend where the system's monotonic clock does; Counts says which it is.
package boottime
