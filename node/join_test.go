package node

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/transport"
)

// TestWhileBusy: a newcomer asks a busy mesh again for a minute, and no other; and it
// stops at once when it is told to.
func TestWhileBusy(t *testing.T) {
	busyAnswer := &transport.Error{Peer: "p", Kind: transport.KindExhausted, Msg: "busy"}
	refused := &transport.Error{Peer: "p", Kind: transport.KindForbidden, Msg: "no"}
	for name, c := range map[string]struct {
		answers []error // the last one for ever
		stop    time.Duration
		tries   int
		want    error
		within  time.Duration
	}{
		"let in":           {answers: []error{nil}, tries: 1},
		"refused":          {answers: []error{refused}, tries: 1, want: refused},
		"busy twice":       {answers: []error{busyAnswer, busyAnswer, nil}, tries: 3, within: 2 * time.Second},
		"busy for ever":    {answers: []error{busyAnswer}, tries: 18, want: busyAnswer, within: joinPatience},
		"busy and stopped": {answers: []error{busyAnswer}, stop: 2 * time.Second, tries: 3, want: context.Canceled, within: 2 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if c.stop > 0 {
					time.AfterFunc(c.stop, cancel)
				}
				began, tries := time.Now(), 0
				err := whileBusy(ctx, func(time.Duration, error) {}, func() error {
					tries++
					return c.answers[min(tries, len(c.answers))-1]
				})
				if took := time.Since(began); !errors.Is(err, c.want) || tries != c.tries || took > c.within {
					t.Errorf("%d tries in %v: %v; want %d in %v: %v", tries, took, err, c.tries, c.within, c.want)
				}
			})
		})
	}
}
