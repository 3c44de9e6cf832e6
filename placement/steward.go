package placement

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"time"
)

// Steward drives one app from this peer: under a term as its steward, or
// without a majority as the deputy of its side.
//
//	          majority grants                holders answered, or waited for
//	raising ──────────────────▶ census ───────────────────────────────▶ acting
//	   ▲                          ▲  ▲                                     │
//	   │ creating PUT: straight ──┼──┼──────────────────────────▶ acting   │
//	   │                deputy ───┘  └── (begins here)                     │
//	   └──── fenced by a higher term: ended; begun again if it still leads ┘
//
// Everything it does is level-triggered: it looks at what is and asks for what
// should be, so that a lost message or a restart costs time only.
type Steward struct {
	p       *Peer
	a       *app
	deputy  bool
	phase   phase
	term    Term
	votes   map[PeerRef]bool
	refused map[PeerID]bool // keepers that refused this term
	began   time.Duration

	nonce    uint64
	answered map[PeerID]bool

	holders    []PeerID
	holdNumber uint64
	heldBy     map[PeerID]uint64

	asks      map[uint64]*openAsk
	noRoom    map[string]map[PeerID]refusal // by component: who refused lately
	short     map[string]string             // by component: why the last plan left slots without a place
	hopeless  map[string]bool               // by component: it failed for good wherever it may run
	unplaced  map[string]unplaced           // by component
	sent      map[string]time.Duration      // orders sent: when, so as not to repeat them at once
	pins      map[ClaimID]pinnedSlots       // confirmed, and not released since
	order     uint64                        // of the last pin or release
	side      map[string]Slots              // deputy: what was on this side at the cut
	past      chronicle                     // as this steward writes it
	copied    map[PeerRef]uint64            // number of it that a keeper has on disk
	mustHave  uint64                        // number of it that a majority has to
	judged    map[string]time.Duration      // by component: when its roll-out was looked at last
	wroteIdle time.Duration
	due       time.Duration // when something is to be looked at, 0: nothing

	leaves map[ClaimID]leave // ordered to stop for a newer version that is not there yet
	wait   time.Duration
	next   time.Duration

	confirmed map[PeerRef]time.Duration // by a keeper: when it was asked, see sureOf
	asked     time.Duration             // when all were asked last
	unsure    bool                      // something lost waits for that

	outlasted time.Duration // since when claims are of a version that does not stand
	outlast   bool          // and that they will not: see claimsOutlast
	open      []string
}

type phase uint8

const (
	phaseRaising phase = iota + 1
	phaseCensus
	phaseActing
)

func (f phase) String() string { return [...]string{"", "raising", "census", "acting"}[f] }

// openAsk is an ask without an answer.
type openAsk struct {
	m         *askMsg
	to        PeerID
	component string
	spec      uint64 // SpecHash of what it asks for
	first     time.Duration
	last      time.Duration
	again     int // times it was sent since the first
}

// refusal is why a peer refused an ask, and when.
type refusal struct {
	why string
	at  time.Duration
}

type pinnedSlots struct {
	slots Slots
	at    time.Duration
}

func newSteward(p *Peer, a *app, term Term) *Steward {
	s := &Steward{
		p: p, a: a, term: term, began: p.out.now.Mono, wait: p.tune.RoundMin,
		votes: map[PeerRef]bool{}, answered: map[PeerID]bool{}, heldBy: map[PeerID]uint64{},
		asks: map[uint64]*openAsk{}, noRoom: map[string]map[PeerID]refusal{}, short: map[string]string{}, hopeless: map[string]bool{}, unplaced: map[string]unplaced{}, sent: map[string]time.Duration{},
		pins: map[ClaimID]pinnedSlots{}, side: map[string]Slots{}, leaves: map[ClaimID]leave{}, copied: map[PeerRef]uint64{}, judged: map[string]time.Duration{}, confirmed: map[PeerRef]time.Duration{},
	}
	if kr := p.keeper.records[a.uid]; kr != nil {
		s.holders = slices.Clone(kr.Holders)
	}
	return s
}

