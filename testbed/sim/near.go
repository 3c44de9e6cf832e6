package sim

import (
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// nearName is the component that is to be near another, or a site.
const nearName = "edge"

// addNear gives an app a component that is to be near another one of it, or a site
// that is known or not. It has no limit: where there is none so near, nothing settles.
func (w *world) addNear(app placement.App, rng *rand.Rand) {
	near := &placement.Near{Site: string(w.peers[rng.IntN(len(w.peers))].site)}
	if names := app.ComponentNames(); rng.IntN(3) > 0 {
		near = &placement.Near{Component: names[rng.IntN(len(names))]}
	}
	n := 1 + rng.IntN(3)
	app.Components[nearName] = placement.Component{
		Server: &placement.Server{Process: &placement.Process{Command: []string{"edge"}}}, Replicas: &n,
		Resources: placement.Resources{CPU: 100, Memory: 32 << 20},
		Place:     placement.Place{Near: near, Spread: []string{"", "site"}[rng.IntN(2)]},
	}
}

// farMax is the farthest that peers say they are from others.
const farMax = 200 * time.Millisecond

// measure asks another peer how far it is from others. It may say nothing, or answer
// late, or only of some.
func (p *peer) measure(e placement.Measure) {
	w := p.w
	w.oracle.stats.Measured++
	to := w.byID[e.From]
	w.carry(p, to, func() {
		ev := placement.Measured{From: e.From, To: slices.Clone(e.To)}
		for range e.To {
			rtt := w.between(0, farMax)
			if w.rng.IntN(4) == 0 {
				rtt = -1
			}
			ev.RTT = append(ev.RTT, rtt)
		}
		w.carry(to, p, func() { p.step(ev) })
	})
}
