package process

import (
	"context"
	"errors"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver/boottime"
)

func aDeadline(t *testing.T, in time.Duration) *deadline {
	t.Helper()
	d, err := newDeadline(boottime.Now() + in)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	return d
}

// An extension that was taken holds, and none is taken after the end: who
// extends and who ends go by one word.
func TestDeadlineIsTakenOrRefused(t *testing.T) {
	for range 200 {
		d := aDeadline(t, 2*time.Millisecond)
		var wg sync.WaitGroup
		for range 2 { // the supervisor and the warden
			wg.Go(func() {
				if err := d.expire(t.Context(), 0); err != nil {
					t.Error(err)
				}
			})
		}
		var last time.Duration
		for { // ever nearer to the end, until one is too late
			until := boottime.Now() + 200*time.Microsecond
			err := d.extend(until)
			if errors.Is(err, errClosed) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			last = max(last, until)
			for boottime.Now() < until-50*time.Microsecond {
			}
		}
		wg.Wait()
		if now := boottime.Now(); now < last {
			t.Fatalf("ended at %v, and %v had been granted", now, last)
		}
		if until, closed := d.until(); !closed || until < last {
			t.Fatalf("it is %v, closed %v; want %v or later, closed", until, closed, last)
		}
	}
}

func TestDeadlineOnlyMovesOn(t *testing.T) {
	d := aDeadline(t, time.Hour)
	far, _ := d.until()
	for _, until := range []time.Duration{far - 1, 0, -far, far} {
		if err := d.extend(until); err != nil {
			t.Error(err)
		}
		if now, closed := d.until(); now != far || closed {
			t.Errorf("moved to %v, closed %v, by %v", now, closed, until)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.expire(ctx, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("a watch that is given up: %v", err)
	}
	if _, closed := d.until(); closed {
		t.Error("a watch that is given up closed it")
	}
}

// What is shared is the same word.
func TestDeadlineIsShared(t *testing.T) {
	d := aDeadline(t, time.Hour)
	self, err := identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	other, err := openDeadline(self, int(d.file.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer other.close()
	far, _ := d.until()
	if err := other.extend(far + 1); err != nil {
		t.Fatal(err)
	}
	if now, _ := d.until(); now != far+1 {
		t.Errorf("one says %v, the other moved it to %v", now, far+1)
	}
	if _, err := openDeadline(self, 0); err == nil {
		t.Error("standard input was taken for a deadline")
	}
	self.Start++
	if _, err := openDeadline(self, int(d.file.Fd())); !errors.Is(err, errGone) {
		t.Errorf("that of another process with this id: %v", err)
	}
}
