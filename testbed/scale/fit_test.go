package scale_test

import (
	"math"
	"testing"

	"github.com/hansa-mesh/hansa/testbed/scale"
)

// What grows as the model says is found exactly, and foretold for larger meshes; of
// too few meshes nothing is said.
func TestFit(t *testing.T) {
	want := scale.Model{Base: 500, Peer: 1300, App: 2, Change: 21_000}
	var costs []scale.Cost
	for _, peers := range []int{10, 50} {
		for _, c := range []scale.Cost{{}, {Apps: 100}, {Apps: 100, Changes: 1}, {Apps: 100, Changes: 4}} {
			c.Peers = peers
			c.Bytes = want.At(c)
			costs = append(costs, c)
		}
	}
	got, err := scale.Fit(costs, func(c scale.Cost) float64 { return c.Bytes })
	if err != nil {
		t.Fatal(err)
	}
	larger := scale.Cost{Peers: 200, Apps: 1000, Changes: 10}
	if a, b := got.At(larger), want.At(larger); math.Abs(a-b) > 1e-6*b {
		t.Errorf("%+v foretells %v, want %v", got, a, b)
	}
	if m, err := scale.Fit(costs[:1], func(c scale.Cost) float64 { return c.Bytes }); err == nil {
		t.Errorf("of one mesh %+v", m)
	}
}
