package coords

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/serf/coordinate"
)

// plane is peers on a map; the round trip is their distance and some access
// time.
type plane struct {
	x, y  []float64
	peers []*Coords
}

func newPlane(n int, seed uint64) *plane {
	rng := rand.New(rand.NewPCG(seed, 1))
	p := &plane{}
	for range n {
		p.x, p.y = append(p.x, rng.Float64()*0.2), append(p.y, rng.Float64()*0.2)
		p.peers = append(p.peers, New())
	}
	return p
}

func (p *plane) rtt(a, b int) time.Duration {
	return time.Duration((math.Hypot(p.x[a]-p.x[b], p.y[a]-p.y[b]) + 0.004) * 1e9)
}

// round lets every peer probe one other; liars answer with their lie.
func (p *plane) round(rng *rand.Rand, lie map[int][]byte) {
	for a := range p.peers {
		b := rng.IntN(len(p.peers))
		if a == b {
			continue
		}
		payload := p.peers[b].Own()
		if l, ok := lie[b]; ok {
			payload = l
		}
		p.peers[a].Observe(string(rune('A'+b)), payload, p.rtt(a, b)+time.Duration(rng.IntN(2_000_000)))
	}
}

// median is the median error of estimated round trips between honest peers.
func (p *plane) median(lie map[int][]byte) time.Duration {
	var errs []time.Duration
	for a := range p.peers {
		for b := range a {
			if lie[a] == nil && lie[b] == nil {
				est := p.peers[a].client.DistanceTo(p.peers[b].client.GetCoordinate())
				errs = append(errs, (est - p.rtt(a, b)).Abs())
			}
		}
	}
	slices.Sort(errs)
	return errs[len(errs)/2]
}

func bogus(x float64) []byte {
	c := coordinate.NewCoordinate(coordinate.DefaultConfig())
	c.Vec[0], c.Vec[1] = x, -x
	c.Error = 0
	return encodeCoord(c)
}

// TestPoisonedCoordinates: five of a hundred peers claim to be far away and
// quite sure of it, from the start or once all are in place.
func TestPoisonedCoordinates(t *testing.T) {
	for name, from := range map[string]int{"from the start": 0, "later": 600} {
		rng := rand.New(rand.NewPCG(7, 7))
		p := newPlane(100, 3)
		lie := map[int][]byte{10: bogus(3), 20: bogus(3), 30: bogus(-2), 40: bogus(1), 50: bogus(0.5)}
		for i := range 1500 { // some 17 minutes
			if i < from {
				p.round(rng, nil)
			} else {
				p.round(rng, lie)
			}
		}
		got := p.median(lie)
		t.Logf("%s: median error %v", name, got)
		if got > 20*time.Millisecond {
			t.Errorf("%s: median error %v", name, got)
		}
	}
}

func TestCoordinatesConverge(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	p := newPlane(50, 4)
	for range 900 { // some 10 minutes
		p.round(rng, nil)
	}
	if got := p.median(nil); got > 10*time.Millisecond {
		t.Errorf("median error %v after ten minutes", got)
	}
}

// TestNeighboursAmongFar: two peers that are near each other find out, though
// all others are far and may have set them on opposite sides at first.
func TestNeighboursAmongFar(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 2))
		p := newPlane(4, seed)
		p.x, p.y = []float64{0, 0.2, 0.205, 0.1}, []float64{0, 0, 0, 0.17}
		for range 600 { // ten minutes
			p.round(rng, nil)
		}
		if d := p.peers[1].client.DistanceTo(p.peers[2].client.GetCoordinate()); d > 40*time.Millisecond {
			t.Errorf("seed %d: neighbours at %v seem %v apart", seed, p.rtt(1, 2), d)
		}
	}
}

// TestMovedPeer: whoever is confident at a wrong place, since its network
// changed, does not stay there for ever.
func TestMovedPeer(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	p := newPlane(30, 4)
	for range 900 {
		p.round(rng, nil)
	}
	p.x[0], p.y[0] = 1.5, 1.5
	for range 1500 {
		p.round(rng, nil)
	}
	est := p.peers[0].client.DistanceTo(p.peers[1].client.GetCoordinate())
	if want := p.rtt(0, 1); (est - want).Abs() > want/4 {
		t.Errorf("moved away by %v, estimated %v", want, est)
	}
}

func FuzzCoordinate(f *testing.F) {
	f.Add(New().Own())
	f.Add(bogus(1))
	f.Fuzz(func(t *testing.T, b []byte) {
		c := New()
		c.Observe("x", b, time.Second)
		if own := c.client.GetCoordinate(); !own.IsValid() {
			t.Fatalf("%+v", own)
		}
		if d, conf, ok := c.Distance("", "x"); ok && (d < 0 || conf <= 0 || conf > 1) {
			t.Fatalf("%v %v", d, conf)
		}
	})
}