// leader is the keeper that should drive an app, as far as this peer knows:
// the holder of the term while it lives, but the first live keeper once it has
// been back for a time of calm; or "" when none lives.
func (p *Peer) leader(a *app) PeerID {
	var first, holder, follows PeerID
	if kr := p.keeper.records[a.uid]; kr != nil {
		follows = p.keeper.follows(kr, p.out.now.Mono)
	}
	for _, ref := range a.keepers.list.Peers {
		if !p.keeperLives(ref) {
			continue
		}
		if first == "" {
			first = ref.Peer
		}
		if ref.Peer == follows {
			holder = ref.Peer
		}
	}
	if holder == "" || holder == first {
		return first
	}
	now := p.out.now.Mono
	if first == p.cfg.Self.Peer {
		if now-p.started >= p.tune.Calm && p.members.calm(holder, now) {
			p.tune.mark(MarkHandedBack)
			return first
		}
		return holder
	}
	return holder
}

// decideRoles begins and ends stewards after the view of the world changed, or
// what is known of some apps.
func (p *Peer) decideRoles() {
	if !p.roles {
		some := sortedKeys(p.roleOf)
		clear(p.roleOf)
		for _, uid := range some {
			if a := p.apps[uid]; a != nil {
				p.watchCut(a)
				p.decideRole(a)
				p.rerouteEdits(a)
			}
		}
		return
	}
	p.roles = false
	clear(p.roleOf)
	for _, uid := range p.uids() {
		p.watchCut(p.apps[uid])
		p.decideRole(p.apps[uid])
	}
	p.rerouteEdits(nil)
	p.timers.set(timerRoles, "", p.out.now.Mono+p.tune.RoundMax)
}

func (p *Peer) decideRole(a *app) {
	lead, deputy := p.role(a)
	s := a.steward
	switch {
	case !lead && s != nil:
		p.endSteward(a)
	case lead && (s == nil || s.deputy != deputy):
		p.endSteward(a)
		p.beginSteward(a, deputy)
	}
	if a.steward != nil {
		if !a.steward.quiet() {
			p.dirty[a.uid] = true
		}
	} else if p.unlisted(a) {
		// Nobody published it: whoever should drive it may not know of it, have
		// taken it back, or have seen it end since it said that it holds it.
		if st := p.stores[a.uid]; st != nil && p.out.now.Mono-st.since >= p.tune.RoundMax {
			delete(p.stores, a.uid)
		}
		p.ensureStored(a.uid)
	}
}

// unlisted says whether this keeper has held something for a while that stands
// and that the mesh does not list: a version, or a list of keepers that whoever
// was to publish it lost with its store.
func (p *Peer) unlisted(a *app) bool {
	kr := p.keeper.records[a.uid]
	return kr != nil && p.out.now.Mono-kr.changed > p.tune.Grace &&
		(a.keepers.after(p.catalog.keepers[a.uid]) ||
			slices.ContainsFunc(a.versions, func(v version) bool { return !p.lists(a.uid, v.intent.Version) }))
}

// role says whether this peer drives an app, and whether only as a deputy.
func (p *Peer) role(a *app) (lead, deputy bool) {
	if p.counters.boot == 0 || p.left || a.win.intent.MinSchema > p.tune.Schema {
		return false, false
	}
	if p.majority(a) {
		return p.leader(a) == p.cfg.Self.Peer && p.keeper.records[a.uid] != nil, false
	}
	if len(a.keepers.list.Peers) == 0 || p.out.now.Mono-p.started < p.tune.Grace {
		return false, false
	}
	return p.deputyOf(a.uid) == p.cfg.Self.Peer, true
}

// deputyOf ranks the live peers of this side by rendezvous hashing.
func (p *Peer) deputyOf(uid UID) PeerID {
	var best PeerID
	var top uint64
	for _, id := range p.members.alive() {
		h := fnv.New64a()
		h.Write([]byte(uid))
		h.Write([]byte{0})
		h.Write([]byte(id))
		if v := h.Sum64(); best == "" || v > top {
			best, top = id, v
		}
	}
	return best
}

func (p *Peer) beginSteward(a *app, deputy bool) {
	s := newSteward(p, a, Term{})
	s.deputy = deputy
	a.steward = s
	if deputy {
		s.term = p.knownTerm(a)
		s.beginCensus()
	} else {
		s.raise()
	}
	if deputy {
		p.out.happened(Happened{Type: "deputy", UID: a.uid, Key: a.key, Peer: p.cfg.Self.Peer,
			Message: "no majority of the keepers is in reach: this side drives what it has"})
	}
}

