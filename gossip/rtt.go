package gossip

import (
	"time"

	"github.com/hansa-mesh/hansa/gossip/coords"
)

// notifyPing takes a direct probe's answer.
func (g *Gossip) notifyPing(id string, probed time.Duration, payload []byte) {
	now := time.Now()
	g.mu.Lock()
	p, ok := g.peers[id]
	if !ok {
		g.mu.Unlock()
		return
	}
	p.heard = now
	p.probes++
	g.sawSum(p, payload, now)
	payload = payload[:min(len(payload), coords.Bytes)]
	rtt, measured := g.cfg.RTT(id)
	if !measured {
		if p.probes == 1 { // contains the handshake
			g.mu.Unlock()
			return
		}
		rtt = probed
	}
	p.probeRTT = rtt
	g.mu.Unlock()
	g.coords.Observe(id, payload, rtt)
}

// RTT estimates the round trip between two peers: measured if one is this
// peer and there is a measurement (confidence 1), else by coordinates, which
// need some minutes to be useful.
func (g *Gossip) RTT(a, b string) (rtt time.Duration, confidence float64, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.rtt(a, b)
}

func (g *Gossip) rtt(a, b string) (time.Duration, float64, bool) {
	if a == b {
		return 0, 1, true
	}
	if b == g.cfg.Self {
		a, b = b, a
	}
	if a != g.cfg.Self {
		return g.coords.Distance(a, b)
	}
	if rtt, ok := g.cfg.RTT(b); ok {
		return rtt, 1, true
	}
	if p, ok := g.peers[b]; ok && p.probeRTT > 0 && p.reachable() {
		return p.probeRTT, 1, true
	}
	return g.coords.Distance("", b)
}
