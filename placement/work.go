package placement

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// alloc is one slot of a claim at this peer.
//
//	pending ─artifact missing─▶ fetching ─arrived─┐
//	   │                                          ▼
//	   └──────────────artifact here───────────▶ starting ─▶ running ◀─▶ unhealthy
//	   ▲                                          │            │           │
//	   └──────back-off, within its budget────── exit ◀────────┴───────────┘
//	                                              │ budget used up
//	   └──────── stopped ◀─ stopping ◀─ its lease runs out (lease_hold.go),
//	                                    or a person begins it anew (restart.go)
//
//	             release ─▶ stopping ─▶ stopped   └──▶ failed: the slot is given back
type alloc struct {
	id       AllocationID
	claim    *claim
	state    WorkState
	since    int64 // Unix milliseconds
	made     int64 // likewise: since when it is here
	restarts int
	exits    []time.Duration // in the restart window
	last     *Exit           // how the run before this one ended
	healthy  time.Duration   // Now.Mono since when it runs, while it does
	fenced   bool            // it is stopping for want of a lease, and comes back with one
	again    bool            // it is stopping because a person begins it anew,
	moves    bool            // or because it goes to another host
}

// up says whether something of it may run, and is not being ended.
func (a *alloc) up() bool {
	switch a.state.State {
	case AllocStarting, AllocRunning, AllocUnhealthy:
		return true
	}
	return false
}

// Work is the life of this peer's allocations. What runs is the runner's to
// say; Work asks it to start and stop, and counts restarts.
type Work struct {
	out    *out
	tune   Tuning
	timers *timers
	has    func(a Artifact) bool
	listed func(driver string) bool
	from   func(c *claim) []PeerID                                      // who may have the artifact
	lease  func(a *alloc) (number uint64, until time.Duration, ok bool) // of an exclusive slot
	lapsed func(id AllocationID, byDeadline bool) bool                  // its lease ended
	rules  func(c *claim) restartRules                                  // that stand now
	tell   func(c *claim, what string, n Slot, why string)
	shares func(c *claim, n Slot) bool // another copy has its volumes open
	ready  func(c *claim, n Slot) bool // its host is known
	allocs map[AllocationID]*alloc
	byArt  map[string]map[AllocationID]bool // waiting for an artifact

	calls      map[AllocationID]*alloc // functions that run
	callsMoved bool                    // since FunctionsMoved was asked
}

func newWork(o *out, tune Tuning, t *timers, has func(Artifact) bool) *Work {
	return &Work{
		out: o, tune: tune, timers: t, has: has,
		allocs: map[AllocationID]*alloc{}, byArt: map[string]map[AllocationID]bool{}, calls: map[AllocationID]*alloc{},
	}
}

// begin makes sure that a slot of a claim runs. It is idempotent.
func (w *Work) begin(c *claim, n Slot) {
	id := AllocationID{c.ID, n}
	a := w.allocs[id]
	if a == nil {
		a = w.make(id, c)
		w.enter(a, WorkState{State: AllocPending})
	}
	if a.state.State == AllocPending || a.state.State == AllocFetching {
		w.start(a)
	}
}

func (w *Work) make(id AllocationID, c *claim) *alloc {
	a := &alloc{id: id, claim: c, made: w.out.now.Wall.UnixMilli()}
	w.allocs[id] = a
	return a
}

// enter notes a state of an allocation, and since when it is in it.
func (w *Work) enter(a *alloc, s WorkState) {
	if s.Driver == "" {
		s.Driver = a.claim.Spec.Driver()
	}
	old := a.state
	if s.Started == 0 && s.State != AllocPending && s.State != AllocFetching {
		s.Started = old.Started
	}
	a.state = s
	w.noteCalls(a)
	if s.State == old.State {
		return // only the reason is another
	}
	a.since = w.out.now.Wall.UnixMilli()
	switch s.State {
	case AllocRunning:
		a.healthy = w.out.now.Mono
		fallthrough
	case AllocUnhealthy:
		if s.Started == 0 {
			a.state.Started = a.since
		}
	}
	switch s.State {
	case AllocFetching, AllocStarting, AllocUnhealthy, AllocStopping:
		w.happened(a, string(s.State), s.Reason)
	}
}

