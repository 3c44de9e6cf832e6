package boottime

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestNowAdvances(t *testing.T) {
	before := Now()
	for Now() == before {
	}
	if now := Now(); now < before {
		t.Errorf("%v after %v", now, before)
	}
	if s := Suspended(); s > Now() {
		t.Errorf("suspended for %v of %v", s, Now())
	}
}

// Both ways of waiting end after the deadline and not before, and with their
// context.
func TestWait(t *testing.T) {
	for name, wait := range map[string]func(context.Context, time.Duration) error{"Wait": Wait, "poll": poll} {
		for _, in := range []time.Duration{-time.Hour, 0, 30 * time.Millisecond, pollEvery + 10*time.Millisecond} {
			until := Now() + in
			if err := wait(t.Context(), until); err != nil || Now() < until {
				t.Errorf("%s in %v returned %v at %v, before %v", name, in, err, Now(), until)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- wait(ctx, Now()+time.Hour) }()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("%s given up: %v", name, err)
		}
		if err := wait(ctx, 0); !errors.Is(err, context.Canceled) {
			t.Errorf("%s of a context that is over: %v", name, err)
		}
	}
}
