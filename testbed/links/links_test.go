package links_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/testbed/links"
)

// arrivals sends a packet from each end to each other and says which arrived.
func arrivals(n *links.Net, ends ...string) []string {
	var got []string
	for _, from := range ends {
		for _, to := range ends {
			if from != to {
				n.Send(from, to, []byte(from+to), func(data []byte) { got = append(got, string(data)) })
			}
		}
	}
	time.Sleep(time.Second) // of virtual time: longer than any delay here
	synctest.Wait()
	slices.Sort(got)
	return got
}

func TestCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := links.New(links.Link{Delay: 20 * time.Millisecond})
		for _, end := range []string{"a", "b", "c"} {
			if !n.Join(end) || n.Join(end) {
				t.Errorf("%s joins once", end)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go n.Run(ctx)
		for _, c := range []struct {
			name string
			cut  func()
			want []string
		}{
			{"nothing", func() {}, []string{"ab", "ac", "ba", "bc", "ca", "cb"}},
			{"one way", func() { n.Cut("a", "b") }, []string{"ac", "ba", "bc", "ca", "cb"}},
			{"nobody hears a", func() { n.Mute("a") }, []string{"ba", "bc", "ca", "cb"}},
			{"c alone", func() { n.Isolate("a", "b") }, []string{"ab", "ba"}},
		} {
			c.cut()
			if got := arrivals(n, "a", "b", "c"); !slices.Equal(got, c.want) {
				t.Errorf("cut %s: %v arrive, want %v", c.name, got, c.want)
			}
			n.Heal()
		}
		if passed, dropped := n.Counts(); passed != 17 || dropped != 7 {
			t.Errorf("%d passed and %d dropped, want 17 and 7", passed, dropped)
		}
	})
}

// Packets arrive after the delay of their link, in the order of their times.
func TestDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := links.New(links.Link{Delay: 10 * time.Millisecond})
		n.SetLink("a", "far", links.Link{Delay: 100 * time.Millisecond})
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go n.Run(ctx)
		begin := time.Now()
		var got []string
		for _, to := range []string{"far", "near"} {
			n.Send("a", to, []byte(to), func(data []byte) {
				got = append(got, fmt.Sprintf("%s after %v", data, time.Since(begin)))
			})
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if want := []string{"near after 10ms", "far after 100ms"}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	})
}