// noteCalls notes whether an allocation is a function that answers calls.
func (w *Work) noteCalls(a *alloc) {
	answers := a.state.State == AllocRunning && a.claim.Spec.Kind() == KindFunction
	if (w.calls[a.id] != nil) == answers {
		return
	}
	if w.callsMoved = true; answers {
		w.calls[a.id] = a
	} else {
		delete(w.calls, a.id)
	}
}

// start asks for the artifact or for the start itself. It waits for the
// driver's list: what runs already must not be started again.
func (w *Work) start(a *alloc) {
	c := a.claim
	if c.Spec.Kind() == "" || !w.listed(c.Spec.Driver()) || !w.ready(c, a.id.Slot) {
		return
	}
	if w.fetch(a) {
		return
	}
	if w.shares(c, a.id.Slot) {
		w.tune.mark(MarkVolumeShared)
		w.enter(a, WorkState{State: AllocPending, Reason: "waits for the copy before it to stop: they share a volume"})
		return
	}
	spec := a.spec()
	if c.Spec.Exclusive.On {
		if a.state.State != AllocPending {
			w.enter(a, WorkState{State: AllocPending, Reason: "waits for its lease"})
		}
		var ok bool
		if spec.Fence, spec.Until, ok = w.lease(a); !ok {
			return
		}
	}
	w.timers.cancel(timerRestart, a.id.String())
	w.enter(a, WorkState{State: AllocStarting})
	w.out.emit(Start{ID: a.id, Spec: spec})
}

func (a *alloc) spec() WorkSpec {
	c := a.claim
	return WorkSpec{UID: c.UID, Key: c.Key, Component: c.Component, Spec: c.Spec, SpecHash: c.SpecHash, Version: c.Version, Restarts: a.restarts, Devices: c.Devices[a.id.Slot], Host: c.hostOf(a.id.Slot)}
}

// fetch asks for the files that an allocation lacks, and says whether there are
// any.
func (w *Work) fetch(a *alloc) bool {
	missing := false
	for _, art := range a.claim.artifacts() {
		if w.has(art) {
			continue
		}
		if !missing {
			w.enter(a, WorkState{State: AllocFetching, Reason: art.comes()})
		}
		missing = true
		if w.byArt[art.Digest] == nil {
			w.byArt[art.Digest] = map[AllocationID]bool{}
		}
		w.byArt[art.Digest][a.id] = true
		w.out.emit(Fetch{Artifact: art, From: w.from(a.claim), Warm: true})
	}
	return missing
}

// comes says in words that an artifact is on its way.
func (a Artifact) comes() string {
	what := "file"
	if a.Tree {
		what = "image"
	}
	size := ""
	if a.Size > 0 {
		size = fmt.Sprintf(" (%s)", resource.NewQuantity(a.Size, resource.BinarySI))
	}
	return fmt.Sprintf("%s %.19s%s is being fetched from other peers", what, a.Digest, size)
}

// fence stops what may not go on for want of a lease. Once it has ended it waits
// for the next one.
func (w *Work) fence(a *alloc, reason string) {
	w.enter(a, WorkState{State: AllocStopping, Reason: reason, Ports: a.state.Ports})
	a.fenced = true
	w.out.emit(Stop{ID: a.id, Reason: reason})
}

// arrived starts what waited for an artifact.
func (w *Work) arrived(digest string) []*alloc {
	var changed []*alloc
	for id := range w.byArt[digest] {
		if a := w.allocs[id]; a != nil && a.state.State == AllocFetching {
			changed = append(changed, a)
		}
	}
	delete(w.byArt, digest)
	sortAllocs(changed)
	for _, a := range changed {
		w.enter(a, WorkState{State: AllocPending})
		w.start(a)
	}
	return changed
}

// fetchFailed shows why an artifact is missing and tries again later.
func (w *Work) fetchFailed(digest, reason string) {
	for id := range w.byArt[digest] {
		if a := w.allocs[id]; a != nil && a.state.State == AllocFetching {
			a.state.Reason = reason
			w.timers.set(timerRestart, id.String(), w.out.now.Mono+w.tune.RestartMin)
		}
	}
}

// retry is the restart timer of an allocation.
func (w *Work) retry(id AllocationID) *alloc {
	a := w.allocs[id]
	if a == nil || a.state.State != AllocPending && a.state.State != AllocFetching {
		return nil
	}
	w.start(a)
	return a
}

