package sweep

import (
	"sync"
	"time"
)

const (
	// PromiseFor is how long a promise binds who gave it.
	PromiseFor = 10 * time.Minute
	// LetGoWithin is how long after it asked who was promised may let go. What is
	// between covers clocks of different rates and a machine that stood still.
	LetGoWithin = time.Minute
	// promisesMax bounds the promises that this peer remembers, and promisesPeerMax
	// those that it gave one other peer.
	promisesMax     = 1 << 16
	promisesPeerMax = 1 << 14
	// purgeEvery is how often it is looked for some that are over, when there are too
	// many.
	purgeEvery = 10 * time.Second
	// usesMax bounds the uses that are remembered.
	usesMax = 1 << 17
)

// Guard keeps what must not be deleted just now. A peer that starts promised things
// that it does not know of any more: it deletes nothing that is needed for the first
// PromiseFor.
type Guard struct {
	self string
	now  func() time.Duration // of a clock that goes on while the machine is suspended

	mu       sync.Mutex // guards what follows; held while a file is deleted
	begun    time.Duration
	promised map[string]time.Duration            // until when
	given    map[string]map[string]time.Duration // to whom, and when
	gave     int                                 // all of given
	purged   time.Duration
	offered  map[string]time.Duration // asked others to hold it, since when
	used     map[string]time.Duration
	lost     time.Duration // uses up to then were forgotten
	sweeping int           // sweeps that go on
}

// NewGuard makes the guard of a peer's files. now is a clock that never goes back.
func NewGuard(self string, now func() time.Duration) *Guard {
	return &Guard{self: self, now: now, begun: now(), promised: map[string]time.Duration{}, given: map[string]map[string]time.Duration{}, purged: -purgeEvery,
		offered: map[string]time.Duration{}, used: map[string]time.Duration{}, lost: -1}
}

// Use says that a file is used, or is about to be: whoever has not looked since does
// not delete it.
func (g *Guard) Use(digest string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.used) >= usesMax {
		clear(g.used)
		g.lost = g.now()
	}
	g.used[digest] = g.now()
}

// Forget forgets when a file was used.
func (g *Guard) Forget(digest string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.used, digest)
}

// Idle is how long a file was not used, as far as Use was told; ok is false if it
// never was.
func (g *Guard) Idle(digest string) (idle time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at, ok := g.used[digest]
	return g.now() - at, ok
}

// Begin begins a sweep, before it is looked what is needed. What it gives is what
// Delete wants to know; End is called when nothing more is deleted.
func (g *Guard) Begin() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sweeping++
	return g.now()
}

// End ends a sweep.
func (g *Guard) End() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.sweeping--
}

// Sweeping says whether a sweep goes on.
func (g *Guard) Sweeping() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sweeping > 0
}

// Rest says that something is about to rest on files: a sweep that goes on does not
// delete them. What rested on them before it began is among what is needed. Whoever
// calls it looks afterwards whether they are still here.
func (g *Guard) Rest(files func() []string) {
	if !g.Sweeping() {
		return
	}
	for _, digest := range files() {
		g.Use(digest)
	}
}

// Promise gives another peer the word that this one holds a file, and goes on
// holding it for PromiseFor. It can't where this peer is about to let it go itself
// and the other comes after it in their order. has says whether the file is here.
//
// Who asks again hears the same for half of that time, which is long enough for it to
// let go, and no more until as long again has passed: so one that asks for ever has
// this peer hold nothing for more than half of the time, and of files a bounded number.
func (g *Guard) Promise(digest, to string, has func(string) bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	if at, ok := g.offered[digest]; ok && now-at <= LetGoWithin && to > g.self {
		return false
	}
	at, again := g.given[to][digest]
	if again && now-at >= PromiseFor/2 && now-at < 2*PromiseFor || !has(digest) {
		return false
	}
	if again && now-at < PromiseFor/2 {
		return true
	}
	if !again && !g.room(to, now) {
		return false
	}
	if g.given[to] == nil {
		g.given[to] = map[string]time.Duration{}
	}
	g.given[to][digest] = now
	g.gave += btoi(!again)
	g.promised[digest] = now + PromiseFor
	return true
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// room says whether one more promise can be remembered. The caller holds mu.
func (g *Guard) room(to string, now time.Duration) bool {
	enough := func() bool { return g.gave < promisesMax && len(g.given[to]) < promisesPeerMax }
	if enough() || now-g.purged < purgeEvery {
		return enough()
	}
	g.purged = now
	for peer, files := range g.given {
		for digest, at := range files {
			if now-at >= 2*PromiseFor {
				delete(files, digest)
				g.gave--
			}
		}
		if len(files) == 0 {
			delete(g.given, peer)
		}
	}
	for digest, until := range g.promised {
		if until < now {
			delete(g.promised, digest)
		}
	}
	return enough()
}

// Offer begins to let a file go that is needed: the others may be asked for their
// promises now. It is false where this peer promised to hold it, or may have done so
// before it started.
func (g *Guard) Offer(digest string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.now()
	if now-g.begun < PromiseFor || now < g.promised[digest] {
		return false
	}
	g.offered[digest] = now
	return true
}

// Keep ends what Offer began: the file stays.
func (g *Guard) Keep(digest string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.offered, digest)
}

// LetGo deletes a file that was offered, and that others have promised to hold since;
// false if it must stay after all: it was used since, this peer has promised to hold
// it meanwhile, or too much time has passed.
func (g *Guard) LetGo(digest string, remove func(string) error) (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	at, ok := g.offered[digest]
	delete(g.offered, digest)
	now := g.now()
	if !ok || now-at > LetGoWithin || now < g.promised[digest] || g.usedSince(digest, at) {
		return false, nil
	}
	err := remove(digest)
	return err == nil, err
}

// Delete deletes a file that nothing needed when it was looked, at the time since;
// false if it was used meanwhile.
func (g *Guard) Delete(digest string, since time.Duration, remove func(string) error) (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.usedSince(digest, since) || g.now() < g.promised[digest] {
		return false, nil
	}
	delete(g.used, digest)
	err := remove(digest)
	return err == nil, err
}

func (g *Guard) usedSince(digest string, since time.Duration) bool {
	at, ok := g.used[digest]
	return ok && at >= since || g.lost >= since
}