// knownTerm is the highest term this peer has heard of.
func (p *Peer) knownTerm(a *app) Term {
	t := p.ledger.terms[a.uid]
	if kr := p.keeper.records[a.uid]; kr != nil && kr.heard.Compare(t) > 0 {
		t = kr.heard
	}
	for _, r := range a.rows {
		if r.report.Term.Compare(t) > 0 {
			t = r.report.Term
		}
	}
	return t
}

func (p *Peer) endSteward(a *app) {
	if a.steward == nil {
		return
	}
	for n := range a.steward.asks {
		delete(p.asking.wait, n)
	}
	a.steward = nil
	p.timers.cancel(timerSteward, string(a.uid))
}

// hearTerm takes news of a term that somebody won: a steward below it is over.
func (p *Peer) hearTerm(uid UID, t Term) {
	if kr := p.keeper.records[uid]; kr != nil {
		kr.hear(t)
	}
	p.depose(uid, t)
}

// overtaken takes news of a term that a keeper granted, which need not have won:
// a steward below it has to raise a higher one, but whoever asked for it does
// not lead. A peer that took its own vote for a win would ask for ever, against
// one that acts and lives.
func (p *Peer) overtaken(uid UID, t Term) {
	if kr := p.keeper.records[uid]; kr != nil {
		kr.refused = max(kr.refused, t.Number)
	}
	p.depose(uid, t)
}

// depose ends the steward of an app whose term is below t.
func (p *Peer) depose(uid UID, t Term) {
	a := p.apps[uid]
	if a == nil || a.steward == nil {
		return
	}
	s := a.steward
	if !s.deputy && t.Compare(s.term) > 0 && s.phase != phaseRaising {
		p.tune.mark(MarkDeposed)
		p.out.happened(Happened{Type: "deposed", UID: uid, Key: a.key, Peer: p.cfg.Self.Peer,
			Message: fmt.Sprintf("term %d of %s follows term %d", t.Number, t.Peer, s.term.Number)})
		p.endSteward(a)
		p.roles = true
	} else if s.deputy && t.Compare(s.term) > 0 {
		s.term = t
	}
}

// raise asks the keepers for the next term.
func (s *Steward) raise() {
	known := max(s.p.knownTerm(s.a).Number, firstTerm)
	if kr := s.p.keeper.records[s.a.uid]; kr != nil {
		known = max(known, kr.Term.Number, kr.refused)
	}
	s.phase, s.term = phaseRaising, Term{Number: known + 1, Peer: s.p.cfg.Self.Peer}
	s.votes, s.refused = map[PeerRef]bool{}, map[PeerID]bool{}
	s.askVotes()
}

func (s *Steward) askVotes() {
	s.next = s.p.out.now.Mono + s.p.tune.Resend
	for _, ref := range s.a.lists().refs() {
		if s.p.keeperLives(ref) && (!s.votes[ref] || s.phase != phaseRaising) {
			s.p.out.send(ref.Peer, message{Raise: &raiseMsg{UID: s.a.uid, Term: s.term}})
		}
	}
}

// followTerm has a deputy act under the term that a peer of its side has seen:
// what it orders would be refused under a lower one. It has none of its own.
func (s *Steward) followTerm(t Term) {
	if s.deputy && t.Compare(s.term) > 0 && t.within(max(s.term.Number, s.p.highest(s.a.uid))) {
		s.term = t
	}
}

// confirm asks the keepers whether this steward's term is still the last one,
// after a ledger said that it is not: a ledger's word alone ends no steward.
func (s *Steward) confirm() {
	if !s.deputy && s.phase != phaseRaising && s.mayRepeat("confirm") {
		s.p.tune.mark(MarkTermDoubted)
		s.askVotes()
	}
}

