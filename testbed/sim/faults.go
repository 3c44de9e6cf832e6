package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// request is a person at work: deploys, edits, removals, at any peer that is
// up.
func (w *world) request() {
	if w.calm {
		return
	}
	w.after(w.between(w.plan.Requests/2, w.plan.Requests*3/2), w.request)
	up := w.alive()
	if len(up) == 0 {
		return
	}
	p := up[w.rng.IntN(len(up))]
	o := w.oracle
	o.stats.Requests++
	name := fmt.Sprintf("app%d", w.rng.IntN(4))
	key := placement.AppKey{Namespace: "default", App: name}
	if w.chance(0.15) {
		o.ticket++
		o.asked[o.ticket] = &request{at: p, key: key, remove: true}
		for _, q := range up {
			if v, ok := q.core.App(key); ok {
				o.removed[v.Intent.UID] = true
			}
		}
		w.tell(p, "remove", key.String(), "")
		ticket := o.ticket
		p.step(placement.Remove{Ticket: ticket, Key: key})
		w.lost(p, ticket)
		return
	}
	app, artifacts := w.app(p, name)
	ev := placement.Submit{App: app, Artifacts: artifacts}
	switch w.rng.IntN(10) {
	case 0:
		ev.IfNoneMatch = true
	case 1, 2, 3: // what was seen last at any peer, old or not
		if ev.IfMatch = w.etags[key]; ev.IfMatch == "" {
			ev.IfMatch = "*"
		}
	case 4:
		ev.MinCopies = 1 + w.rng.IntN(copiesMax+1)
	case 5, 6, 7: // a person who tries again, here or at another peer
		ev.IdempotencyKey = fmt.Sprint("key", o.ticket)
	}
	if v, ok := p.core.App(key); ok && w.chance(0.7) {
		w.etags[key] = v.ETag
	}
	w.submit(p, ev)
	if ev.IdempotencyKey != "" {
		w.after(w.between(0, 4*time.Second), func() {
			if up := w.alive(); len(up) > 0 && !w.calm {
				w.submit(up[w.rng.IntN(len(up))], ev)
			}
		})
	}
}

// copiesMax is how many keepers an app has at most.
const copiesMax = 3

func (w *world) submit(p *peer, ev placement.Submit) {
	o := w.oracle
	o.ticket++
	ev.Ticket = o.ticket
	for _, a := range ev.Artifacts {
		p.blobs[a.Digest] = true
	}
	o.asked[ev.Ticket] = &request{at: p, key: ev.App.Key(), edit: ev}
	if ev.IfMatch != "*" && !strings.Contains(ev.IfMatch, ".") && ev.IfMatch != "" {
		// It names several versions: whoever sends it decides between them, and
		// apps that were made under one name end for it.
		for _, q := range w.alive() {
			for _, i := range q.core.Siblings(ev.App.Key()) {
				o.removed[i.UID] = true
			}
		}
	}
	w.tell(p, "submit", ev.App.Key().String(), fmt.Sprintf("%d replicas, if-match %q, if-none-match %t, min copies %d, key %q",
		*ev.App.Components["api"].Replicas, ev.IfMatch, ev.IfNoneMatch, ev.MinCopies, ev.IdempotencyKey))
	p.step(ev)
	w.lost(p, ev.Ticket)
}

// lost forgets a request whose peer died before it answered: nothing was
// promised.
func (w *world) lost(p *peer, ticket uint64) {
	life := p.life
	w.after(20*time.Second, func() {
		if p.life != life {
			delete(w.oracle.asked, ticket)
		}
	})
}

func (w *world) app(p *peer, name string) (placement.App, []placement.Artifact) {
	n := 1 + w.rng.IntN(5)
	digest := fmt.Sprintf("sha256:%064d", w.rng.IntN(3))
	p.blobs[digest] = true
	two := 1
	return placement.App{Name: name, Components: map[string]placement.Component{
		"api": {
			Function: &placement.Function{Module: digest}, Replicas: &n,
			Resources: placement.Resources{CPU: 100 + placement.CPU(w.rng.IntN(3))*100, Memory: 64 << 20},
			Env:       map[string]string{"V": fmt.Sprint(w.rng.IntN(3))},
		},
		"meter": {
			Server: &placement.Server{Process: &placement.Process{Command: []string{"meter"}}}, Replicas: &two,
			Resources: placement.Resources{CPU: 200, Memory: 128 << 20},
		},
	}}, []placement.Artifact{{Digest: digest, Size: 1000}}
}

// fault does something bad, and undoes it later.
func (w *world) fault() {
	if w.calm {
		return
	}
	w.after(w.between(w.plan.Faults/2, w.plan.Faults*3/2), w.fault)
	w.oracle.stats.Faults++
	p := w.peers[w.rng.IntN(len(w.peers))]
	lasts := w.between(time.Second, 20*time.Second)
	switch w.rng.IntN(8) {
	case 0, 1: // a daemon or a machine dies
		if p.core == nil {
			return
		}
		p.crash(w.chance(0.5))
		if w.plan.Amnesia && w.chance(0.5) {
			w.plan.Amnesia, w.forgot = false, true
			w.oracle.forgive(p)
			p.amnesia()
		}
		w.after(lasts, func() {
			if p.core == nil {
				p.start()
			}
		})
	case 2, 3: // a site is cut off
		w.partition(func(a, b *peer) bool { return (a.site == p.site) != (b.site == p.site) }, lasts)
	case 4: // a link is cut, perhaps one way
		o := w.peers[w.rng.IntN(len(w.peers))]
		both := w.chance(0.5)
		w.partition(func(a, b *peer) bool { return a == p && b == o || both && a == o && b == p }, lasts)
	case 5: // the mesh falls apart in two halves
		half := map[*peer]bool{}
		for _, q := range w.peers {
			half[q] = w.chance(0.5)
		}
		w.partition(func(a, b *peer) bool { return half[a] != half[b] }, lasts)
	case 6: // a disk fills up
		w.tell(p, "disk full", "", "")
		p.disk.full = true
		w.after(lasts, func() { p.disk.full = false })
	case 7: // a power cut of a whole site, and a quick return
		for _, q := range w.peers {
			if q.site == p.site && q.core != nil {
				q.crash(true)
				w.after(w.between(100*time.Millisecond, 2*time.Second), func() {
					if q.core == nil {
						q.start()
					}
				})
			}
		}
	}
}

// partition cuts links for a while.
func (w *world) partition(cuts func(a, b *peer) bool, lasts time.Duration) {
	var cut [][2]placement.PeerID
	for _, a := range w.peers {
		for _, b := range w.peers {
			k := [2]placement.PeerID{a.id, b.id}
			if a != b && cuts(a, b) && !w.cut[k] {
				w.cut[k] = true
				cut = append(cut, k)
			}
		}
	}
	w.tell(nil, "cut", "", fmt.Sprint(cut))
	w.after(lasts, func() {
		for _, k := range cut {
			delete(w.cut, k)
		}
		w.tell(nil, "healed", "", fmt.Sprint(cut))
	})
}

// heal ends all faults.
func (w *world) heal() {
	w.calm = true
	w.tell(nil, "all heal", "", "")
	clear(w.cut)
	for _, p := range w.peers {
		p.disk.full = false
		if p.core == nil {
			w.after(w.between(0, 2*time.Second), func() {
				if p.core == nil {
					p.start()
				}
			})
		}
	}
}
