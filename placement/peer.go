package placement

import (
	"math/rand/v2"
	"strings"
	"time"
)

// Config is what a core is made with.
type Config struct {
	Self PeerRef
	Name string
	Site SiteID
	// Labels of this peer and its site.
	Labels   map[string]string
	Lat, Lon float64
	Price    float64
	Version  string
	// Seed makes every random choice; a simulation passes its own.
	Seed uint64
	// Sign signs a record as this peer. It must be deterministic (Ed25519 is).
	Sign func(body []byte) []byte
	// Verify says whether a record was signed by an admitted peer.
	Verify func(s Signed) error
	// Has says whether this peer holds an artifact: of a tree, all of it. It is
	// asked often, and is to answer from memory.
	Has func(a Artifact) bool
	// Blobs is what a tree is made of, the root among it, with sizes, where this
	// peer knows that; nil or nothing when only the whole is known.
	Blobs func(tree Artifact) []Artifact
	// RTT says how far two other peers are apart, from their coordinates; nil
	// when that is not known. What was measured (see Measure) comes before it.
	RTT func(a, b PeerID) (time.Duration, bool)
	// Panicked is told of a panic in one part of a step, on the panicking
	// goroutine, and the step goes on; nil lets it pass.
	Panicked func(what, subject string, value any)
	// Tune holds delays and limits; zero fields are the documented defaults.
	Tune Tuning
}

// New makes a core. Load what its disk holds and the replicated tables, then
// Begin, then Step.
func New(cfg Config) *Peer {
	tune := cfg.Tune.withDefaults()
	self := cfg.Self.Peer
	p := &Peer{
		cfg: cfg, tune: tune,
		rng:     rand.New(rand.NewPCG(cfg.Seed, 0x68616e7361)),
		clock:   hlc{peer: self},
		out:     &out{self: self, gate: newGate(tune.Break == FaultSkipGate), future: tune.Future},
		timers:  newTimers(),
		members: newMembers(self, cfg.Site, tune),
		catalog: newCatalog(cfg.Verify),
		ledger:  newLedger(cfg.Self, tune, cfg.Price),
		apps:    map[UID]*app{}, byKey: map[AppKey]map[UID]bool{}, dirty: map[UID]bool{}, roleOf: map[UID]bool{},
		edits: newEdits(), stores: map[UID]*storing{}, waiting: map[UID]map[PeerID]bool{},
		pages:    newPages(),
		failures: map[UID]map[string]failure{}, telling: map[UID]telling{}, decisions: newDecisions(), cuts: cuts{open: map[UID]*cut{}},
		secretSites: map[string][]SiteID{}, needs: newNeedIndex(), distances: newDistances(), lostVolumes: map[VolumeID]bool{},
	}
	p.keeper = newKeeper(cfg.Self, tune, p.catalog)
	p.keeper.changed = p.needs.stale
	p.catalog.follows = func(known, k keeperList) bool {
		if now := p.listsOf(k.list.UID).now; now.after(known) {
			known = now
		}
		return p.follows(known, k, "")
	}
	p.catalog.gone = p.members.forgotten
	p.catalog.highest = func(uid UID) uint64 { return max(p.highest(uid), p.listsOf(uid).term()) }
	p.votes, p.leases = newLeaseKeeper(tune), newLeases()
	p.work = newWork(p.out, tune, p.timers, p.has)
	p.ledger.holdsOff, p.ledger.labels = p.stopped, cfg.Labels
	p.ledger.secretsBar = func(namespace string, c Component) string { return p.secretsBar(namespace, c, cfg.Site) }
	p.work.shares, p.work.ready = p.shares, p.ledger.ready
	p.work.lease, p.work.lapsed = p.leaseFor, p.fenced
	p.work.rules, p.work.tell = p.restartOf, p.tell
	p.work.listed = func(driver string) bool { return p.ledger.listed[driver] }
	p.work.from = func(c *claim) []PeerID {
		var list Keepers
		if a := p.apps[c.UID]; a != nil {
			list = a.keepers.list
		}
		for _, id := range c.Keepers {
			list.Peers = append(list.Peers[:len(list.Peers):len(list.Peers)], PeerRef{Peer: id})
		}
		return p.sources(c.Version.Peer, list)
	}
	return p
}

