package sim

import (
	"container/heap"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// epoch is when a simulation begins, by the wall clock of a peer without skew.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// world is one simulated mesh. Everything that happens is a function in one
// heap, ordered by time and then by the order in which it was planned.
type world struct {
	plan    Plan
	seed    uint64
	rng     *rand.Rand
	now     time.Duration
	queue   queue
	count   uint64
	steps   int
	instant int // things that happened at this time
	trace   io.Writer

	peers          []*peer
	byID           map[placement.PeerID]*peer
	cut            map[[2]placement.PeerID]bool // from, to
	etags          map[placement.AppKey]string  // seen some time ago
	calm           bool                         // faults are over
	forgot         bool                         // a disk was lost for good
	crashAt        crashPoint
	written        []int // batches of each write so far
	died           bool  // a peer, for good
	lost, amnesias int   // peers that are gone for good, and disks
	oracle         *oracle
	failed         []string
	thawed         time.Duration // when the last machine goes on that was suspended as all healed
	report         Report        // once it is over
}

type event struct {
	at  time.Duration
	seq uint64
	run func()
}

type queue []event

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].seq < q[j].seq
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(event)) }
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = event{}
	*q = old[:len(old)-1]
	return e
}

// instantMax is how much may happen without time passing.
const instantMax = 10_000

// after plans a function.
func (w *world) after(d time.Duration, run func()) {
	w.count++
	heap.Push(&w.queue, event{w.now + d, w.count, run})
}

// until runs everything that is due before a time, or until something fails.
func (w *world) until(end time.Duration) {
	for len(w.queue) > 0 && w.queue[0].at <= end && len(w.failed) == 0 {
		e := heap.Pop(&w.queue).(event)
		if w.instant++; e.at > w.now {
			w.instant = 0
		}
		w.now = e.at
		w.steps++
		e.run()
		if w.instant > instantMax {
			w.fail("%d things happened in one instant: this never ends", w.instant)
		}
	}
	w.now = max(w.now, end)
}

// between is a random time in [lo, hi).
func (w *world) between(lo, hi time.Duration) time.Duration {
	if hi <= lo {
		return lo
	}
	return lo + time.Duration(w.rng.Int64N(int64(hi-lo)))
}

func (w *world) chance(p float64) bool { return w.rng.Float64() < p }

// fail records that an invariant does not hold.
func (w *world) fail(format string, args ...any) {
	msg := fmt.Sprintf("%9.3f ", w.now.Seconds()) + fmt.Sprintf(format, args...)
	w.failed = append(w.failed, msg)
	w.tell(nil, "FAILED", "", msg)
}

// tell writes one line of the trace.
func (w *world) tell(p *peer, what, id, detail string) {
	if w.trace == nil {
		return
	}
	site, name := "-", "-"
	if p != nil {
		site, name = string(p.site), string(p.id)
	}
	fmt.Fprintf(w.trace, "%10.4f %-4s %-4s %-12s %-28s %s\n", w.now.Seconds(), site, name, what, id, detail)
}
