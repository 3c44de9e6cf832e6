package sweep

import (
	"fmt"
	"testing"
	"time"
)

// One that asks for a file for ever, however often, does not keep this peer from
// letting it go; one that asks again soon, since another did not answer, gets its
// answer. Who else asks is not concerned.
func TestAskingForEver(t *testing.T) {
	for _, every := range []time.Duration{time.Second, time.Minute, PromiseFor/2 + 1, PromiseFor, PromiseFor + time.Second} {
		now := time.Hour
		g := NewGuard("b", func() time.Duration { return now })
		has := func(string) bool { return true }
		free, asked, longest := time.Duration(0), time.Duration(0), time.Duration(0)
		begin := now + PromiseFor
		for now = begin; now < begin+10*PromiseFor; now += every {
			if g.Promise("x", "a", has) {
				asked = now
				if left := g.promised["x"] - now; left < PromiseFor/2 {
					t.Fatalf("every %v: a promise for %v", every, left)
				}
			}
			if g.promised["x"] <= now {
				free += every
			}
			longest = max(longest, now-asked)
		}
		if free < 4*PromiseFor {
			t.Errorf("every %v: of %v the file could go for %v", every, 10*PromiseFor, free)
		}
		if longest > 2*PromiseFor+every {
			t.Errorf("every %v: nothing was promised for %v", every, longest)
		}
		now = g.given["a"]["x"] + PromiseFor + 1
		if g.Promise("x", "a", has) || !g.Offer("x") || !g.Promise("x", "A", has) {
			t.Error("the file can't go when the promise is over, or another peer's is refused")
		}
	}
}

// One that asks for more than its share gets no more, takes nothing of the others'
// share, and is soon refused.
func TestAskingForEverything(t *testing.T) {
	now := time.Hour
	g := NewGuard("b", func() time.Duration { return now })
	has := func(string) bool { return true }
	ask := func(peer string, n int) (promised int) {
		for i := range n {
			promised += btoi(g.Promise(fmt.Sprint("file", i), peer, has))
		}
		return promised
	}
	if n := ask("a", 2*promisesPeerMax); n != promisesPeerMax {
		t.Errorf("one peer has %d promises", n)
	}
	if n := ask("c", 100); n != 100 {
		t.Errorf("another has %d of 100", n)
	}
	for i := range 10 {
		ask(fmt.Sprint("many", i), promisesPeerMax)
	}
	if g.gave != promisesMax {
		t.Errorf("%d promises are remembered, at most %d", g.gave, promisesMax)
	}
	now += 2 * PromiseFor
	if n := ask("d", 100); n != 100 {
		t.Errorf("%d of 100, now that all others are over", n)
	}
	if len(g.promised) != 100 || g.gave != 100 || len(g.given) != 1 {
		t.Errorf("%d files, %d promises of %d peers are remembered", len(g.promised), g.gave, len(g.given))
	}
	if g.Promise("absent", "e", func(string) bool { return false }) || g.gave != 100 || g.given["e"] != nil {
		t.Error("what is not here takes memory")
	}
}
