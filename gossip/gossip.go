package gossip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/hansa-mesh/hansa/gossip/coords"
)

// ErrNotRunning is an operation that needs Run.
var ErrNotRunning = errors.New("gossip is not running")

// Gossip is one peer's part in what spreads by itself.
type Gossip struct {
	cfg     Config
	coords  *coords.Coords
	rumours *memberlist.TransmitLimitedQueue // operations and announcements
	notices *memberlist.TransmitLimitedQueue // digests
	hashes  *memberlist.TransmitLimitedQueue
	tables  map[string]*replicated
	order   []*replicated // as Config.Tables
	size    atomic.Int64  // peers reachable, for the queues
	awake   chan struct{} // maintain looks at once
	resting atomic.Bool   // maintain waits for something to happen
	toJoin  chan struct{} // rejoin looks soon
	toSync  chan struct{} // synchronise looks soon
	toAsk   chan struct{} // askSuspects looks at once
	serving chan struct{} // slots of HandleSync

	pushes  chan push
	bundles *bundler
	crowded chan struct{} // operations found no room in a packet

	oversized, pruned, pushesDropped atomic.Uint64

	mu          sync.Mutex // guards what follows; memberlist is never called with it held
	peers       map[string]*peer
	states      [StateAlive + 1]int // how many peers are in each
	served      map[string]*guest   // peers whose exchange is served now, or waits for that
	owners      map[owner]string
	asking      map[uint32]*peer // who is suspect, by the number of what it is asked
	late        lateness         // of this peer's own turns
	watching    *peer            // whom this peer looks after, until it answers
	watched     uint32           // the number of what it was asked
	forgotten   map[string]struct{}
	meta        meta   // of this peer
	sealed      []byte // signed meta
	resealed    bool   // meta changed, memberlist does not know yet
	own         digestState
	announced   tableState // own hash, as told to others
	lastHash    [hashBytes]byte
	hashAt      time.Time // when it was seen to change
	hashDue     time.Time // when it is to be told
	comparing   comparing
	compareAt   time.Time // when to compare members with somebody, zero: no need
	compareWith *peer     // and with whom; nil: any that is alive
	retell      bool      // somebody came who may have missed the own hash and digest
	retoldAt    time.Time
	pending     []Event
	net         *network
	ml          *memberlist.Memberlist
	started     bool
	unsaved     bool
	savedAt     time.Time
	checkAt     time.Time // when to exchange tables with somebody who seems equal
	stats       Stats
}

// Stats are totals since New, but for the depths, which are of now.
type Stats struct {
	QueueDepth int // messages of tables, digests and hashes that wait
	// Oversized messages were not queued, Pruned ones dropped from a full queue.
	Oversized, Pruned              uint64
	RefusedAlive, RefusedDigests   uint64 // not admitted, forged or stale
	RefusedPackets, DroppedPackets uint64
	Asks                           uint64 // of peers that were suspect
	Disbelieved                    uint64 // deaths told of peers that answered
	IgnoredCoordinates             uint64
	RumoursDropped, EventsDropped  uint64
	PushesDropped                  uint64
	PacketsIn, PacketsOut          uint64
	BytesIn, BytesOut              uint64
	Joins, JoinsFailed             uint64
	Syncs, SyncsFailed, SyncsEqual uint64 // exchanges of one table
	SyncStreams                    uint64 // that carried them, begun here or there
	SyncBytes                      uint64
	HealthScore                    int // memberlist's; 0 is healthy
}

