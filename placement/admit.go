package placement

import (
	"fmt"
	"slices"
	"time"
)

// admission is what Admit decided: an answer, and, when something was granted
// or noted, the writes that must be on disk before the answer leaves. Then the
// caller says Committed or Aborted.
type admission struct {
	reply  offerMsg
	writes []Write
	claim  *claim // granted and held, or nil
	wait   bool   // the same ask is being written: its answer will come
}

// Admit grants what fits of an ask. known is the newest version of the app in
// this peer's catalog and nil when the catalog does not list the app; wanted
// is what the ask's own intent says. digest is attached to every answer by the
// caller.
func (l *Ledger) Admit(now Now, ask *askMsg, wanted *Intent, known *Intent) admission {
	key := askerKey{ask.ID.Asker, ask.ID.Incarnation}
	reply := offerMsg{Ask: ask.ID, UID: ask.UID, Price: l.price}
	if key.inc < l.newest[key.peer] {
		l.tune.mark(MarkAskOfEarlierLife)
		reply.Refused, reply.Reason = ask.Slots, "expired: asked in an earlier life of the asker's store"
		return admission{reply: reply}
	}
	earlier := askerKey{key.peer, l.newest[key.peer]}
	a := l.asker(key)
	writes := l.outlived(earlier)
	if done, adm := l.repeated(a, ask, reply); done {
		return adm
	}
	fence, higher, ok := l.fence(ask.UID, ask.Term, ask.Deputy)
	if !ok {
		l.tune.mark(MarkAskFenced)
		reply.Refused, reply.Fence = ask.Slots, higher
		reply.Reason = fmt.Sprintf("term %d is over: the app is driven under term %d", ask.Term.Number, higher.Number)
		return admission{reply: reply, writes: writes}
	}
	writes = append(writes, fence...)
	if ask.Floor > a.Floor {
		l.raiseFloor(a, min(ask.Floor, ask.ID.Counter))
		writes = append(writes, l.writeAsker(key))
	}
	comp, exists := wanted.App.Components[ask.Component]
	bound, reason := l.fits(now, ask, comp, wanted, known)
	if !exists {
		bound, reason = binding{}, "the intent has no such component"
	}
	reply.Granted, reply.Refused, reply.Reason = bound.slots, ask.Slots.Minus(bound.slots), reason
	if reply.Granted.IsEmpty() {
		if len(a.refused) < refusedMax {
			a.refused[ask.ID.Counter] = reason
		}
		return admission{reply: reply, writes: writes}
	}
	c := l.grant(now, ask, comp, wanted, known, reply, bound)
	reply.Claim = c.ID
	if c.State == claimReserved {
		reply.ExpiresIn = l.tune.ReserveExpiry.Milliseconds()
	}
	writes = append(writes, l.keep(now.Wall, c, c.Slots, comp.Volumes)...)
	return admission{reply: reply, writes: append(writes, l.writePlaced(c)...), claim: c}
}

// repeated answers an ask that was seen before with what was answered then.
func (l *Ledger) repeated(a *askerRecord, ask *askMsg, reply offerMsg) (bool, admission) {
	n := ask.ID.Counter
	if l.tune.Break == FaultRegrant {
		return false, admission{}
	}
	if id, ok := a.claims[n]; ok {
		l.tune.mark(MarkAskRepeated)
		c := l.claims[id]
		reply.Claim, reply.Granted, reply.Refused, reply.Reason = c.ID, c.Granted, c.Refused, c.Reason
		return true, admission{reply: reply, wait: c.held}
	}
	if why, ok := a.refused[n]; ok {
		reply.Refused, reply.Reason = ask.Slots, why
		return true, admission{reply: reply}
	}
	if n < a.Floor || slices.Contains(a.Spent, n) {
		l.tune.mark(MarkAskSpent)
		reply.Refused, reply.Reason = ask.Slots, "expired: this ask was answered before and its claim is gone"
		return true, admission{reply: reply}
	}
	return false, admission{}
}

func (l *Ledger) raiseFloor(a *askerRecord, floor uint64) {
	a.Floor = floor
	a.Spent = slices.DeleteFunc(a.Spent, func(n uint64) bool { return n < floor })
	for n := range a.refused {
		if n < floor {
			delete(a.refused, n)
		}
	}
}

// binding is the slots of an ask that are granted, and where each goes.
type binding struct {
	slots   Slots
	at      []slotsAt
	devices map[Slot][]string
}

// fits is the part of an ask that this peer can take now, and why not all.
func (l *Ledger) fits(now Now, ask *askMsg, comp Component, wanted, known *Intent) (binding, string) {
	if why := l.bars(now, ask, comp, wanted, known); why != "" {
		return binding{}, why
	}
	here := Slots{}
	for _, c := range l.byApp[ask.UID] {
		if c.Component == ask.Component && (ask.Replaces == nil || c.ID != *ask.Replaces) {
			here = here.Union(c.Slots)
		}
	}
	want := ask.Slots.Minus(here)
	fit := l.fitsOne
	if l.many() {
		fit = l.fitsMany
	}
	bound, why := fit(ask, comp, want)
	switch {
	case bound.slots.Len() == ask.Slots.Len():
		return bound, ""
	case want.Len() < ask.Slots.Len() && bound.slots.Len() == want.Len():
		return bound, "some of these slots run here already"
	}
	return bound, why
}

