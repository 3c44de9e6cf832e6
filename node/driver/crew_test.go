package driver_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/hansa-mesh/hansa/node/driver"
)

func TestCrew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := driver.NewCrew()
		never, ended := make(chan struct{}), make(chan struct{})
		close(ended)
		if err := c.Await(t.Context(), ended); err != nil {
			t.Errorf("what has ended is awaited: %v", err)
		}
		left, leave := context.WithCancel(t.Context())
		leave()
		if err := c.Await(left, never); !errors.Is(err, context.Canceled) {
			t.Errorf("who left gets %v", err)
		}
		waits := make(chan error, 1)
		go func() { waits <- c.Await(t.Context(), never) }()
		working := false
		if !c.Go(func() { working = true; <-c.Done(); working = false }) {
			t.Fatal("a crew takes nobody")
		}
		synctest.Wait()
		if !working || c.Context().Err() != nil {
			t.Fatal("it does not work before it is dismissed")
		}
		c.Dismiss()
		if working {
			t.Error("it is dismissed while one works on")
		}
		if err := <-waits; !errors.Is(err, driver.ErrShutdown) {
			t.Errorf("who waits when the daemon ends gets %v", err)
		}
		if c.Go(func() { t.Error("one works in a crew that was dismissed") }) {
			t.Error("a crew that was dismissed takes one more")
		}
	})
}
