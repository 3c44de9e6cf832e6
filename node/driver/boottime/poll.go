package boottime

import (
	"context"
	"time"
)

// pollEvery is how often the clock is looked at where no timer runs on it.
const pollEvery = 50 * time.Millisecond

// poll waits with timers that may stand still in suspend, so with short ones.
func poll(ctx context.Context, until time.Duration) error {
	for {
		left := until - Now()
		if ctx.Err() != nil || left <= 0 {
			return ctx.Err()
		}
		timer := time.NewTimer(min(left, pollEvery))
		select {
		case <-ctx.Done():
			timer.Stop()
		case <-timer.C:
		}
	}
}