// bars is why this peer takes nothing of an ask, on whatever host, or "".
func (l *Ledger) bars(now Now, ask *askMsg, comp Component, wanted, known *Intent) string {
	driver := comp.Driver()
	a := l.asker(askerKey{ask.ID.Asker, ask.ID.Incarnation})
	own := l.ownHost()
	switch {
	case l.knownHosts == 0:
		return "the host is not known yet"
	case !l.many() && own.bars(comp) != "":
		if own.Cordoned {
			l.tune.mark(MarkAskWhileCordoned)
		}
		return own.bars(comp)
	case l.drivers[driver] == 0:
		return "no driver for " + driver
	case !l.listed[driver]:
		return "driver " + driver + " has not yet said what it runs"
	case l.unbooked() != "":
		return l.unbooked()
	case wanted.MinSchema > l.tune.Schema:
		l.tune.mark(MarkAskOfNewer)
		return "the app was made by a newer release than this peer runs"
	case known != nil && wanted.Version.Compare(known.Version) < 0:
		l.tune.mark(MarkAskOfOlderVersion)
		return "made from an older version of the app than this peer knows"
	case known != nil && known.Removed:
		return "the app is removed"
	case wanted.Version.ahead(now.Wall) && (known == nil || wanted.Version != known.Version):
		l.tune.mark(MarkAskOfClockAhead)
		return "made by a clock more than " + clockAheadMax.String() + " ahead of this peer's"
	case l.holdsOff != nil && l.holdsOff(ask.UID, comp) != "":
		return l.holdsOff(ask.UID, comp)
	case l.secretsBar != nil && l.secretsBar(wanted.Key.Namespace, comp) != "":
		return l.secretsBar(wanted.Key.Namespace, comp)
	case len(a.Spent) >= spentMax || len(l.claims) >= l.claimsMax() || len(l.byApp[ask.UID]) >= appClaimsMax:
		return "too many claims"
	case l.slots >= l.slotsMax():
		return fmt.Sprintf("it holds %d slots, at most that many", l.slotsMax())
	}
	return ""
}

// bars is why a host takes no slot of a component, however much it has free, or
// "".
func (b *hostBook) bars(comp Component) string {
	switch {
	case b.Cordoned:
		return "the host is cordoned"
	case b.Full != "":
		return b.Full
	}
	return lacksFor(comp, b.Drivers, b.Fences, b.Arch)
}

// lacksFor is what hosts with these drivers lack for a component, or "".
func lacksFor(comp Component, drivers, fences []string, arch string) string {
	driver := comp.Driver()
	switch {
	case !slices.Contains(drivers, driver):
		return "no driver for " + driver
	case comp.wrongArch([]string{arch}) != "":
		return comp.wrongArch([]string{arch})
	case comp.Exclusive.On && !slices.Contains(fences, driver):
		return noFence(driver)
	}
	return ""
}

// fitsOne is the part of what is wanted that the only host has room for, and why
// not all.
func (l *Ledger) fitsOne(ask *askMsg, comp Component, want Slots) (binding, string) {
	own := l.ownHost()
	bound := binding{}
	bound.slots, bound.devices = own.allot(comp.Resources.GPU, l.fitting(ask, comp, want))
	if short := shortOfGPU(comp.Resources.GPU, own.freeGPUs()); short != "" {
		return bound, "no room: " + short
	}
	free := own.free()
	why := fmt.Sprintf("no room: %d slots fit (free %s CPU, %s memory, %s disk)", bound.slots.Len(), free.CPU, free.Memory, free.Disk)
	if beside := comp.beside(); beside != "" {
		why += "; " + beside
	}
	return bound, why
}

// grant books a claim. It holds capacity from now on, on disk or not.
func (l *Ledger) grant(now Now, ask *askMsg, comp Component, wanted, known *Intent, reply offerMsg, bound binding) *claim {
	c := &claim{
		ID:  ClaimID{Ask: ask.ID, Owner: l.self},
		UID: ask.UID, Key: wanted.Key, Component: ask.Component, Version: wanted.Version,
		Spec: comp, SpecHash: SpecHash(comp), Need: comp.Takes(), State: claimActive,
		Slots: reply.Granted, Granted: reply.Granted, Refused: reply.Refused, Reason: reply.Reason,
		Term: ask.Term, Deputy: ask.Deputy, Replaces: ask.Replaces, Keepers: ask.Keepers,
		Score: ask.Score, held: true,
	}
	c.At, c.Devices = bound.at, bound.devices
	c.needs(wanted, l.archOf(c))
	switch {
	case ask.Later:
		c.State, c.Left = claimReserved, int64(l.tune.ReserveExpiry)
	case known == nil:
		c.State, c.Left = claimUnconfirmed, int64(l.tune.ConfirmExpiry)
	}
	if c.Left > 0 {
		c.expires = now.Mono + time.Duration(c.Left)
	}
	if old := l.claims[c.ID]; old != nil { // FaultRegrant only
		l.charge(old, old.holds(), -1)
	}
	if l.tune.Break == FaultOvergive {
		c.Need = Resources{}
	}
	l.add(c)
	return c
}

// Committed says that an admission is on disk.
func (l *Ledger) Committed(c *claim) {
	c.held, c.work, c.entered = false, c.State != claimReserved, Slots{}
}

// Aborted says that an admission could not be written: what it held is free
// again, and the ask counts as never seen.
func (l *Ledger) Aborted(c *claim) {
	if l.claims[c.ID] != c {
		return
	}
	l.tune.mark(MarkAborted)
	l.unkeep(c)
	l.charge(c, c.holds(), -1)
	delete(l.claims, c.ID)
	delete(l.byApp[c.UID], c.ID)
	delete(l.asker(askerKey{c.ID.Ask.Asker, c.ID.Ask.Incarnation}).claims, c.ID.Ask.Counter)
}
