package sim

import (
	"slices"

	"github.com/hansa-mesh/hansa/placement"
)

// This file is edits that were acknowledged, below a majority of the keepers too:
// each stands until one is made that knew of it, whatever the clocks said.

// accepted is an edit that was acknowledged.
type accepted struct {
	key     placement.AppKey
	uid     placement.UID
	version placement.Version
	at      []placement.PeerRef // that were said to hold it
}

// accept notes an edit that was acknowledged. A disk that was lost while the answer
// was on its way is none of those that hold it.
func (o *oracle) accept(req *request, r placement.Result) {
	if req.remove || len(r.Peers) == 0 || o.answers[r.Version] {
		return // or a retry, which has the answer of then
	}
	o.answers[r.Version] = true
	e := accepted{key: req.key, uid: r.UID, version: r.Version}
	for _, id := range r.Peers {
		if o.w.byID[id].born > req.since {
			return
		}
		e.at = append(e.at, placement.PeerRef{Peer: id, Incarnation: o.w.byID[id].inc})
	}
	o.accepted = append(o.accepted, e)
}

// editsStand: every peer knows each edit that was acknowledged, or one over it, unless
// the app is gone, or a disk that was said to hold it.
func (w *world) editsStand(note func(string, ...any)) {
	for _, p := range w.in() {
		for _, e := range w.oracle.accepted {
			if w.oracle.removed[e.uid] || slices.ContainsFunc(e.at, func(ref placement.PeerRef) bool { return !w.oracle.intact(ref) }) {
				continue
			}
			known, stands := false, false
			for _, side := range p.core.Siblings(e.key) {
				known = known || side.UID == e.uid
				stands = stands || side.UID == e.uid && madeOver(&side, e.version)
			}
			if known && !stands {
				note("%s knows neither version %s of %s, which was acknowledged, nor one that was made over it", p.id, e.version, e.key)
			}
		}
	}
}

// madeOver says whether an edit is this version, or was made over it.
func madeOver(i *placement.Intent, v placement.Version) bool {
	return i.Version == v || slices.ContainsFunc(i.Over, func(a placement.Ancestor) bool {
		return a.Version.Peer == v.Peer && a.Version.Compare(v) >= 0
	})
}