// Begin starts the core after everything was loaded, and returns its first
// effects.
func (p *Peer) Begin(now Now) []Effect {
	p.out.now = now
	p.started = now.Mono
	p.members.peers[p.cfg.Self.Peer].since = now.Mono
	p.ledger.begin(now)
	p.votes.begin(now)
	for _, c := range p.ledger.sorted() {
		p.armClaim(c)
	}
	p.beginPages()
	for _, uid := range p.loaded() {
		p.refresh(uid)
	}
	p.beginCuts()
	p.reserve()
	p.ownDigest(now)
	p.timers.set(timerRoles, "", now.Mono+p.tune.Grace)
	return p.finishStep()
}

// loaded is every app of which the disk or a table said something, sorted.
func (p *Peer) loaded() []UID {
	all := map[UID]bool{}
	for uid := range p.keeper.records {
		all[uid] = true
	}
	for uid := range p.catalog.keyOf {
		all[uid] = true
	}
	for uid := range p.catalog.keepers {
		all[uid] = true
	}
	return sortedKeys(all)
}

// Step takes events in their order, and returns what may be carried out now. What
// follows from them is decided once, after the last: a peer that has many waiting
// is not made slower by each of them.
func (p *Peer) Step(now Now, evs ...Event) []Effect {
	p.out.now = now
	for _, ev := range evs {
		p.contained("event", "", func() { p.take(ev) })
	}
	return p.finishStep()
}

func (p *Peer) take(ev Event) {
	now := p.out.now
	switch ev := ev.(type) {
	case Submit:
		p.onSubmit(ev)
	case Remove:
		p.onRemove(ev)
	case ForceEpoch:
		p.onForce(ev)
	case Receive:
		if m, err := decodeMessage(ev.Body); err == nil {
			p.receive(ev.From, m)
		}
	case Undelivered:
		// A hint only: everything is repeated until it is answered, and the
		// verdict on a peer is failure detection's.
	case Persisted:
		p.out.gate.resolve(ev.Token, nil)
	case PersistFailed:
		p.out.gate.resolve(ev.Token, &ev)
	case RecordChanged:
		p.record(ev)
	case MemberChanged:
		p.onMember(ev)
	case DigestChanged:
		p.onDigest(ev.Digest)
	case RTTChanged:
		p.members.get(ev.Peer).rtt = ev.RTT
	case Measured:
		p.onMeasured(ev)
	case HostChanged:
		p.onHost(ev.Host)
	case HostGone:
		p.onHostGone(ev.ID)
	case SecretSites:
		p.onSecretSites(ev)
	case WorkListed:
		p.onWorkListed(ev)
		p.dropOldPages()
		p.roles = true
	case WorkChanged:
		p.onWork(ev, "")
	case RestartWork:
		p.onRestart(ev)
	case BlobArrived:
		for _, a := range p.work.arrived(ev.Digest) {
			p.touchReport(a.claim.UID)
		}
		for _, uid := range sortedKeys(p.waiting) {
			p.answerStores(uid)
		}
	case Holds:
		p.members.setHolds(ev)
		for _, uid := range sortedKeys(p.waiting) { // what it holds may be all that is waited for
			p.answerStores(uid)
		}
	case VolumesFound:
		p.foundVolumes(ev.Volumes)
	case VolumeGone:
		p.volumeGone(ev.ID)
	case DeleteVolume:
		p.deleteVolume(ev.ID)
	case BlobFailed:
		p.work.fetchFailed(ev.Digest, ev.Reason)
		for _, uid := range sortedKeys(p.waiting) {
			p.timers.before(timerRefresh, "stores/"+string(uid), now.Mono+p.tune.RestartMin)
		}
	case TimerFired: // finishStep fires what is due
	}
}

// onDigest takes what a peer says of itself.
func (p *Peer) onDigest(d Digest) {
	id := d.Peer.Peer
	if id == p.cfg.Self.Peer {
		return
	}
	old := p.members.get(id).digest
	p.members.digestChanged(p.out.now.Mono, d.bounded())
	if old == nil || old.Peer != d.Peer {
		p.roles = true
	}
}

