package placement

import "slices"

// SideView is one of the versions that stand side by side under a name.
type SideView struct {
	Intent   Intent
	Followed bool   // lost slots follow it meanwhile
	Steward  PeerID // who drives its app, as far as this peer knows
	Known    bool   // this peer is told by holders what they run of it
	// Running is the slots that run as this version describes them, by
	// component, "0-5,8". A component that is the same on several sides counts
	// on each.
	Running map[string]string
}

// Sides are all versions that stand side by side under a name: the one that is
// followed first, then the newest first.
func (p *Peer) Sides(key AppKey) []SideView {
	var out []SideView
	win := p.find(key)
	for _, uid := range sortedKeys(p.byKey[key]) {
		a := p.apps[uid]
		if a.win.intent.Removed && a != win {
			continue // it is on its way out
		}
		for i := range a.versions {
			v := &a.versions[i].intent
			out = append(out, SideView{
				Intent: *v, Followed: a == win && v.Version == a.win.intent.Version, Steward: p.view(a).Steward,
				Known: p.keeper.records[uid] != nil || a.steward != nil, Running: runningAs(a, v),
			})
		}
	}
	slices.SortStableFunc(out, func(a, b SideView) int {
		if a.Followed != b.Followed {
			return 1 - 2*btoi(a.Followed)
		}
		return b.Intent.Version.Compare(a.Intent.Version)
	})
	return out
}

// runningAs is the slots of an app that run as a version describes them.
func runningAs(a *app, i *Intent) map[string]string {
	out := map[string]string{}
	for _, name := range i.App.ComponentNames() {
		spec, slots := SpecHash(i.App.Components[name]), Slots{}
		for _, id := range sortedKeys(a.rows) {
			for _, c := range a.rows[id].claims() {
				if c.Component == name && c.Spec == spec {
					slots = slots.Union(c.Running)
				}
			}
		}
		if !i.Removed && !slots.IsEmpty() {
			out[name] = slots.String()
		}
	}
	return out
}

// Made is the version that an edit with this Idempotency-Key became, of the app
// that the name means.
func (p *Peer) Made(key AppKey, idempotencyKey string) (v Version, ok bool) {
	a := p.find(key)
	if a == nil || idempotencyKey == "" {
		return Version{}, false
	}
	for i := range a.versions {
		if v, ok := a.versions[i].intent.made(idempotencyKey); ok {
			return v, true
		}
	}
	return Version{}, false
}
