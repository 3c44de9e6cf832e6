package gossip

import (
	"context"
	"errors"
	"time"

	"github.com/hansa-mesh/hansa/gossip/table"
)

// When tables are exchanged: at once with a peer that came back or that holds
// what is missing; with a peer that told of other tables and still did two
// seconds later; and now and then with anybody, since hashes are hearsay, and
// tell little while tables change all the time. One exchange at a time is begun from here.
const (
	syncLook     = 250 * time.Millisecond
	syncMeet     = 50 * time.Millisecond // for each peer of the mesh, the spread of those who meet one that came back
	syncMeetMax  = 10 * time.Second
	syncDiffer   = 2 * time.Second
	syncRetry    = time.Second
	syncRetryMax = 30 * time.Second
)

// meet asks for an exchange with a peer that has just become alive. Both sides
// see the other one come: the one with the lesser id goes first, and the other
// finds nothing left to do. The caller holds mu.
func (g *Gossip) meet(p *peer) {
	delay := g.jitter(min(syncMeet*time.Duration(g.size.Load()+1), syncMeetMax))
	if p.id < g.cfg.Self {
		delay += time.Second
	}
	p.syncAt, p.syncTries = time.Now().Add(delay), 0
	poke(g.toSync)
}

func (g *Gossip) synchronise(ctx context.Context) {
	if g.cfg.OpenSync == nil || len(g.tables) == 0 {
		return
	}
	for next := time.Now(); rest(ctx, g.jitter(syncLook), next, g.toSync); {
		for ctx.Err() == nil {
			var id string
			var ok bool
			if id, next, ok = g.nextToSync(time.Now()); !ok {
				break
			}
			equal, err := g.syncWith(ctx, id)
			if err != nil && ctx.Err() == nil {
				g.cfg.Logger.Debug("tables not exchanged", "peer", id, "error", err)
			}
			g.afterSync(id, equal, err)
		}
	}
}

// nextToSync picks whom to exchange with now, nearest first among those that
// are asked for; and if there is nobody, when to look again unless something
// happens before.
func (g *Gossip) nextToSync(now time.Time) (id string, next time.Time, ok bool) {
	hash := g.hash()
	g.mu.Lock()
	defer g.mu.Unlock()
	var best *peer
	var bestRTT time.Duration
	next = now.Add(restMax)
	spread := hashSpread(len(g.peers))
	for id, p := range g.peers {
		if p.state != StateAlive {
			continue
		}
		if p.tables.known && p.tables.hash == hash {
			p.syncAt, p.syncTries, p.differsSince = time.Time{}, 0, time.Time{}
			continue
		}
		if p.differsSince.IsZero() {
			p.differsSince = now
		}
		if p.syncAt.IsZero() {
			ripe := later(p.tables.at, p.since).Add(syncDiffer)
			if spread > 0 { // it may have what changed here, and not have told yet
				ripe = earlier(later(ripe, g.hashAt.Add(syncDiffer+spread)), p.differsSince.Add(syncDiffer+2*spread))
			}
			if !ripe.Before(now) {
				next = earlier(next, ripe)
				continue
			}
			p.syncAt = now.Add(g.jitter(syncDiffer))
		}
		if p.syncAt.After(now) {
			next = earlier(next, p.syncAt)
			continue
		}
		rtt, _, known := g.rtt(g.cfg.Self, id)
		if !known {
			rtt = time.Hour
		}
		if best == nil || rtt < bestRTT {
			best, bestRTT = p, rtt
		}
	}
	if best == nil && now.After(g.checkAt) {
		if !g.checkAt.IsZero() {
			best = g.anyAlive()
		}
		if g.states[StateAlive] > 0 {
			g.checkAt = now.Add(g.jitter(g.cfg.SyncInterval))
		}
	}
	if best == nil {
		return "", next, false
	}
	return best.id, now, true
}

// anyAlive is one that is alive, at random; nil if nobody is. The caller holds mu.
func (g *Gossip) anyAlive() *peer {
	for _, p := range g.sample(1, isAlive) {
		return p
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// syncWith exchanges all tables, on one stream, and reports whether they were
// equal when each was done. A table that fails ends the stream, as what comes
// next on it is unknown; those that follow get another, so that one table that
// the two can't agree on keeps no other from agreeing.
func (g *Gossip) syncWith(ctx context.Context, id string) (equal bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	equal = true
	var failed []error
	for todo := g.order; len(todo) > 0 && ctx.Err() == nil; {
		rw, err := g.cfg.OpenSync(ctx, id)
		if err != nil {
			g.noteSync(table.SyncStats{}, err)
			failed = append(failed, err)
			break
		}
		g.noteStream()
		for err == nil && len(todo) > 0 {
			var stats table.SyncStats
			stats, err = todo[0].replica.Sync(ctx, rw)
			g.noteSync(stats, err)
			equal = equal && stats.EqualAfterwards
			todo = todo[1:]
		}
		_ = rw.Close()
		failed = append(failed, err)
	}
	g.settleMissing(id)
	err = errors.Join(failed...)
	return equal && err == nil, err
}

// afterSync notes what was found out about the peer's tables, and when to look
// again.
func (g *Gossip) afterSync(id string, equal bool, err error) {
	hash := g.hash()
	g.mu.Lock()
	defer g.mu.Unlock()
	p, ok := g.peers[id]
	if !ok {
		return
	}
	now := time.Now()
	if err == nil {
		p.syncAt, p.syncTries = time.Time{}, 0
		p.tables.at = now
		if equal {
			p.tables.known, p.tables.hash = true, hash
		}
		return
	}
	p.syncTries = min(p.syncTries+1, 10)
	p.syncAt = now.Add(g.jitter(min(syncRetry<<p.syncTries, syncRetryMax)))
}
