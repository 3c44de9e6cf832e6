package placement

import (
	"cmp"
	"slices"
	"time"
)

// members is this peer's view of the others. It is a view: nothing here is
// agreed on with anyone.
type members struct {
	self     PeerID
	tune     Tuning
	patience patience // of this peer's asks
	peers    map[PeerID]*member
	order    []PeerID // of peers, sorted

	siteDead  map[SiteID]time.Duration // when the last live peer of a site died
	massUntil time.Duration            // replacing is paused until then
	massSites []SiteID
	tellHolds bool // somebody has said what it holds
}

type member struct {
	id          PeerID
	site        SiteID
	state       MemberState
	live        bool
	since       time.Duration // of the last change of live
	aliveAt     time.Duration // when it was held alive last, if it is not now
	backBy      time.Duration // it announced to be back by then; until then its work is not lost
	digest      *Digest
	digestAt    time.Duration
	rtt         time.Duration // -1 until known
	charged     Resources     // asked of it since its digest
	chargedGPUs []gpuCharge
	charges     []slotCharge  // instead, where it has many hosts
	asked       time.Duration // last; what is charged counts until that has an outcome
	holds       []uint32      // see Holds
}

// gpuCharge is slots with GPUs that were asked of a peer.
type gpuCharge struct {
	need  GPU
	slots int
}

func newMembers(self PeerID, site SiteID, tune Tuning) *members {
	m := &members{self: self, tune: tune, peers: map[PeerID]*member{}, order: []PeerID{self}, siteDead: map[SiteID]time.Duration{}}
	m.peers[self] = &member{id: self, site: site, state: MemberAlive, live: true}
	return m
}

func (m *members) get(id PeerID) *member {
	p := m.peers[id]
	if p == nil {
		p = &member{id: id, rtt: -1}
		m.peers[id] = p
		at, _ := slices.BinarySearch(m.order, id)
		m.order = slices.Insert(m.order, at, id)
	}
	return p
}

// live says whether a peer is alive as far as this one knows. A suspect is:
// only the verdict counts.
func (m *members) live(id PeerID) bool {
	p := m.peers[id]
	return p != nil && p.live
}

// liveRef says whether a peer lives in that life of its store.
func (m *members) liveRef(ref PeerRef) bool {
	p := m.peers[ref.Peer]
	return p != nil && p.live && (p.digest == nil || p.digest.Peer.Incarnation == ref.Incarnation)
}

// reborn says whether a peer is known in a later life of its store.
func (m *members) reborn(ref PeerRef) bool {
	p := m.peers[ref.Peer]
	return p != nil && p.digest != nil && p.digest.Peer.Incarnation > ref.Incarnation
}

// forgotten says whether a peer was shut out of the mesh.
func (m *members) forgotten(id PeerID) bool {
	p := m.peers[id]
	return p != nil && p.state == MemberForgotten
}

// calm says whether a live peer has been so for the time that a hand-back
// waits.
func (m *members) calm(id PeerID, now time.Duration) bool {
	p := m.peers[id]
	return p != nil && p.live && now-p.since >= m.tune.Calm
}

// backSince says whether a live peer was out of reach at a time, or after it: what
// it said until then may have ended meanwhile.
func (m *members) backSince(id PeerID, at time.Duration) bool {
	p := m.peers[id]
	return p != nil && p.live && at < p.since
}

// deadFor says whether and for how long a peer has been dead: one that goes and
// says when it will be back is not, until then.
func (m *members) deadFor(id PeerID, now time.Duration) (time.Duration, bool) {
	p := m.peers[id]
	if p != nil && !p.live && now < p.backBy {
		m.tune.mark(MarkBackWithin)
	}
	if p == nil || p.live || p.state == "" || now < p.backBy {
		return 0, false
	}
	return now - max(p.since, p.backBy), true
}

// backWithinMax bounds what a peer may announce: after that it is as dead as
// any other.
const backWithinMax = time.Hour

// change takes a MemberChanged and says whether liveness changed.
func (m *members) change(now time.Duration, ev MemberChanged) bool {
	if ev.Peer == m.self {
		return false
	}
	p := m.get(ev.Peer)
	if p.state == MemberForgotten {
		return false
	}
	if ev.Site != "" {
		p.site = ev.Site
	}
	live := ev.State == MemberAlive || ev.State == MemberSuspect
	changed := live != p.live || p.state == ""
	if p.state == MemberAlive && ev.State != MemberAlive {
		p.aliveAt = now
	}
	p.state, p.backBy = ev.State, 0
	if ev.State == MemberLeft && ev.BackWithin > 0 {
		p.backBy = now + min(ev.BackWithin, backWithinMax)
	}
	if changed {
		p.live, p.since = live, now
	}
	if changed || p.state == MemberForgotten {
		m.siteChanged(now, p.site)
	}
	return changed
}

// sites is the sites of all peers that were not shut out, and how many live in
// each.
func (m *members) sites() map[SiteID]int {
	sites := map[SiteID]int{}
	for _, p := range m.peers {
		if p.state != "" && p.state != MemberForgotten {
			sites[p.site] += 0
			if p.live {
				sites[p.site]++
			}
		}
	}
	return sites
}

// massSitesMin is the number of sites below which a mass loss has no meaning:
// of three, one is already a third.
const massSitesMin = 4

