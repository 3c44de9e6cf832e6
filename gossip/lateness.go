package gossip

import (
	"context"
	"math"
	"time"
)

// lateness is how late this peer's own turns came of late. Where a machine has too much to
// do, the answers are there and nobody has read them; and whatever it asks makes it later
// still, which is how many peers that share one bring each other down. So a late peer
// waits longer for its answers, asks less, and accuses nobody. A peer that looks to
// itself first is the better judge of others (Dadgar et al., "Lifeguard", DSN-W 2018).
//
// Suspicions that prove false say the same of the mesh, or of the network: each counts as
// some lateness of this peer, up to a limit.
type lateness struct {
	most   time.Duration
	at     time.Time // when it was that
	alarms float64   // false ones, of which a part is forgotten as time passes
	rang   time.Time // when it was so many

	// How long suspects took to answer, as TCP estimates it (RFC 6298), and when
	// the last one did.
	mean, spread time.Duration
	heard        time.Time
}

const (
	lagMost  = 500 * time.Millisecond
	lagFades = 4 // what it was is forgotten at a quarter of the time that passes
	lagTurns = 4 // its turns are longer by as many times what it is

	// Within this peer a question and its answer go through so many hands, each of which
	// may come as late as the turns do.
	lagHands = 12

	alarmLag   = 2 * time.Millisecond
	alarmsMost = 50
	alarmFades = 10 * time.Second // until all but 1/e of them are forgotten

	answersFade = 30 * time.Second // without another one
	waitMost    = 5 * time.Second  // for answers that take long; a peer that is late itself may wait longer
)

func (l *lateness) note(now time.Time, late time.Duration) {
	l.most, l.at = min(max(l.own(now), late), lagMost), now
}

func (l *lateness) own(now time.Time) time.Duration {
	return max(0, l.most-now.Sub(l.at)/lagFades)
}

func (l *lateness) falseAlarm(now time.Time) {
	l.alarms, l.rang = l.ringing(now)+1, now
}

func (l *lateness) ringing(now time.Time) float64 {
	return l.alarms * math.Exp(-now.Sub(l.rang).Seconds()/alarmFades.Seconds())
}

func (l *lateness) now(now time.Time) time.Duration {
	return max(l.own(now), time.Duration(min(l.ringing(now), alarmsMost)*float64(alarmLag)))
}

// answered notes how long a suspect took to answer, from when it was asked first.
func (l *lateness) answered(now time.Time, took time.Duration) {
	took = min(took, waitMost)
	if now.Sub(l.heard) > answersFade {
		l.mean, l.spread = took, took/2
	} else {
		l.spread += (max(l.mean-took, took-l.mean) - l.spread) / 4
		l.mean += (took - l.mean) / 8
	}
	l.heard = now
}

// wait is how long an answer to the last question may take.
func (l *lateness) wait(now time.Time) time.Duration {
	wait := askWait + lagHands*l.now(now)
	if now.Sub(l.heard) <= answersFade {
		wait = max(wait, min(l.mean+4*l.spread, waitMost))
	}
	return wait
}

// doubt is how long a word of a suspicion may wait for a refutation, before this peer asks.
func (l *lateness) doubt(now time.Time) time.Duration { return min(lagHands*l.now(now), askLate) }

// asks is how many peers are asked in a turn.
func (l *lateness) asks(now time.Time) int {
	return max(1, int(asksMax*askTurn/(askTurn+lagHands*l.now(now))))
}

// turn is how long it is from one turn of asking to the next.
func (l *lateness) turn(now time.Time) time.Duration { return askTurn + lagTurns*l.now(now) }

// accuses is whether this peer trusts itself to say that another is silent.
func (l *lateness) accuses(now time.Time) bool { return l.now(now) < askTurn }

// pause waits, and notes how late it was over.
func (g *Gossip) pause(ctx context.Context, d time.Duration) bool {
	due := time.Now().Add(d)
	if !pause(ctx, d) {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.late.note(now, now.Sub(due))
	return true
}
