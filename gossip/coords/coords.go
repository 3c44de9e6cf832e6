package coords

import (
	"encoding/binary"
	"math"
	"sync"
	"time"

	"github.com/hashicorp/serf/coordinate"
)

const (
	coordVersion = 1
	coordDims    = 8

	// Bytes is how long a coordinate is on the wire.
	Bytes = 1 + 4*(coordDims+3)

	// errorFloor is the least error that another peer is believed to have: one
	// that claims none would pull everybody to itself.
	errorFloor = 0.2
	errorMax   = 1.5
	// coordMax bounds each component, in seconds.
	coordMax = 5.0
	// A sample contradicts if the coordinates tell a distance that is off the
	// measured one by more than contradictTimes that, and by contradictLeast.
	contradictTimes = 2.0
	contradictLeast = 50 * time.Millisecond
	// unsure is the error that a peer is given whose sample contradicts.
	unsure = 0.5
	// confident is the own error below which the fault is the other's; above
	// it, only what is far beyond any start-up noise is (all begin at the
	// origin, so an honest stranger is off by one round trip at first).
	confident = 0.5
	wildTimes = 2.5
	wildLeast = 100 * time.Millisecond
	// If more than half of the last judged samples contradict, the fault is
	// probably here, and they are taken after all.
	judged = 32
	rttMax = 10 * time.Second
	// othersMax bounds the peers whose coordinates are held.
	othersMax = 4096
)

// Coords is the own coordinate and those of others. All methods are safe for
// concurrent use.
type Coords struct {
	mu       sync.Mutex // guards what follows
	client   *coordinate.Client
	others   map[string]*otherCoord
	verdicts [judged]bool // true: contradicted
	next     int
	ignored  uint64 // samples that contradicted (and were tempered), or were no use
}

type otherCoord struct {
	coord *coordinate.Coordinate
	first bool // from the peer itself
}

// New is at the origin, and knows nobody.
func New() *Coords {
	client, err := coordinate.NewClient(coordinate.DefaultConfig())
	if err != nil {
		panic(err) // constant config
	}
	return &Coords{client: client, others: map[string]*otherCoord{}}
}

// Observe takes a peer's own word of where it is, with the measured distance.
func (c *Coords) Observe(id string, payload []byte, rtt time.Duration) {
	remote, ok := decodeCoord(payload)
	if !ok || rtt <= 0 || rtt > rttMax {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	contradicts := c.contradicts(remote, rtt)
	c.verdicts[c.next] = contradicts
	c.next = (c.next + 1) % judged
	if contradicts && !c.mostContradict() {
		c.ignored++
		remote = c.temper(remote, rtt)
	} else {
		c.hold(id, remote, true)
	}
	if _, err := c.client.Update(id, remote, rtt); err != nil {
		c.ignored++
	}
}

func (c *Coords) contradicts(remote *coordinate.Coordinate, rtt time.Duration) bool {
	times, least := contradictTimes, contradictLeast
	if c.client.GetCoordinate().Error > confident {
		times, least = wildTimes, wildLeast
	}
	off := (c.client.DistanceTo(remote) - rtt).Abs()
	return off > least && float64(off) > times*float64(rtt)
}

// temper is what a sample that contradicts may still do: pull a little, as from
// an unsure peer just beyond the measured distance. Two that are near each other
// and have begun on opposite sides come together so, and one that lies moves
// nobody far.
func (c *Coords) temper(remote *coordinate.Coordinate, rtt time.Duration) *coordinate.Coordinate {
	own := c.client.GetCoordinate()
	k := float64(rtt+contradictLeast) / float64(own.DistanceTo(remote))
	out := own.Clone()
	for i := range out.Vec {
		out.Vec[i] += (remote.Vec[i] - own.Vec[i]) * k
	}
	out.Height, out.Adjustment, out.Error = remote.Height*k, remote.Adjustment*k, unsure
	return out
}

func (c *Coords) mostContradict() bool {
	n := 0
	for _, v := range c.verdicts {
		if v {
			n++
		}
	}
	return n > judged/2
}

// Hearsay fills in coordinates of peers that were never probed from here.
func (c *Coords) Hearsay(id string, payload []byte) {
	remote, ok := decodeCoord(payload)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if o, ok := c.others[id]; ok && o.first {
		return
	}
	c.hold(id, remote, false)
}

func (c *Coords) hold(id string, remote *coordinate.Coordinate, first bool) {
	if _, ok := c.others[id]; ok || len(c.others) < othersMax {
		c.others[id] = &otherCoord{remote, first}
	}
}

func (c *Coords) Forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.others, id)
	c.client.ForgetNode(id)
}

// Distance estimates the round trip between two peers; "" is this one.
func (c *Coords) Distance(a, b string) (time.Duration, float64, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ca, okA := c.at(a)
	cb, okB := c.at(b)
	if !okA || !okB {
		return 0, 0, false
	}
	confidence := 1 - (ca.Error+cb.Error)/2
	return ca.DistanceTo(cb), math.Max(0.01, math.Min(confidence, 0.95)), true
}

func (c *Coords) at(id string) (*coordinate.Coordinate, bool) {
	if id == "" {
		return c.client.GetCoordinate(), true
	}
	o, ok := c.others[id]
	if !ok {
		return nil, false
	}
	return o.coord, true
}

// Own is the own coordinate, as others observe it.
func (c *Coords) Own() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return encodeCoord(c.client.GetCoordinate())
}

// Of is the coordinate of another peer, nil unless it is first-hand.
func (c *Coords) Of(id string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if o, ok := c.others[id]; ok && o.first {
		return encodeCoord(o.coord)
	}
	return nil
}

// Ignored counts the samples that contradicted, or were no use.
func (c *Coords) Ignored() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ignored
}

// Held counts the others whose coordinates are held.
func (c *Coords) Held() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.others)
}

// Restore sets the own coordinate to what was saved.
func (c *Coords) Restore(payload []byte) {
	if own, ok := decodeCoord(payload); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		_ = c.client.SetCoordinate(own) // decodeCoord checked what it checks
	}
}

func encodeCoord(c *coordinate.Coordinate) []byte {
	b := append(make([]byte, 0, Bytes), coordVersion)
	for _, v := range append(append([]float64{}, c.Vec...), c.Error, c.Adjustment, c.Height) {
		b = binary.BigEndian.AppendUint32(b, math.Float32bits(float32(v)))
	}
	return b
}

func decodeCoord(b []byte) (*coordinate.Coordinate, bool) {
	if len(b) != Bytes || b[0] != coordVersion {
		return nil, false
	}
	var v [coordDims + 3]float64
	for i := range v {
		v[i] = float64(math.Float32frombits(binary.BigEndian.Uint32(b[1+4*i:])))
		if math.IsNaN(v[i]) || math.Abs(v[i]) > coordMax {
			return nil, false
		}
	}
	if v[coordDims+2] < 0 {
		return nil, false
	}
	return &coordinate.Coordinate{Vec: v[:coordDims:coordDims], Error: min(max(v[coordDims], errorFloor), errorMax),
		Adjustment: v[coordDims+1], Height: v[coordDims+2]}, true
}
