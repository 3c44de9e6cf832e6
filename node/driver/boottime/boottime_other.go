//go:build !linux

package boottime

import (
	"context"
	"time"
)

// Counts reports whether Now goes on while the machine is suspended.
const Counts = false

var started = time.Now()

// Now is the time since the process was started.
func Now() time.Duration { return time.Since(started) }

// Suspended is not known here.
func Suspended() time.Duration { return 0 }

// Wait returns nil once Now is until or later, or the context's error.
func Wait(ctx context.Context, until time.Duration) error { return poll(ctx, until) }