// onRaise votes.
func (p *Peer) onRaise(from PeerID, m *raiseMsg) {
	if !p.mayOrder(from, m.UID, m.Term) {
		if !p.isKeeper(m.UID, from) {
			p.tellLists(from, m.UID) // it may follow an older list
		}
		return
	}
	writes, reply := p.keeper.raise(m, p.members, p.out.now)
	reply.Asked = m.Asked
	p.out.persist(writes, func(failed *PersistFailed) {
		if failed == nil {
			p.out.send(from, message{Raised: &reply})
		}
	})
	switch {
	case reply.Granted && from != p.cfg.Self.Peer && m.Asked != 0: // it acts under it
		p.hearTerm(m.UID, m.Term)
	case reply.Granted:
		p.timers.before(timerRoles, "", p.out.now.Mono+p.tune.winWait())
		p.overtaken(m.UID, m.Term)
	}
}

// onRaised counts a vote.
func (p *Peer) onRaised(from PeerID, m *raisedMsg) {
	a := p.apps[m.UID]
	if a == nil || !p.isKeeper(m.UID, from) {
		return
	}
	p.hearLists(from, m.UID, m.Lists)
	if a = p.apps[m.UID]; a == nil {
		return
	}
	for _, signed := range m.Intents {
		if v, err := p.catalog.readIntent(signed); err == nil && v.intent.UID == m.UID && v.intent.Key == a.key {
			p.learn(from, m.UID, v)
		}
	}
	if !p.mayHave(m.UID, m.Heard, p.highest(m.UID)) {
		m.Heard = Term{}
	}
	if !m.Highest.within(p.highest(m.UID)) { // it may be a former keeper's
		m.Highest = Term{}
	}
	s := a.steward
	if s == nil || s.deputy || s.term != m.Term {
		return
	}
	if s.phase != phaseRaising {
		if m.Granted {
			s.confirmedBy(a.refOf(from, m.Life), m.Asked)
		} else if m.Highest.Compare(s.term) > 0 {
			p.overtaken(m.UID, m.Highest)
		}
		return
	}
	s.addHolders(m.Holders)
	switch {
	case m.Granted:
		s.learnPast(m.Past)
	case m.Known:
		p.voteRefused(a, from, m)
		return
	case a.win.intent.Removed && !p.catalog.has(m.UID):
		// A keeper forgets an app when its removal is complete.
		p.persistKeep(m.UID, p.keeper.forget(m.UID))
		p.refresh(m.UID)
		return
	default: // it never got the app, or is yet to be a keeper, and says so when it is stored
		p.ensureStored(m.UID)
		p.voteLost(a, from)
		return
	}
	s.votes[a.refOf(from, m.Life)] = true
	if p.decided(a, func(ref PeerRef) bool { return s.votes[ref] }) {
		p.hearTerm(m.UID, s.term)
		p.out.happened(Happened{Type: "taken-over", UID: a.uid, Key: a.key, Peer: p.cfg.Self.Peer,
			Message: fmt.Sprintf("term %d granted by %v", s.term.Number, s.voters())})
		s.beginCensus()
	}
}

// voteRefused ends an attempt to raise a term, once those that live and did not
// refuse are no majority: its number is taken, or whoever acts under the last
// one lives. Who leads is looked at again a little later.
func (p *Peer) voteRefused(a *app, from PeerID, m *raisedMsg) {
	p.tune.mark(MarkVoteRefused)
	if kr := p.keeper.records[a.uid]; kr != nil {
		kr.hear(m.Heard)
		kr.refused = max(kr.refused, m.Highest.Number)
	}
	if m.Highest.Number < m.Term.Number && m.Heard.Peer == p.cfg.Self.Peer {
		return // that keeper will see it another way soon
	}
	p.voteLost(a, from)
}

// voteLost ends an attempt to raise a term if those that live and may yet grant
// it are too few.
func (p *Peer) voteLost(a *app, from PeerID) {
	a.steward.refused[from] = true
	if p.decided(a, func(ref PeerRef) bool { return p.keeperLives(ref) && !a.steward.refused[ref.Peer] }) {
		return
	}
	p.endSteward(a)
	p.timers.before(timerRoles, "", p.out.now.Mono+p.tune.Resend+time.Duration(p.rng.Int64N(int64(p.tune.Resend))))
}

// voters is the keepers that granted the term, in order.
func (s *Steward) voters() []PeerID {
	var out []PeerID
	for _, ref := range s.a.lists().refs() {
		if s.votes[ref] {
			out = append(out, ref.Peer)
		}
	}
	return out
}

