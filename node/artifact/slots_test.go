package artifact

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/transport"
)

// waits is a holder that only ever says that its answer comes later.
func waits(ctx context.Context, _ string, s Stream) error {
	for {
		if err := transport.WriteFrame(s, answer{Say: sayWait}); err != nil {
			return err
		}
		select {
		case <-time.After(waitEvery):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// A holder that only says that it is at work is given up after a while.
func TestHolderThatOnlySaysWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		m.add("waits").serve = waits
		here := m.add("here")
		begin := time.Now()
		if err := here.Fetch(t.Context(), digestOf([]byte("x")), 0, []string{"waits"}); !errors.Is(err, ErrNoHolder) {
			t.Error(err)
		}
		if took := time.Since(begin); took > 2*waitMax {
			t.Errorf("it took %v", took)
		}
	})
}

// Large files of which nothing comes keep no small one from coming.
func TestSmallFilesHaveSlots(t *testing.T) {
	file := content(mib)
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t)
		m.add("waits").serve = waits
		m.add("good", file)
		here := m.add("here")
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range FetchesMax {
			wg.Go(func() { _ = here.Fetch(ctx, digestOf(fmt.Append(nil, i)), 1<<30, []string{"waits"}) })
		}
		synctest.Wait()
		begin := time.Now()
		if err := here.Fetch(t.Context(), digestOf(file), int64(len(file)), []string{"good"}); err != nil {
			t.Error(err)
		}
		if took := time.Since(begin); took > time.Second {
			t.Errorf("it took %v", took)
		}
		cancel()
		wg.Wait()
	})
}
