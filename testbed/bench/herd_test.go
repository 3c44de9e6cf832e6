package bench

import (
	"context"
	"testing"
	"time"
)

// Stewards that always take what seems best all ask the same peer; those that draw
// among near-equals spread, and more of them are granted by the first peer.
func TestHerd(t *testing.T) {
	run := func(rule string, age time.Duration) HerdResult {
		res, err := Herd(context.Background(), HerdConfig{Rule: rule, Stewards: 30, Sites: 12, Age: age, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		if res.Half.Mean < 50 || res.Full < 80 || res.Full > 100 || res.Rounds < 1 || res.Most < 1 || res.Requests < 100 {
			t.Errorf("%+v", res)
		}
		return res
	}
	best, hansa := run(HerdBest, time.Second), run(HerdPlan, time.Second)
	if best.AtOnce >= hansa.AtOnce || best.Crowd <= hansa.Crowd || best.Rounds <= hansa.Rounds {
		t.Errorf("always the best %+v, drawn %+v", best, hansa)
	}
	if again := run(HerdPlan, time.Second); again != hansa {
		t.Errorf("%+v, then %+v", hansa, again)
	}
	if two := run(HerdTwo, 0); two.Crowd >= best.Crowd {
		t.Errorf("of two the better one %+v, always the best %+v", two, best)
	}
	if _, err := Herd(context.Background(), HerdConfig{Rule: "x"}); err == nil {
		t.Error("a rule that is none")
	}
}