// onMember takes what failure detection says of a peer.
func (p *Peer) onMember(ev MemberChanged) {
	if ev.Peer == p.cfg.Self.Peer && ev.State == MemberForgotten {
		p.leave()
		return
	}
	massUntil := p.members.massUntil
	changed := p.members.change(p.out.now.Mono, ev)
	if ev.State == MemberForgotten {
		p.roles = true
		p.catalog.again(p.refresh) // a forced list may count now
		p.catalog.adopt(p.adopted)
	}
	if !changed {
		return
	}
	p.onMassLoss(massUntil)
	p.roles = true
	if m := p.members.peers[ev.Peer]; !m.live {
		if m.backBy > 0 {
			p.timers.before(timerRoles, "", m.backBy)
		}
		return
	}
	// A peer is back: tell it what it missed, and ask it what it holds.
	for _, uid := range p.uids() {
		a := p.apps[uid]
		if len(p.ledger.byApp[uid]) > 0 {
			p.touchReport(uid)
		}
		if s := a.steward; s != nil {
			if _, holds := a.rows[ev.Peer]; holds || s.deputy {
				p.out.send(ev.Peer, message{Census: &censusMsg{UID: uid, Term: s.term, Deputy: s.deputy}})
			}
			p.ensureStored(uid)
		}
	}
}

// adopted has found the keepers of an app whose record of them was lost, and
// writes it again if it is one of them.
func (p *Peer) adopted(uid UID, k keeperList) {
	p.refresh(uid)
	if k.list.has(p.cfg.Self.Peer) {
		p.publish(Publish{Table: TableKeepers, Key: string(uid), Value: Encode(k.signed)})
	}
}

func (p *Peer) receive(from PeerID, m message) {
	switch {
	case m.Forward != nil:
		p.onForward(from, m.Forward)
	case m.Forwarded != nil:
		p.onForwarded(from, m.Forwarded)
	case m.Store != nil:
		p.onStore(from, m.Store)
	case m.Stored != nil:
		p.onStored(from, m.Stored)
	case m.Drop != nil:
		p.onDrop(from, m.Drop)
	case m.Raise != nil:
		p.onRaise(from, m.Raise)
	case m.Raised != nil:
		p.onRaised(from, m.Raised)
	case m.Hold != nil:
		p.onHold(from, m.Hold)
	case m.Held != nil:
		p.onHeld(from, m.Held)
	case m.Census != nil:
		p.onCensus(from, m.Census)
	case m.Report != nil:
		p.onReport(from, m.Report)
	case m.Ask != nil:
		p.onAsk(from, m.Ask)
	case m.Offer != nil:
		p.onOffer(from, m.Offer)
	case m.Commit != nil:
		p.onCommit(from, m.Commit)
	case m.Committed != nil:
		p.onCommitted(from, m.Committed)
	case m.Release != nil:
		p.onRelease(from, m.Release)
	case m.Pin != nil:
		p.onPin(from, m.Pin)
	case m.Pinned != nil:
		p.onPinned(from, m.Pinned)
	case m.Chronicle != nil:
		p.onChronicle(from, m.Chronicle)
	case m.Chronicled != nil:
		p.onChronicled(from, m.Chronicled)
	case m.Lease != nil:
		p.onLease(from, m.Lease)
	case m.Leased != nil:
		p.onLeased(from, m.Leased)
	}
}

// stepLoopsMax bounds how often one step goes round: messages to this peer
// itself make stewards run, which send messages. What is left over is due at
// the next step.
const stepLoopsMax = 64