// New checks the config and loads what was saved. It starts nothing.
func New(cfg Config) (*Gossip, error) {
	cfg, err := cfg.filled()
	if err != nil {
		return nil, err
	}
	g := &Gossip{cfg: cfg, coords: coords.New(), tables: map[string]*replicated{}, peers: map[string]*peer{},
		owners: map[owner]string{ownerOf(cfg.Self): cfg.Self}, forgotten: map[string]struct{}{}, served: map[string]*guest{},
		asking: map[uint32]*peer{}, toAsk: make(chan struct{}, 1),
		awake: make(chan struct{}, 1), toJoin: make(chan struct{}, 1), toSync: make(chan struct{}, 1),
		serving: make(chan struct{}, servingMax),
		pushes:  make(chan push, pushWaiting), bundles: newBundler(), crowded: make(chan struct{}, gossipNodes)}
	nodes := func() int { return int(g.size.Load()) + 1 }
	g.rumours = &memberlist.TransmitLimitedQueue{NumNodes: nodes, RetransmitMult: retransmitRumours}
	g.notices = &memberlist.TransmitLimitedQueue{NumNodes: nodes, RetransmitMult: retransmitNotices}
	g.hashes = &memberlist.TransmitLimitedQueue{NumNodes: func() int { return hashNodes(nodes()) }, RetransmitMult: retransmitHashes}
	for _, r := range cfg.Tables {
		if _, twice := g.tables[r.Name()]; twice || r.Name() == "" || len(r.Name()) > nameBytesMax {
			return nil, fmt.Errorf("%w: table %q", errConfig, r.Name())
		}
		t := newReplicated(r)
		g.tables[r.Name()], g.order = t, append(g.order, t)
	}
	g.meta = meta{Name: cfg.Name, Site: cfg.Site, Addr: cfg.Addr, Version: cfg.Version}
	if err := g.load(); err != nil {
		return nil, err
	}
	g.addSeeds(cfg.Known)
	if g.sealed, err = g.meta.seal(cfg.Self, cfg.Signer); err != nil {
		return nil, err
	}
	return g, nil
}

// Run takes part until ctx ends, and returns after all that it started. It can
// be called once.
func (g *Gossip) Run(ctx context.Context) error {
	g.mu.Lock()
	if g.started {
		g.mu.Unlock()
		return errors.New("gossip was started before")
	}
	g.started = true
	net := newNetwork(ctx, &g.cfg, g.admitted, g.sawPacket, g.sawMember)
	g.net = net
	g.mu.Unlock()

	mc := memberlistConfig(g.cfg.Self, g.cfg.Logger)
	mc.Transport = net
	d := delegate{g}
	mc.Delegate, mc.Alive, mc.Events, mc.Ping = d, d, d, d
	ml, err := memberlist.Create(mc)
	if err != nil {
		return errors.Join(fmt.Errorf("start membership: %w", err), net.Shutdown())
	}
	g.mu.Lock()
	g.ml = ml
	g.mu.Unlock()

	for _, t := range g.tables {
		t.replica.SetPublish(func(b []byte) { g.spread(t, b) })
	}
	var wg sync.WaitGroup
	wg.Go(func() { g.maintain(ctx) })
	wg.Go(func() { g.rejoin(ctx) })
	wg.Go(func() { g.askSuspects(ctx) })
	wg.Go(func() { g.watch(ctx) })
	wg.Go(func() { g.synchronise(ctx) })
	wg.Go(func() { g.sendBundles(ctx) })
	wg.Go(func() { g.sendCrowded(ctx) })
	for range pushWorkers {
		wg.Go(func() { g.pushLarge(ctx) })
	}
	for _, t := range g.tables {
		wg.Go(func() { g.applyRumours(ctx, t) })
	}
	<-ctx.Done()
	err = ml.Shutdown()
	wg.Wait()
	for _, t := range g.tables {
		t.replica.SetPublish(nil)
	}
	g.deliver()
	return errors.Join(err, g.save())
}

const (
	maintainEvery = 250 * time.Millisecond // while something is under way
	restMax       = 5 * time.Second        // of each of the loops, when nothing is
	saveEvery     = 30 * time.Second
	eventsMax     = 4096
)

