package gossip

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/memberlist"
)

// State is what this peer holds another one to be.
//
//	       join                     probe fails
//	dead ──────────▶ alive ──────────────────────▶ suspect
//	 ▲  ◀──────────┐   ▲ │                          │   │
//	 │    join     │   │ └── says that it leaves ─┐ │   │
//	 │            left ◀──────────────────────────┘ │   │
//	 │                 └────────── refutes ─────────┘   │
//	 └───────────────────── not refuted in time ────────┘
//
// That a peer is dead is hearsay: it is suspicion until this peer has asked for
// itself, and had no answer, see ask.go.
type State uint8

// A peer that was never heard of is dead since the zero time.
const (
	StateDead State = iota
	StateLeft
	StateSuspect
	StateAlive
)

func (s State) String() string {
	return [...]string{"dead", "left", "suspect", "alive"}[s&3]
}

// Member is one peer as this one knows it.
type Member struct {
	Peer    string
	Name    string
	Site    string
	Addr    string
	Version string
	State   State
	Since   time.Time // of the state
	Heard   time.Time // of anything from the peer itself, signed or answered
	// BackWithin is what a peer that left announced, from Since; 0: nothing.
	BackWithin time.Duration
	// RTT from here, with its confidence 0..1; 0 if nothing is known.
	RTT        time.Duration
	Confidence float64
}

// EventKind says what happened to a member.
type EventKind uint8

// Kinds of events.
const (
	EventAlive EventKind = iota + 1
	EventSuspect
	EventDead
	EventLeft
	EventUpdated // metadata changed
	EventDigest  // a newer digest is known; its whole may have changed
)

func (k EventKind) String() string {
	names := [...]string{"", "alive", "suspect", "dead", "left", "updated", "digest"}
	if int(k) < len(names) {
		return names[k]
	}
	return "?"
}

// Event is one change.
type Event struct {
	Kind   EventKind
	Member Member
}

// owner is a peer in fixed-size messages: a hash of its id.
type owner [16]byte

func ownerOf(peer string) owner {
	sum := sha256.Sum256([]byte(peer))
	return owner(sum[:16])
}

// peer is all that is known of another peer.
type peer struct {
	id     string
	addr   string // the seed's or stored, until metadata tells
	meta   meta
	sealed []byte // the bytes that meta was verified from; nil: never
	state  State
	since  time.Time
	heard  time.Time

	incarnation uint64 // memberlist's, as far as packets showed it
	accused     uint64 // the highest that it was said to be suspect or dead at
	probeRTT    time.Duration
	probes      int

	digest digestState
	tables tableState

	inquiry inquiry // while it is suspect

	joinAt       time.Time // when to try next
	joinTries    int
	joining      bool
	syncAt       time.Time // when to exchange tables, zero: not asked for
	differsSince time.Time // as far as the hashes told say
	syncTries    int
}

func (p *peer) reachable() bool { return p.state == StateAlive || p.state == StateSuspect }

func isAlive(p *peer) bool { return p.state == StateAlive }

// sample picks n of the peers that fit, any n as likely as any others (Vitter, "Random
// Sampling with a Reservoir", TOMS 1985, algorithm R). The first n of a map would not do:
// they stand side by side in it each time, and those by whom a suspect is asked would
// fail together. The caller holds mu.
func (g *Gossip) sample(n int, fits func(*peer) bool) []*peer {
	var some []*peer
	seen := 0
	for _, p := range g.peers {
		if !fits(p) {
			continue
		}
		if seen++; len(some) < n {
			some = append(some, p)
		} else if i := rand.IntN(seen); i < n {
			some[i] = p
		}
	}
	return some
}

// admit returns the entry of a peer that may be one, making it if need be. The
// caller holds mu.
func (g *Gossip) admit(id string) (*peer, ed25519.PublicKey, error) {
	if _, gone := g.forgotten[id]; gone || id == "" || id == g.cfg.Self || len(id) > idBytesMax {
		return nil, nil, fmt.Errorf("peer %q: %w", id, errNotAdmitted)
	}
	key, ok := g.cfg.KeyOf(id)
	if !ok || len(key) != ed25519.PublicKeySize {
		return nil, nil, fmt.Errorf("peer %q: %w", id, errNotAdmitted)
	}
	p, ok := g.peers[id]
	if !ok {
		if len(g.peers) >= peersMax {
			return nil, nil, fmt.Errorf("peer %q: more than %d peers", id, peersMax)
		}
		p = &peer{id: id}
		g.peers[id] = p
		g.states[p.state]++
		poke(g.toJoin)
		g.owners[ownerOf(id)] = id
	}
	return p, key, nil
}

