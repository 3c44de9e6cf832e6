package gossip

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// memberlist has each peer probed by chance, now and then by nobody for seconds. So
// each peer also looks after one other, the next one alive by id, and tells of its own
// suspicion: what a death waits for at worst is that, and not the tail of the chance.
const (
	watchEvery = 2 * probeInterval
	watchWait  = probeTimeout // for the first answer; then it is asked by way of others, too
	watchFrom  = 4            // peers; fewer probe each other often enough
)

func (g *Gossip) watch(ctx context.Context) {
	var called sync.WaitGroup
	defer called.Wait()
	if !pause(ctx, g.jitter(2*watchEvery)) { // peers that start together do not ask together
		return
	}
	for g.pause(ctx, watchEvery-watchWait) {
		q, ok := g.neighbour()
		if !ok {
			continue
		}
		g.ask(q)
		if !g.pause(ctx, watchWait) {
			return
		}
		if g.again(&q) {
			g.ask(q)
			called.Go(func() { g.call(ctx, q) }) // datagrams alone accuse nobody
			if !g.pause(ctx, askWait) {
				return
			}
		}
		if incarnation, silent := g.unwatch(); silent {
			g.net.inject(memberlistWord(suspectMsg, q.peer, g.cfg.Self, incarnation))
		}
	}
}

// neighbour picks whom to look after, and begins to wait for its answer.
func (g *Gossip) neighbour() (q question, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.states[StateAlive]+1 < watchFrom {
		return question{}, false
	}
	next, first := "", ""
	for id, p := range g.peers {
		if p.state != StateAlive {
			continue
		}
		if first == "" || id < first {
			first = id
		}
		if id > g.cfg.Self && (next == "" || id < next) {
			next = id
		}
	}
	if next == "" {
		next = first
	}
	g.watched, g.watching = rand.Uint32(), g.peers[next]
	return question{peer: next, seq: g.watched}, true
}

// again is whether it is to be asked once more, by way of others and a stream, too.
func (g *Gossip) again(q *question) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.watching == nil {
		return false
	}
	q.relays = g.relays(g.watching, indirectChecks)
	return true
}

// unwatch ends the waiting, and says whether there was no answer from who is still
// held alive. A peer that reads its own answers late keeps it to itself.
func (g *Gossip) unwatch() (incarnation uint32, silent bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.watching
	g.watching = nil
	if p == nil || p.state != StateAlive || !g.late.accuses(time.Now()) {
		return 0, false
	}
	return uint32(p.incarnation), true
}