// maintain does what is due from time to time, and calls Config.Events.
func (g *Gossip) maintain(ctx context.Context) {
	for wait := maintainEvery; ; {
		t := time.NewTimer(wait)
		select {
		case <-g.awake:
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
		t.Stop()
		wait = restMax
		g.resting.Store(true) // before it looks: what changes meanwhile wakes it
		if g.turn(ctx, time.Now()) {
			wait = maintainEvery
			g.resting.Store(false)
		}
	}
}

// changed looks after tables that changed, soon.
func (g *Gossip) changed() {
	if g.resting.CompareAndSwap(true, false) {
		g.wake()
	}
}

// turn says whether something is under way that needs another one soon.
func (g *Gossip) turn(ctx context.Context, now time.Time) (busy bool) {
	hash := g.hash()
	g.mu.Lock()
	if hash != g.lastHash {
		g.hashAt = now
		poke(g.toSync)
	}
	g.expireSuspects(now)
	told := g.announceHash(hash, now)
	g.tellAgain(now)
	err := g.publishDigest(now)
	update := g.resealed
	if update {
		g.resealed = false
		g.meta.Revision++
		var sealed []byte
		var errSeal error
		if sealed, errSeal = g.meta.seal(g.cfg.Self, g.cfg.Signer); errSeal == nil {
			g.sealed = sealed
		}
		err = errors.Join(err, errSeal)
	}
	save := g.unsaved && now.Sub(g.savedAt) > saveEvery
	if save {
		g.savedAt = now
	}
	busy = g.states[StateSuspect] > 0 || g.own.dirty || g.retell || !told
	g.size.Store(int64(g.states[StateAlive] + g.states[StateSuspect]))
	g.mu.Unlock()
	if update {
		// Waits for nobody: the message is queued, and push/pull carries it too.
		_ = g.ml.UpdateNode(time.Nanosecond) // tells that it did not wait
	}
	if save {
		err = errors.Join(err, g.save())
	}
	if err != nil && ctx.Err() == nil {
		g.cfg.Logger.Error("gossip upkeep", "error", err)
	}
	g.deliver()
	return busy
}

// emit queues an event. The caller holds mu.
func (g *Gossip) emit(kind EventKind, p *peer) {
	if g.cfg.Events == nil {
		return
	}
	if len(g.pending) >= eventsMax {
		g.stats.EventsDropped++
		return
	}
	g.pending = append(g.pending, Event{kind, g.member(p)})
	g.wake()
}

func (g *Gossip) deliver() {
	if g.cfg.Events == nil {
		return
	}
	g.mu.Lock()
	events := g.pending
	g.pending = nil
	g.mu.Unlock()
	for _, e := range events {
		g.cfg.Events(e)
	}
}

func (g *Gossip) wake() { poke(g.awake) }

func poke(loop chan<- struct{}) {
	select {
	case loop <- struct{}{}:
	default:
	}
}

// rest waits until it is time or a loop is poked, but not less than least. It is
// false if ctx ended.
func rest(ctx context.Context, least time.Duration, until time.Time, poked <-chan struct{}) bool {
	if !pause(ctx, least) {
		return false
	}
	left := min(time.Until(until), restMax)
	if left <= 0 {
		return true
	}
	t := time.NewTimer(left)
	defer t.Stop()
	select {
	case <-poked:
		return true
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (g *Gossip) jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1)
}

// Leave tells the mesh that this peer goes away on purpose, and when it means
// to be back (0: no promise), and returns when somebody has heard it. Run
// still goes on until its context ends; the peer cannot come back within it.
func (g *Gossip) Leave(ctx context.Context, backWithin time.Duration) error {
	g.mu.Lock()
	ml := g.ml
	if ml == nil {
		g.mu.Unlock()
		return fmt.Errorf("leave: %w", ErrNotRunning)
	}
	g.meta.Leaving, g.meta.BackWithin = true, uint32(min(max(backWithin, 0)/time.Second, 1<<31))
	g.meta.Revision++
	sealed, err := g.meta.seal(g.cfg.Self, g.cfg.Signer)
	if err != nil {
		g.mu.Unlock()
		return fmt.Errorf("leave: %w", err)
	}
	g.sealed, g.resealed = sealed, false
	g.mu.Unlock()
	done := make(chan error, 1)
	go func() {
		// The signed word first: death alone would be taken for a crash.
		done <- errors.Join(ml.UpdateNode(leavePatience), ml.Leave(leavePatience))
	}()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("leave: %w", err)
		}
		return nil
	case <-ctx.Done():
		<-done
		return fmt.Errorf("leave: %w", ctx.Err())
	}
}

const leavePatience = time.Second

// Stats returns the totals.
func (g *Gossip) Stats() Stats {
	depth := g.rumours.NumQueued() + g.notices.NumQueued() + g.hashes.NumQueued()
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.stats
	s.QueueDepth = depth
	s.Oversized, s.Pruned, s.PushesDropped = g.oversized.Load(), g.pruned.Load(), g.pushesDropped.Load()
	for _, t := range g.tables {
		s.RumoursDropped += t.dropped.Load()
	}
	s.IgnoredCoordinates = g.coords.Ignored()
	if n := g.net; n != nil {
		s.PacketsIn, s.PacketsOut, s.BytesIn, s.BytesOut = n.packetsIn.Load(), n.packetsOut.Load(), n.bytesIn.Load(), n.bytesOut.Load()
		s.RefusedPackets, s.DroppedPackets = n.refused.Load(), n.dropped.Load()
	}
	if g.ml != nil {
		s.HealthScore = g.ml.GetHealthScore()
	}
	return s
}