// learn takes an intent that another keeper holds. This peer's own vote, which a
// slow disk may hold up, has nothing new but what was taken back since.
func (p *Peer) learn(from PeerID, uid UID, v version) {
	kr := p.keeper.records[uid]
	if kr == nil || from == p.cfg.Self.Peer || p.takenBack(from, uid, v.intent.Version) {
		return
	}
	before := len(kr.versions)
	kr.add(v)
	if len(kr.versions) != before {
		p.tune.mark(MarkLearned)
		p.persistKeep(uid, p.keeper.write(kr))
		p.refresh(uid)
	}
}

// beginCensus asks those that hold the app what they hold.
func (s *Steward) beginCensus() {
	s.phase = phaseCensus
	s.began = s.p.out.now.Mono
	s.nonce = s.p.rng.Uint64()
	s.answered = map[PeerID]bool{}
	if s.deputy {
		// Who holds what on this side is not recorded for certain: everyone
		// on it is asked, and what the keepers' list and the summaries name.
		s.addHolders(s.p.members.alive())
	}
	s.addHolders(slices.Collect(maps.Keys(s.a.rows)))
	s.addHolders(slices.Collect(maps.Keys(s.p.catalog.status[s.a.uid])))
	s.askCensus()
}

func (s *Steward) askCensus() {
	s.next = s.p.out.now.Mono + s.p.tune.Resend
	to := slices.DeleteFunc(slices.Clone(s.holders), func(id PeerID) bool { return s.answered[id] || !s.p.members.live(id) })
	s.p.out.sendAll(to, message{Census: &censusMsg{UID: s.a.uid, Term: s.term, Deputy: s.deputy, Nonce: s.nonce}})
}

// addHolders enters peers that hold, or will be asked to hold, the app.
func (s *Steward) addHolders(ids []PeerID) (added bool) {
	for _, id := range ids {
		if at, found := slices.BinarySearch(s.holders, id); !found && len(s.holders) < holdersMax {
			s.holders = slices.Insert(slices.Clip(s.holders), at, id)
			added = true
		}
	}
	return added
}

// heard notes that a holder has spoken.
func (s *Steward) heard(from PeerID, m *reportMsg) {
	if m.Nonce == s.nonce {
		s.answered[from] = true
	}
	s.addHolders([]PeerID{from})
	if len(m.Claims) == 0 && len(m.Failed) == 0 && m.Nonce == 0 {
		return
	}
	s.next = min(s.next, s.p.out.now.Mono)
}

// runSteward does what is due for an app.
func (p *Peer) runSteward(a *app) {
	s := a.steward
	if s == nil {
		return
	}
	now := p.out.now.Mono
	switch s.phase {
	case phaseRaising:
		if now >= s.next {
			s.askVotes()
		}
	case phaseCensus:
		if s.censusDone(now) {
			s.phase = phaseActing
			s.next = now
			s.noteSide()
			if !s.deputy {
				s.beginPast()
			}
			p.rerouteEdits(a)
			p.ensureStored(a.uid)
			s.act()
		} else if now >= s.next {
			s.askCensus()
		}
	case phaseActing:
		s.act()
	}
	if a.steward == s {
		p.timers.set(timerSteward, string(a.uid), max(s.next, now+time.Millisecond))
	}
}

// censusDone says whether every holder that lives has answered, or was waited
// for long enough: one that is slow must not stall what concerns others.
func (s *Steward) censusDone(now time.Duration) bool {
	if now-s.began >= s.p.tune.CensusWait {
		s.p.tune.mark(MarkCensusWaitedOut)
		return true
	}
	for _, id := range s.holders {
		if s.p.members.live(id) && !s.answered[id] {
			return false
		}
	}
	return true
}

// dueBy has the next round come at a time, or before it.
func (s *Steward) dueBy(at time.Duration) {
	if s.due == 0 || at < s.due {
		s.due = at
	}
}

// noteSide notes what was on this side when the deputy began: it re-places
// that and no more.
func (s *Steward) noteSide() {
	if !s.deputy {
		return
	}
	for _, r := range s.a.rows {
		if !s.answered[r.report.Peer.Peer] {
			continue
		}
		for _, c := range r.report.Claims {
			s.side[c.Component] = s.side[c.Component].Union(c.Slots)
		}
	}
}
