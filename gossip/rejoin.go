package gossip

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Peers that are not alive are tried for ever, from this peer's own list
// (memberlist forgets its dead). One success is enough for a whole cut-off
// side: states are exchanged, and who hears that it was called dead refutes.
const (
	joinFirst  = 500 * time.Millisecond
	joinCapMin = 5 * time.Second
	joinCapMax = 15 * time.Second
	joinCapPer = 250 * time.Millisecond // of each dead peer
	joinEvery  = 250 * time.Millisecond
	joinsMax   = 4 // at once
	joinsStart = 2 // begun each joinEvery, so that a large cut costs no storm

	// compareAfter somebody came, members are compared with one random peer:
	// when many come at once (power returned, a cut healed), gossip loses some
	// of it, and memberlist's own comparisons are minutes apart in a large mesh.
	compareAfter = 4 * time.Second
)

// joinCap is the longest time between two tries of one peer: 5 s up to 20 dead
// peers, 15 s from 60 on.
func joinCap(dead int) time.Duration {
	return min(max(joinCapMin, time.Duration(dead)*joinCapPer), joinCapMax)
}

func (g *Gossip) addSeeds(seeds []Seed) {
	for _, s := range seeds {
		if s.ID == g.cfg.Self {
			continue
		}
		g.mu.Lock()
		p, _, err := g.admit(s.ID)
		if err == nil && p.sealed == nil && s.Addr != "" {
			p.addr = s.Addr
			g.cfg.Learn(s.ID, s.Addr)
		}
		g.mu.Unlock()
		if err != nil {
			g.cfg.Logger.Debug("seed left out", "error", err)
		}
	}
}

// Join adds peers to the list and tries them now; nil if one of them answered.
// Those that did not are tried again for ever.
func (g *Gossip) Join(ctx context.Context, seeds []Seed) error {
	g.addSeeds(seeds)
	var last error
	for _, s := range seeds {
		if s.ID == g.cfg.Self {
			continue
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("join: %w", err)
		}
		if err := g.contact(s.ID); err != nil {
			last = err
			continue
		}
		return nil
	}
	if last != nil {
		return fmt.Errorf("join: %w", last)
	}
	return nil
}

// contact exchanges membership with one peer.
func (g *Gossip) contact(id string) error {
	g.mu.Lock()
	ml := g.ml
	g.mu.Unlock()
	if ml == nil {
		return ErrNotRunning
	}
	_, err := ml.Join([]string{id + "/" + placeholderAddr})
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stats.Joins++
	p, ok := g.peers[id]
	if err != nil {
		g.stats.JoinsFailed++
	}
	if ok && err == nil {
		g.answered(p) // and heard what it is accused of
	}
	if ok {
		p.joining = false
		p.joinTries++
		wait := joinCap(g.dead())
		if p.joinTries < 5 {
			wait = min(wait, joinFirst<<p.joinTries)
		}
		p.joinAt = time.Now().Add(g.jitter(wait))
		poke(g.toJoin)
	}
	return err
}

func (g *Gossip) dead() (n int) {
	for _, p := range g.peers {
		if !p.reachable() {
			n++
		}
	}
	return n
}

func (g *Gossip) rejoin(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, joinsMax)
	for {
		due, next := g.dueToJoin(time.Now(), min(joinsStart, joinsMax-len(slots)))
		for _, id := range due {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				if err := g.contact(id); err != nil && ctx.Err() == nil {
					g.cfg.Logger.Debug("peer does not answer", "peer", id, "error", err)
				}
			})
		}
		g.mu.Lock()
		late := g.late.doubt(time.Now())
		g.mu.Unlock()
		if !rest(ctx, g.jitter(joinEvery+2*late), next, g.toJoin) {
			return
		}
	}
}

// dueToJoin picks the peers that have waited longest, and marks them; before
// them one that is alive, if members are to be compared. And when to look again,
// unless something happens before.
func (g *Gossip) dueToJoin(now time.Time, limit int) (out []string, next time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	next = now.Add(restMax)
	if g.meta.Leaving {
		return nil, next
	}
	due := g.awaited(now, &next)
	if !g.compareAt.IsZero() && now.After(g.compareAt) && limit > 0 {
		p := g.compareWith
		if p == nil || p.state != StateAlive {
			p = g.anyAlive()
		}
		g.compareAt, g.compareWith = time.Time{}, nil
		if p != nil && !p.joining {
			p.joining = true
			out = append(out, p.id)
			limit--
		}
	}
	if !g.compareAt.IsZero() {
		next = earlier(next, g.compareAt)
	}
	taken := min(max(limit, 0), len(due))
	for _, p := range due[:taken] {
		p.joining = true
		out = append(out, p.id)
	}
	if taken < len(due) {
		next = now
	}
	return out, next
}

// awaited is the peers that are not alive and to be tried now, longest waiting first.
// The caller holds mu.
func (g *Gossip) awaited(now time.Time, next *time.Time) (due []*peer) {
	if g.states[StateAlive] == len(g.peers) {
		return nil
	}
	for _, p := range g.peers {
		switch {
		case p.joining || p.reachable() && !p.inquiry.verdict:
		case p.joinAt.After(now):
			*next = earlier(*next, p.joinAt)
		default:
			due = append(due, p)
		}
	}
	slices.SortFunc(due, func(a, b *peer) int { return a.joinAt.Compare(b.joinAt) })
	return due
}