// notifyAlive answers memberlist whether to believe a life sign.
func (g *Gossip) notifyAlive(n *memberlist.Node) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := checkFixed(n)
	if err == nil && n.Name == g.cfg.Self {
		err = g.ownAlive(n.Meta)
	} else if err == nil {
		var p *peer
		var key ed25519.PublicKey
		if p, key, err = g.admit(n.Name); err == nil {
			err = g.learnMeta(p, n.Meta, key)
		}
	}
	if err != nil {
		g.stats.RefusedAlive++
	}
	return err
}

// checkFixed refuses a life sign with other values than every peer has, in the
// fields that metadata does not sign. A life sign with another address would
// make memberlist refuse all later ones of that peer, as of another at the same
// name; one with another protocol would make it refuse to exchange members with
// anybody.
func checkFixed(n *memberlist.Node) error {
	switch {
	case !placeholderIP.Equal(n.Addr) || n.Port != placeholderPort:
		return fmt.Errorf("life sign of %s at %s:%d: %w", n.Name, n.Addr, n.Port, errMalformed)
	case n.PMin > protocolVersion || n.PCur != protocolVersion || n.PMax < protocolVersion, n.DMin > 0 || n.DCur != 0:
		return fmt.Errorf("life sign of %s with protocol %d (%d to %d): %w", n.Name, n.PCur, n.PMin, n.PMax, errMalformed)
	}
	return nil
}

// ownAlive looks at what others tell of this peer. A newer generation of its
// own signing means that this peer forgot how often it was started: it goes
// on above that, or nobody would believe it.
func (g *Gossip) ownAlive(sealed []byte) error {
	if bytes.Equal(sealed, g.sealed) {
		return nil
	}
	m, err := openMeta(g.cfg.Self, sealed, g.cfg.Signer.Public().(ed25519.PublicKey))
	if err != nil {
		return err
	}
	if g.meta.olderThan(m) {
		g.meta.Generation = m.Generation + 1
		g.resealed = true // and published by maintain, which may call memberlist
		g.wake()
	}
	return nil
}

func (g *Gossip) learnMeta(p *peer, sealed []byte, key ed25519.PublicKey) error {
	if bytes.Equal(p.sealed, sealed) {
		return nil // verified before
	}
	m, err := openMeta(p.id, sealed, key)
	if err != nil {
		return err
	}
	if p.sealed != nil && m.olderThan(p.meta) {
		return fmt.Errorf("metadata of %s: %w", p.id, errStale)
	}
	if p.sealed != nil && m.Generation == p.meta.Generation && m.Revision == p.meta.Revision {
		// Two machines with one key: keep the first, and say so.
		g.cfg.Logger.Warn("two peers claim one id", "peer", p.id, "addr", p.meta.Addr, "other", m.Addr)
		return fmt.Errorf("metadata of %s: %w", p.id, errStale)
	}
	if m.Generation != p.meta.Generation {
		p.tables = tableState{} // it was started anew
	}
	p.meta, p.sealed = m, bytes.Clone(sealed)
	p.heard = time.Now()
	if m.Addr != "" && m.Addr != p.addr {
		p.addr = m.Addr
		g.cfg.Learn(p.id, m.Addr)
	}
	g.unsaved = true
	return nil
}

func (g *Gossip) notifyJoin(n *memberlist.Node) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p, _, err := g.admit(n.Name)
	if err != nil { // it is this peer, for one
		return
	}
	p.joinTries = 0
	g.setState(p, StateAlive)
	g.meet(p)
	g.retell = true
	if g.compareAt.IsZero() {
		g.compareAt = time.Now().Add(g.jitter(compareAfter))
		poke(g.toJoin)
	}
}

func (g *Gossip) notifyLeave(n *memberlist.Node) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p, ok := g.peers[n.Name]
	if !ok {
		return
	}
	p.joinTries = 0
	if p.meta.Leaving {
		g.setState(p, StateLeft)
		p.joinAt = time.Now().Add(g.jitter(joinFirst))
		poke(g.toJoin)
		return
	}
	g.setState(p, StateSuspect)
	g.inquire(p, p.accused, true)
	if now := time.Now(); !p.inquiry.unanswered(now) {
		p.joinAt = now // it is told, and refutes
		poke(g.toJoin)
	}
}

func (g *Gossip) notifyUpdate(n *memberlist.Node) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p, ok := g.peers[n.Name]; ok {
		g.emit(EventUpdated, p)
	}
}

