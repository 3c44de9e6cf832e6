package bench

import (
	"context"
	"testing"
)

// With two tiers a small federation is filled as far as with one, by peers that hold
// less and are told less; nothing is granted that is not there.
func TestRegions(t *testing.T) {
	run := func(tiers string, sites int) RegionsResult {
		res, err := Regions(context.Background(), RegionsConfig{Tiers: tiers, Regions: 8, Sites: sites, Cores: 10_000, Rate: 2, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		if !res.NoRoom || res.Full > 100 || res.End.Max > 100 || res.Half.Mean < 50 || res.Changes <= 0 || res.FoldBytes <= 0 || res.Knowledge <= 0 {
			t.Errorf("%+v", res)
		}
		if res.Asks < res.Requests || res.Misses > res.Asks || len(res.Used) != 101 {
			t.Errorf("%+v", res)
		}
		return res
	}
	one, two := run(OneTier, 20), run(TwoTiers, 20)
	if one.Relays != 0 || two.Relays == 0 {
		t.Errorf("%v and %v relays asked", one.Relays, two.Relays)
	}
	if two.Full < one.Full-10 {
		t.Errorf("filled to %.1f %%, with one tier to %.1f %%", two.Full, one.Full)
	}
	if two.Gossip >= one.Gossip || two.Knowledge >= one.Knowledge {
		t.Errorf("two tiers %+v, one %+v", two, one)
	}
	if _, err := Regions(context.Background(), RegionsConfig{Tiers: "three"}); err == nil {
		t.Error("three tiers")
	}
}
