package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// request is a person at work: deploys, edits, removals, at a peer or, when that
// is down, at the next one that is up.
func (w *world) request(p *peer, rng *rand.Rand) {
	up := w.up()
	if len(up) == 0 {
		return
	}
	if !slices.Contains(up, p) {
		p = up[rng.IntN(len(up))]
	}
	o := w.oracle
	o.stats.Requests++
	if w.plan.Images {
		if own := rand.New(rand.NewPCG(rng.Uint64(), 8)); own.IntN(3) == 0 {
			w.requestImage(p, own)
			return
		}
	}
	name := fmt.Sprintf("app%d", rng.IntN(4))
	key := placement.AppKey{Namespace: "default", App: name}
	if rng.Float64() < 0.15 {
		w.remove(p, key)
		return
	}
	app, artifacts := draw(name, rng)
	if w.plan.Exclusive {
		addExclusive(app, rng)
	}
	if w.plan.Volumes {
		addVolumes(app, rand.New(rand.NewPCG(rng.Uint64(), 5)))
	}
	if w.plan.GPUs {
		addGPUs(app, rand.New(rand.NewPCG(rng.Uint64(), 7)))
	}
	if w.plan.Pins {
		artifacts = append(artifacts, addPinned(app, rand.New(rand.NewPCG(rng.Uint64(), 9))))
	}
	if w.plan.Near {
		w.addNear(app, rand.New(rand.NewPCG(rng.Uint64(), 11)))
	}
	if w.plan.Archs {
		withArch(app, rand.New(rand.NewPCG(rng.Uint64(), 6)))
	}
	if w.plan.Policies {
		withPolicies(app, rand.New(rand.NewPCG(rng.Uint64(), 4)))
	}
	withUpdates(app, rand.New(rand.NewPCG(rng.Uint64(), 5)))
	ev := placement.Submit{App: app, Artifacts: artifacts}
	switch rng.IntN(10) {
	case 0:
		ev.IfNoneMatch = true
	case 1, 2, 3: // what was seen last at any peer, old or not
		if ev.IfMatch = w.etags[key]; ev.IfMatch == "" {
			ev.IfMatch = "*"
		}
	case 4:
		ev.MinCopies = 1 + rng.IntN(copiesMax+1)
	case 5, 6, 7: // a person who tries again, here or at another peer
		ev.IdempotencyKey = fmt.Sprint("key", rng.Uint64())
	}
	if v, ok := p.core.App(key); ok && rng.Float64() < 0.7 {
		w.etags[key] = v.ETag
	}
	w.submit(p, ev)
	if ev.IdempotencyKey != "" {
		w.after(time.Duration(rng.Int64N(int64(4*time.Second))), func() {
			if up := w.up(); len(up) > 0 && !w.calm {
				w.submit(up[rng.IntN(len(up))], ev)
			}
		})
	}
}

func (w *world) remove(p *peer, key placement.AppKey) {
	o := w.oracle
	o.ticket++
	o.asked[o.ticket] = &request{at: p, key: key, remove: true, since: o.w.now}
	for _, q := range w.up() {
		for _, i := range q.core.Siblings(key) {
			o.removed[i.UID] = true
		}
	}
	w.tell(p, "remove", key.String(), "")
	ticket := o.ticket
	p.step(placement.Remove{Ticket: ticket, Key: key})
	w.unanswered(p, ticket)
}

// copiesMax is how many keepers an app has at most; an exclusive one may have one
// more.
const copiesMax = 3

func (w *world) submit(p *peer, ev placement.Submit) {
	o := w.oracle
	o.ticket++
	ev.Ticket = o.ticket
	for _, a := range ev.Artifacts {
		if !a.Tree || ev.App.Image != nil { // what an app is pinned to was pushed before
			p.blobs[a.Digest] = true
		}
	}
	o.asked[ev.Ticket] = &request{at: p, key: ev.App.Key(), edit: ev, since: o.w.now}
	if ev.App.Image != nil {
		w.tell(p, "push", ev.App.Key().String(), fmt.Sprintf("%s, if-match %q, if-none-match %t, copies %d, at least %d",
			ev.App.Image.Digest, ev.IfMatch, ev.IfNoneMatch, ev.Copies, ev.MinCopies))
		p.tellHolds()
		p.step(ev)
		w.unanswered(p, ev.Ticket)
		return
	}
	o.rolls.asked(ev.App)
	if ev.IfMatch != "*" && !strings.Contains(ev.IfMatch, ".") && ev.IfMatch != "" {
		// It names several versions: whoever sends it decides between them, and
		// apps that were made under one name end for it.
		for _, q := range w.up() {
			for _, i := range q.core.Siblings(ev.App.Key()) {
				o.removed[i.UID] = true
			}
		}
	}
	if w.trace != nil {
		w.tell(p, "submit", ev.App.Key().String(), fmt.Sprintf("%d replicas, if-match %q, if-none-match %t, min copies %d, key %q",
			*ev.App.Components["api"].Replicas, ev.IfMatch, ev.IfNoneMatch, ev.MinCopies, ev.IdempotencyKey))
	}
	p.step(ev)
	w.unanswered(p, ev.Ticket)
}

// unanswered forgets a request whose peer died before it answered: nothing was
// promised.
func (w *world) unanswered(p *peer, ticket uint64) {
	life := p.life
	w.after(20*time.Second, func() {
		if p.life != life {
			delete(w.oracle.asked, ticket)
		}
	})
}

// draw makes up an app.
func draw(name string, rng *rand.Rand) (placement.App, []placement.Artifact) {
	n := 1 + rng.IntN(5)
	digest := fmt.Sprintf("sha256:%064d", rng.IntN(3))
	two := 1
	return placement.App{Name: name, Components: map[string]placement.Component{
		"api": {
			Function: &placement.Function{Module: digest}, Replicas: &n,
			Resources: placement.Resources{CPU: 100 + placement.CPU(rng.IntN(3))*100, Memory: 64 << 20},
			Env:       map[string]string{"V": fmt.Sprint(rng.IntN(3))},
		},
		"meter": {
			Server: &placement.Server{Process: &placement.Process{Command: []string{"meter"}}}, Replicas: &two,
			Resources: placement.Resources{CPU: 200, Memory: 128 << 20},
		},
	}}, []placement.Artifact{{Digest: digest, Size: 1000}}
}