// siteChanged keeps count of the sites lost within one window. More than a
// third of them lost at once is more likely this peer's own trouble than
// theirs: replacing what ran there waits.
func (m *members) siteChanged(now time.Duration, site SiteID) {
	sites := m.sites()
	if _, known := m.siteDead[site]; !known {
		m.siteDead[site] = now
	}
	for s := range m.siteDead { // a peer of a site not known yet may be of another since
		if live, known := sites[s]; !known || live > 0 {
			delete(m.siteDead, s)
		}
	}
	var recent []SiteID
	for s, at := range m.siteDead {
		if now-at <= m.tune.MassWindow {
			recent = append(recent, s)
		}
	}
	slices.Sort(recent)
	if len(sites) >= massSitesMin && len(recent)*3 > len(sites) {
		m.massUntil, m.massSites = now+m.tune.MassWait, recent
	}
	still := 0
	for _, s := range m.massSites {
		if _, dead := m.siteDead[s]; dead {
			still++
		}
	}
	if still*3 <= len(sites) {
		if m.massUntil > 0 {
			m.tune.mark(MarkMassLossOver)
		}
		m.massUntil, m.massSites = 0, nil
	}
}

// massLoss says whether replacing waits because too much was lost at once.
func (m *members) massLoss(now time.Duration) bool { return now < m.massUntil }

func (m *members) digestChanged(now time.Duration, d Digest) {
	p := m.get(d.Peer.Peer)
	if p.digest != nil && (d.Peer.Incarnation < p.digest.Peer.Incarnation ||
		d.Peer.Incarnation == p.digest.Peer.Incarnation && d.Sequence < p.digest.Sequence) {
		return
	}
	p.digest, p.digestAt, p.charged, p.chargedGPUs, p.charges = &d, now, Resources{}, nil, nil
	if d.Site != "" {
		p.site = d.Site
	}
}

// charge takes off what is asked of a peer, until its digest says more or the
// ask has an outcome.
func (m *members) charge(now time.Duration, id PeerID, comp Component, slots int) {
	p, slot := m.get(id), comp.Need()
	if p.digest != nil && p.digest.Hosts > 1 {
		p.chargeShape(takerOf(comp, slot), slots)
		p.asked = now
		return
	}
	p.charged, p.asked = p.charged.Add(slot.Times(slots)), now
	if slot.GPU.Count > 0 {
		p.chargedGPUs = append(p.chargedGPUs, gpuCharge{slot.GPU, slots})
	}
}

// alive is the live peers, this one among them, sorted.
func (m *members) alive() []PeerID {
	ids := make([]PeerID, 0, len(m.order))
	for _, id := range m.order {
		if m.peers[id].live {
			ids = append(ids, id)
		}
	}
	return ids
}

// candidates is what a planner chooses from, sorted by peer. What was asked
// of a peer since its digest is taken off.
func (m *members) candidates(now time.Duration) []Candidate {
	out := make([]Candidate, 0, len(m.order))
	for _, id := range m.order {
		p := m.peers[id]
		if p.digest == nil {
			continue
		}
		d := *p.digest
		if now-p.asked < m.patience.giveUp(&m.tune) { // or it was refused, or came to nothing
			d.Free = d.Free.Sub(p.charged)
			d.Largest = d.Largest.Sub(p.charged)
			for _, c := range p.chargedGPUs {
				d.GPUs = takeGPUs(d.GPUs, c.need, c.slots)
			}
			for _, c := range p.charges {
				c.of.takeOff(&d, c.slots)
			}
		} else {
			p.charged, p.chargedGPUs, p.charges = Resources{}, nil, nil
		}
		rtt := int64(-1)
		if p.rtt >= 0 {
			rtt = p.rtt.Microseconds()
		}
		out = append(out, Candidate{Digest: d, Age: p.digestAge(now).Milliseconds(), RTT: rtt, Alive: p.live})
	}
	return out
}

// digestAge is how long this peer may have had another digest without this one's having
// heard: who is alive tells of each change, and one that stays the same does not age.
func (p *member) digestAge(now time.Duration) time.Duration {
	if p.state == MemberAlive {
		return 0
	}
	return now - max(p.digestAt, p.aliveAt)
}

// chooseKeepers is this peer and up to n-1 more that live: of distinct other
// sites first, nearest first, and of the same sites only when there are no
// more.
func (m *members) chooseKeepers(self PeerRef, n int) []PeerRef {
	var others []*member
	for _, p := range m.peers {
		if p.id != m.self && p.live && p.digest != nil {
			others = append(others, p)
		}
	}
	rtt := func(p *member) time.Duration {
		if p.rtt < 0 {
			return time.Hour
		}
		return p.rtt
	}
	slices.SortFunc(others, func(a, b *member) int {
		return cmp.Or(cmp.Compare(rtt(a), rtt(b)), cmp.Compare(a.id, b.id))
	})
	list := []PeerRef{self}
	used := map[SiteID]bool{m.peers[m.self].site: true}
	taken := map[PeerID]bool{}
	for _, sameSite := range []bool{false, true} {
		for _, p := range others {
			if len(list) < n && !taken[p.id] && (sameSite || !used[p.site]) {
				list = append(list, p.digest.Peer)
				taken[p.id], used[p.site] = true, true
			}
		}
	}
	return list
}
