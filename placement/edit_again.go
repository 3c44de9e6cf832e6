package placement

import "fmt"

// This file is an edit that comes again below a majority of the keepers, and that was
// written under a term before, as far as is known here at fewer of them. It is not
// answered with that version, which a later term drops without a word where none of
// its voters has it: what stands is written once more as an edit made alone, which no
// other supersedes unseen.

// undecided is the version that an edit was made as, or that was made over that, of
// which this peer does not know that a majority of the keepers had it.
func (p *Peer) undecided(e *edit, a *app) (i *Intent, made Version) {
	if p.tune.Break == FaultRemake {
		return nil, made
	}
	for n := range a.versions {
		i = &a.versions[n].intent
		if v, ok := i.made(e.req.idemKey); ok {
			if i.Alone || p.lists(a.uid, i.Version) { // but for an app's first version, none is listed before a majority has it
				return nil, made
			}
			return i, v
		}
	}
	return nil, made
}

// standAlone writes what stands as an edit made alone, for one that comes again.
func (p *Peer) standAlone(e *edit, a *app, i *Intent, made Version) {
	if len(a.versions) > 1 {
		p.finish(e, Result{Err: fmt.Errorf("edit of %s: %w: it was written, no majority of its keepers is known to have it, and others stand beside it", e.req.key, ErrUnavailable)})
		return
	}
	e.req.app, e.req.artifacts, e.req.remove = i.App, i.Artifacts, i.Removed
	e.alone, e.again, e.version, e.as = true, true, i.Version, made
	e.before = map[string]int{}
	if listed := standing(p.catalog.versions(a.uid)); len(listed) > 0 {
		for name, c := range winner(listed, p.out.now.Wall).intent.App.Components {
			e.before[name] = c.Wanted()
		}
	}
	p.write(e, a, Term{})
}
