package placement

import (
	"cmp"
	"container/heap"
	"time"
)

// timerKind says which part of the core a timer wakes.
type timerKind uint8

const (
	timerSteward timerKind = iota + 1
	timerReport
	timerSummary
	timerClaim
	timerRestart
	timerSubmit
	timerRoles
	timerRefresh
	timerStore
	timerLease
)

type timerKey struct {
	kind timerKind
	id   string
}

type timerEntry struct {
	key timerKey
	at  time.Duration
}

// timers are the deadlines inside one core. The world sees a single Timer,
// "wake", set to the earliest.
type timers struct {
	at   map[timerKey]time.Duration
	heap timerHeap
	told int64 // the At of the last Timer effect
}

// wakeTimer is the key of the one Timer that a core sets.
const wakeTimer = "wake"

func newTimers() *timers { return &timers{at: map[timerKey]time.Duration{}} }

// set moves a deadline, earlier or later.
func (t *timers) set(kind timerKind, id string, at time.Duration) {
	key := timerKey{kind, id}
	if old, ok := t.at[key]; ok && old == at {
		return
	}
	t.at[key] = at
	heap.Push(&t.heap, timerEntry{key, at})
}

// before moves a deadline earlier, never later.
func (t *timers) before(kind timerKind, id string, at time.Duration) {
	if old, ok := t.at[timerKey{kind, id}]; !ok || at < old {
		t.set(kind, id, at)
	}
}

func (t *timers) cancel(kind timerKind, id string) { delete(t.at, timerKey{kind, id}) }

// due takes the next deadline that has passed.
func (t *timers) due(now time.Duration) (timerKey, bool) {
	t.tidy()
	if len(t.heap) == 0 || t.heap[0].at > now {
		return timerKey{}, false
	}
	e := heap.Pop(&t.heap).(timerEntry)
	delete(t.at, e.key)
	return e.key, true
}

// tidy drops entries that were moved or cancelled.
func (t *timers) tidy() {
	for len(t.heap) > 0 {
		if at, ok := t.at[t.heap[0].key]; ok && at == t.heap[0].at {
			return
		}
		heap.Pop(&t.heap)
	}
}

// wake is the Timer effect that is wanted now, if it differs from the last. One
// whose time has come was used up, even if the next is for the same instant.
func (t *timers) wake(now time.Duration) (Timer, bool) {
	t.tidy()
	if t.told <= int64(now) {
		t.told = 0
	}
	at := int64(0)
	if len(t.heap) > 0 {
		at = max(1, int64(t.heap[0].at))
	}
	if at == t.told {
		return Timer{}, false
	}
	t.told = at
	return Timer{Key: wakeTimer, At: at}, true
}

type timerHeap []timerEntry

func (h timerHeap) Len() int { return len(h) }
func (h timerHeap) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[i].at, h[j].at), cmp.Compare(h[i].key.kind, h[j].key.kind),
		cmp.Compare(h[i].key.id, h[j].key.id)) < 0
}
func (h timerHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

func (h *timerHeap) Push(x any) { *h = append(*h, x.(timerEntry)) }

func (h *timerHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}
