package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/gossip"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport"
)

// methodRTT asks a peer how far it is from others. With none it is a ping.
const methodRTT = "rtt/1"

const (
	// probeMax is how long a peer takes at most to measure on another's behalf: who
	// asks waits for a second, and has a round trip to go.
	probeMax = 700 * time.Millisecond
	// probeAgain is how soon a peer is probed again that did not answer, whoever asks.
	probeAgain = 30 * time.Second
	// probesMax bounds the probes at once.
	probesMax = 32
	// rttMost is beyond any round trip, in microseconds.
	rttMost = int64(time.Hour / time.Microsecond)
	// measureRounds bounds how often a plan on trial is made anew.
	measureRounds = 3
)

type rttQuery struct {
	To    []string `json:"to,omitempty"`
	Probe int      `json:"probe,omitempty"`
}

// rttAnswer is the round trip to each in microseconds, or -1.
type rttAnswer struct {
	RTT []int64 `json:"rtt,omitempty"`
}

func (n *Node) serveRTTs() {
	transport.HandleTyped(n.link, methodRTT, func(ctx context.Context, _ string, q rttQuery) (rttAnswer, error) {
		if len(q.To) > placement.MeasureMax {
			return rttAnswer{}, &transport.Error{Kind: transport.KindTooLarge,
				Msg: fmt.Sprintf("the round trips to %d peers, at most %d", len(q.To), placement.MeasureMax)}
		}
		return rttAnswer{n.rulers.measure(ctx, q.To, q.Probe)}, nil
	})
}

// rulers measures how far this peer is from others.
type rulers struct {
	known  func(peer string) (time.Duration, bool) // as it was measured lately
	lives  func() map[string]bool
	ping   func(ctx context.Context, peer string) error // after it, known knows
	probes chan struct{}                                // one for each under way

	mu     sync.Mutex           // guards what follows
	probed map[string]time.Time // when a peer was last, of those that live
}

func (n *Node) newRulers() *rulers {
	return &rulers{
		known: func(peer string) (time.Duration, bool) {
			rtt, confidence, ok := n.gossip.RTT(n.id.ID(), peer)
			return rtt, ok && confidence == 1 // less is by coordinates
		},
		lives: func() map[string]bool {
			lives := map[string]bool{}
			for _, m := range n.gossip.Members() {
				lives[m.Peer] = m.State == gossip.StateAlive
			}
			return lives
		},
		ping: func(ctx context.Context, peer string) error {
			_, err := transport.CallTyped[rttQuery, rttAnswer](ctx, n.link, peer, methodRTT, rttQuery{})
			return err
		},
		probes: make(chan struct{}, probesMax), probed: map[string]time.Time{},
	}
}

// measure is the round trip to each peer in microseconds, -1 where it is not known.
// Of those that were not measured lately the first few are probed.
func (r *rulers) measure(ctx context.Context, to []string, probe int) []int64 {
	ctx, cancel := context.WithTimeout(ctx, probeMax)
	defer cancel()
	out := make([]int64, len(to))
	var lives map[string]bool
	var pings sync.WaitGroup
	left := min(probe, placement.MeasureProbes)
	for i, peer := range to {
		out[i] = -1
		if rtt, ok := r.known(peer); ok {
			out[i] = rtt.Microseconds()
			continue
		}
		if left <= 0 {
			continue
		}
		if lives == nil {
			lives = r.lives()
		}
		if !r.mayProbe(peer, lives) {
			continue
		}
		left--
		pings.Go(func() {
			defer func() { <-r.probes }()
			if err := r.ping(ctx, peer); err != nil {
				return // it is not known how far it is, then
			}
			if rtt, ok := r.known(peer); ok {
				out[i] = rtt.Microseconds()
			}
		})
	}
	pings.Wait()
	return out
}

// mayProbe says whether a peer may be probed now, and takes one of the probes for it.
func (r *rulers) mayProbe(peer string, lives map[string]bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !lives[peer] || time.Since(r.probed[peer]) < probeAgain {
		return false
	}
	select {
	case r.probes <- struct{}{}:
	default:
		return false
	}
	if len(r.probed) > 2*len(lives) { // of those that are gone
		clear(r.probed)
	}
	r.probed[peer] = time.Now()
	return true
}

// startMeasure carries out a Measure, and gives the core the answer.
func (n *Node) startMeasure(e placement.Measure) {
	n.work.Go(func() { n.measure(n.ctx, e) })
}

// measure asks whoever is to measure, this peer itself perhaps.
func (n *Node) measure(ctx context.Context, e placement.Measure) {
	ctx, cancel := context.WithTimeout(ctx, queryMax)
	defer cancel()
	q := rttQuery{Probe: e.Probe}
	for _, id := range e.To {
		q.To = append(q.To, string(id))
	}
	a := rttAnswer{}
	if e.From == n.self().Peer {
		a.RTT = n.rulers.measure(ctx, q.To, q.Probe)
	} else {
		var err error
		if a, err = transport.CallTyped[rttQuery, rttAnswer](ctx, n.link, string(e.From), methodRTT, q); err != nil {
			n.log.Debug("a peer did not say how far it is from others", "peer", string(e.From), "err", err)
		}
	}
	ev := placement.Measured{From: e.From, To: e.To}
	for _, rtt := range a.RTT[:min(len(a.RTT), len(e.To))] {
		d := time.Duration(-1)
		if rtt >= 0 && rtt < rttMost {
			d = time.Duration(rtt) * time.Microsecond
		}
		ev.RTT = append(ev.RTT, d)
	}
	n.loop.post(ev)
}

// measuredFor has the distances measured that a plan of an app turns on, as its
// steward would: so that what a person is shown is no other choice.
func (n *Node) measuredFor(ctx context.Context, app placement.App, sizes []placement.Artifact) error {
	near := false
	for _, c := range app.Components {
		near = near || c.Place.Near != nil
	}
	for range measureRounds { // one may be near another that is near a third
		if !near {
			return nil
		}
		var asks []placement.Measure
		if err := n.loop.look(ctx, func(core *placement.Peer) { asks = core.PlanFor(n.loop.now(), app, sizes...).Measure }); err != nil {
			return err
		}
		near = len(asks) > 0
		var all sync.WaitGroup
		for _, e := range asks {
			all.Go(func() { n.measure(ctx, e) })
		}
		all.Wait()
	}
	return nil
}
