package placement

import "time"

// Distance is the round trip between two places.
type Distance struct {
	RTT      int64 // microseconds
	Measured bool  // by a peer at one of them; else it is estimated from coordinates
}

// how says in a word where a distance is from.
func (d Distance) how() string {
	if d.Measured {
		return "measured"
	}
	return "estimated"
}

func (d Distance) ms() float64 { return float64(d.RTT) / 1000 }

// What bounds the measuring of distances.
const (
	// MeasureMax bounds those whose distance one peer is asked for at once.
	MeasureMax = 256
	// MeasureProbes bounds those of them that are probed for it, because they were
	// not measured lately. They are the nearest by coordinates: on recorded matrices
	// eight of those cut the way too far to a quarter, and some at random instead of
	// the last of them help less (docs/PERFORMANCE.md).
	MeasureProbes = 8
	// measurersMax bounds who is asked for one plan.
	measurersMax = 3
	// measuredFor is how long what was measured is believed.
	measuredFor = 5 * time.Minute
	// measureAgain is how soon the same is asked again that had no answer.
	measureAgain = 30 * time.Second
	// measureRTTMax is the farthest that is believed.
	measureRTTMax = 10 * time.Second
	// distancesMax bounds the pairs of sites that are remembered.
	distancesMax = 16384
)

// distances is what peers said of how far sites are apart. Peers of one site are
// taken to be at one place.
type distances struct {
	pairs   map[sitePair]distance
	waiting map[UID]bool // apps whose plans wait for an answer
}

// sitePair is two sites in order.
type sitePair struct{ a, b SiteID }

func pairOf(a, b SiteID) sitePair {
	if b < a {
		a, b = b, a
	}
	return sitePair{a, b}
}

type distance struct {
	rtt   int64         // microseconds; -1 when nobody has said
	at    time.Duration // when that was said
	asked time.Duration // last
	open  bool          // and not answered yet
}

func newDistances() distances {
	return distances{pairs: map[sitePair]distance{}, waiting: map[UID]bool{}}
}

func (d distance) fresh(now time.Duration) bool { return d.rtt >= 0 && now-d.at < measuredFor }

// measured is how far two sites are apart, if that was measured lately.
func (d *distances) measured(a, b SiteID, now time.Duration) (int64, bool) {
	m, ok := d.pairs[pairOf(a, b)]
	return m.rtt, ok && m.fresh(now)
}

// wanted says whether a pair is worth asking for now.
func (d *distances) wanted(a, b SiteID, now time.Duration) bool {
	m, known := d.pairs[pairOf(a, b)]
	return !known || !m.fresh(now) && now-m.asked >= measureAgain
}

// awaited says until when an answer about a pair is waited for; 0 is not at all.
func (d *distances) awaited(a, b SiteID, now, wait time.Duration) time.Duration {
	if m, ok := d.pairs[pairOf(a, b)]; ok && m.open && now < m.asked+wait {
		return m.asked + wait
	}
	return 0
}

// ask notes that a pair is asked for.
func (d *distances) ask(a, b SiteID, now time.Duration) {
	m, ok := d.pairs[pairOf(a, b)]
	if !ok {
		m.rtt = -1
		d.makeRoom(now)
	}
	m.asked, m.open = now, true
	d.pairs[pairOf(a, b)] = m
}

// told takes what a peer said of a pair, or with an rtt below 0 that it did not.
func (d *distances) told(a, b SiteID, rtt time.Duration, now time.Duration) {
	m, ok := d.pairs[pairOf(a, b)]
	if !ok {
		m = distance{rtt: -1, asked: now}
		d.makeRoom(now)
	}
	m.open = false
	if rtt >= 0 && rtt <= measureRTTMax {
		m.rtt, m.at = rtt.Microseconds(), now
	}
	d.pairs[pairOf(a, b)] = m
}

// makeRoom lets go of what is old, or when all is new of all of it: what is asked
// for again is measured again.
func (d *distances) makeRoom(now time.Duration) {
	if len(d.pairs) < distancesMax {
		return
	}
	for k, m := range d.pairs {
		if !m.fresh(now) && now-m.asked >= measureAgain {
			delete(d.pairs, k)
		}
	}
	if len(d.pairs) >= distancesMax {
		clear(d.pairs)
	}
}

// onMeasured takes the answer to a Measure, and has the plans go on that wait for
// one.
func (p *Peer) onMeasured(ev Measured) {
	from := p.members.peers[ev.From]
	if from == nil {
		return
	}
	now := p.out.now.Mono
	for i, id := range ev.To[:min(len(ev.To), MeasureMax)] {
		to := p.members.peers[id]
		if to == nil || to.site == from.site {
			continue
		}
		rtt := time.Duration(-1)
		if i < len(ev.RTT) {
			rtt = ev.RTT[i]
		}
		p.distances.told(from.site, to.site, rtt, now)
	}
	for _, uid := range sortedKeys(p.distances.waiting) {
		p.dirty[uid] = true
	}
	clear(p.distances.waiting)
}