// stop ends an allocation. The runner says when it is gone.
func (w *Work) stop(id AllocationID, c *claim, reason string) {
	a := w.allocs[id]
	if a == nil {
		a = w.make(id, c)
	}
	w.enter(a, WorkState{State: AllocStopping, Reason: reason, Ports: a.state.Ports})
	a.fenced, a.again, a.moves = false, false, false
	w.out.emit(Stop{ID: id, Reason: reason})
}

// verdict is what a WorkChanged means.
type verdict uint8

const (
	workNoted   verdict = iota
	workRunning         // it runs
	workGone            // a stop is complete
	workExited          // it ended and will be restarted
	workFailed          // it ended once too often
	workFenced          // it ended for want of a lease, and waits for another
	workAgain           // it ended because a person begins it anew
)

// changed takes news of the runner.
func (w *Work) changed(id AllocationID, s WorkState) (*alloc, verdict) {
	a := w.allocs[id]
	if a == nil {
		return nil, workNoted
	}
	s.Reason = readable(s.Reason) // may be what a program said
	ended := s.State == AllocStopped || s.State == AllocFailed
	switch {
	case a.state.State == AllocStopping && !ended:
	case a.again && s.State == AllocStopped:
		w.beginAnew(a, s)
		return a, workAgain
	case (a.fenced || a.again) && s.State != AllocStopped: // its own end comes before the answer to the Stop, which would be taken for that of the next one
	case a.fenced, ended && a.up() && w.lapsed(id, s.Fenced):
		if a.fenced {
			w.lapsed(id, s.Fenced)
		}
		a.fenced = false
		w.enter(a, WorkState{State: AllocPending, Reason: "waits for its lease: the last one ended"})
		return a, workFenced
	case a.state.State == AllocStopping:
		delete(w.allocs, id)
		w.noteCalls(a)
		w.timers.cancel(timerRestart, id.String())
		return a, workGone
	case s.State == AllocRunning:
		w.enter(a, s)
		return a, workRunning
	case ended && a.up():
		return a, w.exited(a, s)
	case !ended:
		w.enter(a, s)
	}
	return a, workNoted
}

// running is the slots of a claim that run.
func (w *Work) running(c *claim) Slots {
	s := Slots{}
	for n := range c.Slots.All() {
		if w.runs(AllocationID{c.ID, n}) {
			s = s.Add(n)
		}
	}
	return s
}

// unhealthy is the slots of a claim that run and whose checks fail.
func (w *Work) unhealthy(c *claim) Slots {
	s := Slots{}
	for n := range c.Slots.All() {
		if a := w.allocs[AllocationID{c.ID, n}]; a != nil && a.state.State == AllocUnhealthy {
			s = s.Add(n)
		}
	}
	return s
}

// fresh is the slots of a claim that run, but not for so long yet, and when the
// first of them has.
func (w *Work) fresh(c *claim, least time.Duration) (fresh Slots, next time.Duration) {
	for n := range c.Slots.All() {
		id := AllocationID{c.ID, n}
		if !w.runs(id) {
			continue
		}
		if at := w.allocs[id].healthy + least; at > w.out.now.Mono {
			if fresh = fresh.Add(n); next == 0 || at < next {
				next = at
			}
		}
	}
	return fresh, next
}

// why is what the first slot of a claim that does not run says of that.
func (w *Work) why(c *claim) string {
	for n := range c.Slots.All() {
		if a := w.allocs[AllocationID{c.ID, n}]; a != nil && a.state.State != AllocRunning && a.state.Reason != "" {
			return clip(fmt.Sprintf("slot %d: %s", n, a.state.Reason))
		}
	}
	return ""
}

// runs says whether an allocation runs and, where that is checked, works.
func (w *Work) runs(id AllocationID) bool {
	a := w.allocs[id]
	return a != nil && a.state.State == AllocRunning
}

func (w *Work) sorted() []*alloc {
	out := slices.Collect(maps.Values(w.allocs))
	sortAllocs(out)
	return out
}

func sortAllocs(as []*alloc) {
	slices.SortFunc(as, func(a, b *alloc) int { return a.id.compare(b.id) })
}