func (g *Gossip) setState(p *peer, s State) {
	if p.state == s {
		return
	}
	g.states[p.state]--
	g.states[s]++
	g.endInquiry(p)
	if p.state == StateSuspect && s == StateAlive {
		g.late.falseAlarm(time.Now())
	}
	p.state, p.since = s, time.Now()
	g.wake()
	g.emit(map[State]EventKind{StateAlive: EventAlive, StateSuspect: EventSuspect,
		StateDead: EventDead, StateLeft: EventLeft}[s], p)
	g.unsaved = true
}

// sawPacket follows suspicions, see tap.go; false for a packet that must not
// be taken.
func (g *Gossip) sawPacket(b []byte) (good bool) {
	good = true
	plain := tapPacket(b, func(node string, number uint64, kind byte) {
		g.mu.Lock()
		defer g.mu.Unlock()
		good = good && number <= g.numberMax(node, kind)
	})
	if !plain || !good {
		return false
	}
	tapPacket(b, func(node string, number uint64, kind byte) {
		if kind == ackMsg {
			g.sawAnswer(uint32(number))
			return
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		if p, ok := g.peers[node]; ok && number >= p.incarnation {
			g.sawWord(p, number, kind)
		}
	})
	return true
}

// sawMember looks at a member in an exchange of another peer, and says how high its
// incarnation may be.
func (g *Gossip) sawMember(node string, number uint64, kind byte) (most uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	most = g.numberMax(node, kind)
	if p, ok := g.peers[node]; ok && kind == aliveMsg && number > p.incarnation && number <= most {
		g.sawWord(p, number, kind)
	}
	return most
}

// sawWord takes note of what is said about a peer. The caller holds mu.
func (g *Gossip) sawWord(p *peer, incarnation uint64, kind byte) {
	if kind == deadMsg { // memberlist tells if it is new
		p.accused = max(p.accused, incarnation)
		return
	}
	newer := incarnation > p.incarnation
	p.incarnation = incarnation
	switch {
	case kind == suspectMsg && (p.state == StateAlive || p.state == StateSuspect):
		p.accused = max(p.accused, incarnation)
		g.setState(p, StateSuspect)
		g.inquire(p, incarnation, false)
	case kind == aliveMsg && newer && p.state == StateSuspect && !p.inquiry.verdict:
		g.setState(p, StateAlive)
	}
}

// expireSuspects ends suspicions whose refutation came by a way that is not
// looked at. memberlist would have declared the peer dead by now.
func (g *Gossip) expireSuspects(now time.Time) {
	if g.states[StateSuspect] == 0 {
		return
	}
	for _, p := range g.peers {
		if p.state == StateSuspect && !p.inquiry.verdict && now.Sub(p.since) > suspectShown {
			g.setState(p, StateAlive)
		}
	}
}

// suspectShown exceeds the longest suspicion, that of 1,000 peers.
const suspectShown = suspicionMult * suspicionMax * 3 * probeInterval

// Members lists every known peer but this one, sorted by id.
func (g *Gossip) Members() []Member {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]Member, 0, len(g.peers))
	for _, p := range g.peers {
		out = append(out, g.member(p))
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.Peer, b.Peer) })
	return out
}

// StateOf is the state of one known peer, false for a stranger.
func (g *Gossip) StateOf(id string) (State, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p, ok := g.peers[id]
	if !ok {
		return StateDead, false
	}
	return p.state, true
}

func (g *Gossip) member(p *peer) Member {
	m := Member{Peer: p.id, Name: p.meta.Name, Site: p.meta.Site, Addr: p.addr, Version: p.meta.Version,
		State: p.state, Since: p.since, Heard: p.heard}
	if p.state == StateLeft {
		m.BackWithin = time.Duration(p.meta.BackWithin) * time.Second
	}
	m.RTT, m.Confidence, _ = g.rtt(g.cfg.Self, p.id)
	return m
}

// Forget drops a peer whose admission was revoked, at once and for good.
func (g *Gossip) Forget(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.forgotten) < peersMax { // beyond that KeyOf alone decides
		g.forgotten[id] = struct{}{}
	}
	if p, ok := g.peers[id]; ok {
		if p.reachable() {
			g.setState(p, StateDead)
		}
		g.states[p.state]--
		g.endInquiry(p)
		delete(g.peers, id)
		delete(g.owners, ownerOf(id))
	}
	g.coords.Forget(id)
	g.unsaved = true
}

// isPeer says whether a peer is known here.
func (g *Gossip) isPeer(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.peers[id]
	return ok
}

// admitted says whether packets and streams of a peer are taken.
func (g *Gossip) admitted(id string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, gone := g.forgotten[id]; gone {
		return false
	}
	_, ok := g.cfg.KeyOf(id)
	return ok
}
