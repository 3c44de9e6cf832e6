package gossip

import (
	"crypto/subtle"
	"time"

	"github.com/hansa-mesh/hansa/gossip/coords"
)

// A digest is told once, to peers at random, which leaves out one of three thousand in a
// mesh of fifty. So with its coordinates whoever answers a probe says in eight bytes which
// digests it has. One that lacks some differs from all others, finds out with the next
// probe, and compares what it knows with one of them.
//
// Where digests change all the time nobody has the same, and whoever lacks one gets the
// next: they are compared once they have been at rest.
const (
	sumBytes   = 8
	sumRests   = 3 * time.Second
	compareMin = 5 * time.Second
	compareMax = 5 * time.Minute // while comparing helps nothing
)

// digestSum is what tells sets of digests apart.
type digestSum [sumBytes]byte

// comparing is what this peer knows of its own digests and those of others.
type comparing struct {
	sum     digestSum
	since   time.Time     // when it was seen to change
	next    time.Time     // when to compare again at the earliest
	between time.Duration // of the last two, 0 once somebody had the same
}

// sumDigests sums up the digests of all that are alive: of each, as much of its signature,
// which nobody foresees. The caller holds mu.
func (g *Gossip) sumDigests() (sum digestSum) {
	add := func(m []byte) {
		if len(m) >= digestHead {
			subtle.XORBytes(sum[:], sum[:], m[41:])
		}
	}
	add(g.own.message)
	for _, p := range g.peers {
		if p.state == StateAlive {
			add(p.digest.message)
		}
	}
	return sum
}

// ackPayload is what answers a probe.
func (g *Gossip) ackPayload() []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	sum := g.sumDigests()
	return append(g.coords.Own(), sum[:]...)
}

// sawSum takes what another told of its digests, in what answered a probe. The caller
// holds mu.
func (g *Gossip) sawSum(from *peer, payload []byte, now time.Time) {
	if len(payload) != coords.Bytes+sumBytes || g.states[StateSuspect] > 0 {
		return // it differs in who is alive
	}
	c := &g.comparing
	if sum := g.sumDigests(); sum != c.sum {
		c.sum, c.since = sum, now
	}
	switch {
	case digestSum(payload[coords.Bytes:]) == c.sum:
		c.next, c.between = time.Time{}, 0
	case now.Sub(c.since) < sumRests || now.Before(c.next) || from.joining:
	default:
		c.between = min(max(2*c.between, compareMin), compareMax)
		c.next = now.Add(g.jitter(c.between))
		g.compareWith, g.compareAt = from, now
		poke(g.toJoin)
	}
}