// finishStep carries a step through: messages to this peer itself, timers that
// are due, roles, and stewards of apps that changed.
func (p *Peer) finishStep() []Effect {
	for range stepLoopsMax {
		if len(p.out.inbox) > 0 {
			inbox := p.out.inbox
			p.out.inbox = nil
			for _, m := range inbox {
				p.contained("message", string(p.cfg.Self.Peer), func() { p.receive(p.cfg.Self.Peer, m) })
			}
		}
		for {
			key, ok := p.timers.due(p.out.now.Mono)
			if !ok {
				break
			}
			p.contained("timer", key.id, func() { p.fire(key) })
		}
		if p.roles || len(p.roleOf) > 0 {
			if !p.contained("roles", "", func() { p.ownDigest(p.out.now); p.decideRoles() }) {
				p.roles = false
				clear(p.roleOf)
				p.timers.set(timerRoles, "", p.out.now.Mono+p.tune.RoundMax)
			}
		}
		dirty := sortedKeys(p.dirty)
		clear(p.dirty)
		for _, uid := range dirty {
			if a := p.apps[uid]; a != nil {
				if !p.contained("steward", a.key.String(), func() { p.runSteward(a) }) {
					p.timers.set(timerSteward, string(uid), p.out.now.Mono+p.tune.RoundMax)
				}
			}
		}
		if len(p.out.inbox) == 0 && len(p.dirty) == 0 && !p.roles && len(p.roleOf) == 0 {
			break
		}
	}
	if t, changed := p.timers.wake(p.out.now.Mono); changed {
		p.out.emit(t)
	}
	effects := p.out.effects
	p.out.effects = nil
	return effects
}

// fire runs what a timer was set for.
func (p *Peer) fire(key timerKey) {
	switch key.kind {
	case timerSteward:
		p.dirty[UID(key.id)] = true
	case timerReport:
		p.reportNow(UID(key.id))
	case timerSummary:
		p.tellPage(key.id)
	case timerClaim:
		p.expireClaim(key.id)
	case timerRestart:
		if id, err := ParseAllocationID(key.id); err == nil {
			if a := p.work.retry(id); a != nil {
				p.touchReport(a.claim.UID)
			}
		}
	case timerSubmit:
		p.editTimer(key.id)
	case timerRoles:
		p.roles = true
	case timerStore:
		p.storeNow(UID(key.id))
	case timerRefresh:
		p.refreshTimer(key.id)
	case timerLease:
		p.leaseTimer(key.id)
	}
}

// refreshTimer tries again what a disk refused or a fetch did not bring.
func (p *Peer) refreshTimer(id string) {
	switch {
	case id == "counter":
		p.reserve()
	case id == volumesTimer:
		p.countVolumes()
	case id == "claims":
		for _, uid := range sortedKeys(p.ledger.byApp) {
			p.checkClaims(uid)
		}
		p.giveBackFailed()
		p.moveAgain()
		for _, c := range p.ledger.sorted() {
			if c.expires > 0 {
				p.expireClaim(c.ID.String())
			}
		}
	case strings.HasPrefix(id, "ahead/"):
		p.refresh(UID(strings.TrimPrefix(id, "ahead/")))
	case strings.HasPrefix(id, cutTimer):
		uid := UID(strings.TrimPrefix(id, cutTimer))
		if a := p.apps[uid]; a != nil {
			p.watchCut(a)
		}
	case strings.HasPrefix(id, "stores/"):
		p.answerStores(UID(strings.TrimPrefix(id, "stores/")))
	}
}

// Load restores one record that a Persist of this peer wrote. Replicated
// tables are given to LoadTable instead.
func (p *Peer) Load(table, key string, value []byte) error {
	switch table {
	case tableKeep:
		return p.keeper.load(UID(key), value)
	case tablePast:
		var c chronicle
		err := Decode(value, &c)
		p.keeper.pasts[UID(key)] = &c
		p.keeper.changed(UID(key))
		return err
	case tableEnded:
		var e ending
		err := Decode(value, &e)
		p.keeper.ended[UID(key)] = e
		return err
	case tableLeases, tableLeaseApps:
		return p.votes.load(table, value)
	case tableMeta:
		if key == keyCounter {
			return p.counters.load(value)
		}
		if strings.HasPrefix(key, keyBooked) {
			return p.ledger.loadBooked(key, value)
		}
		return nil
	case tableCuts:
		return p.loadCut(UID(key), value)
	}
	return p.ledger.load(table, key, value)
}

// LoadTable restores the siblings of one key of a replicated table, before
// Begin, which looks at what they mean: only then the time is known. What is
// loaded here and later missing was removed.
func (p *Peer) LoadTable(table, key string, siblings [][]byte) {
	p.list(RecordChanged{Table: table, Key: key, Siblings: siblings})
}
