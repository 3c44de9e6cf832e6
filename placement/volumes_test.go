package placement

import (
	"strings"
	"testing"
	"time"
)

// withVolume is a program that keeps a gibibyte.
func withVolume(replicas int) Component {
	return Component{
		Server: &Server{Process: &Process{Command: []string{"db"}}}, Replicas: &replicas,
		Resources: Resources{CPU: 100, Disk: 1 << 20}, Volumes: map[string]Volume{"data": {Path: "/data", Size: 1 << 30}},
	}
}

func volumeLedger(disk Bytes) *Ledger {
	self := PeerRef{Peer: "p", Incarnation: 1}
	l := newLedger(self, Tuning{}.withDefaults(), 0)
	l.hostChanged(Host{ID: "h", Arch: "amd64", Drivers: []string{DriverProcess}, Capacity: Resources{CPU: 10000, Memory: 1 << 30, Disk: disk}})
	l.listed[DriverProcess], l.booked[DriverProcess] = true, true
	return l
}

var asked uint64

// admit asks for slots of a component of app "u", and takes the answer for written.
func admit(l *Ledger, comp Component, slots Slots, later bool) (*claim, offerMsg) {
	asked++
	i := &Intent{UID: "u", Key: AppKey{"default", "a"}, App: App{Name: "a", Components: map[string]Component{"c": comp}}}
	adm := l.Admit(Now{Wall: time.UnixMilli(1000)}, &askMsg{
		ID: AskID{Asker: "s", Incarnation: 1, Counter: asked}, UID: "u", Term: Term{1, "s"}, Component: "c", Slots: slots, Later: later,
	}, i, i)
	if adm.claim != nil {
		l.Committed(adm.claim)
	}
	return adm.claim, adm.reply
}

func end(l *Ledger, c *claim) {
	for n := range c.Slots.All() {
		l.release(c, SlotsOf(n))
		l.stopped(c, n)
	}
}

// A volume takes disk once for its slot, whatever claims come and go, and is
// found again; one that nobody started with is not kept.
func TestVolumesOutliveClaims(t *testing.T) {
	l := volumeLedger(4 << 30)
	c, _ := admit(l, withVolume(2), FirstSlots(2), false)
	before := l.used
	if want := Bytes(2<<30 + 2<<20); before.Disk != want {
		t.Fatalf("two slots take %s of disk, and not %s", before.Disk, want)
	}
	end(l, c)
	if l.used.CPU != 0 || l.used.Disk != 2<<30 {
		t.Errorf("after they ended %v is used", l.used)
	}
	if kept := l.kept("u", false)["c"]; !kept.Equal(FirstSlots(2)) {
		t.Errorf("kept: %s", kept)
	}
	if admit(l, withVolume(2), FirstSlots(2), false); l.used != before {
		t.Errorf("granted again they take %v, and not %v", l.used, before)
	}
	larger := withVolume(2)
	larger.Volumes["data"] = Volume{Path: "/data", Size: 3 << 30}
	if _, reply := admit(l, larger, FirstSlots(1), false); !reply.Granted.IsEmpty() {
		t.Error("a slot that runs here was granted twice")
	}

	l = volumeLedger(4 << 30)
	reserved, _ := admit(l, withVolume(1), FirstSlots(1), true)
	if len(l.kept("u", false)) != 0 {
		t.Error("a reservation keeps data")
	}
	if end(l, reserved); l.used != (Resources{}) || len(l.volumes.all) != 0 {
		t.Errorf("a reservation that came to nothing left %v", l.used)
	}
}

// No more is granted than the disk has room for, and a slot whose volume is here
// needs none for that, and grows within what is left.
func TestVolumesFitTheDisk(t *testing.T) {
	l := volumeLedger(3<<30 + 10<<20)
	c, reply := admit(l, withVolume(8), FirstSlots(8), false)
	if reply.Granted.Len() != 3 || !strings.Contains(reply.Reason, "disk") {
		t.Fatalf("granted %s: %s", reply.Granted, reply.Reason)
	}
	end(l, c)
	// Slot 7 comes first and has no volume here; it finds no room beside those that do.
	if _, reply = admit(l, withVolume(8), SlotsOf(0, 2, 7), false); !reply.Granted.Equal(SlotsOf(0, 2)) {
		t.Errorf("granted %s: %s", reply.Granted, reply.Reason)
	}
	grown := withVolume(8)
	grown.Volumes["data"] = Volume{Path: "/data", Size: 2 << 30}
	if _, reply = admit(l, grown, SlotsOf(1), false); !reply.Granted.IsEmpty() {
		t.Error("a volume grew beyond the disk")
	}
}

// A grant that could not be written keeps no volume.
func TestVolumesOfAbortedGrants(t *testing.T) {
	l := volumeLedger(4 << 30)
	c, _ := admit(l, withVolume(1), FirstSlots(1), false)
	c.entered = FirstSlots(1)
	l.Aborted(c)
	if l.used != (Resources{}) || len(l.volumes.all) != 0 {
		t.Errorf("%v is left, and volumes %v", l.used, l.volumes.all)
	}
}

// What a ledger keeps is on disk, and counts after a restart.
func TestVolumesAreLoaded(t *testing.T) {
	l := volumeLedger(4 << 30)
	c, _ := admit(l, withVolume(2), FirstSlots(2), false)
	writes := []Write{l.writeClaim(c)}
	for _, id := range l.volumes.of("u") {
		writes = append(writes, l.writeVolume(id))
	}
	again := volumeLedger(4 << 30)
	for _, w := range writes {
		if err := again.load(w.Table, w.Key, w.Value); err != nil {
			t.Fatal(err)
		}
	}
	if again.used != l.used || !again.kept("u", false)["c"].Equal(FirstSlots(2)) {
		t.Errorf("after a restart %v is used, and not %v; kept %v", again.used, l.used, again.kept("u", false))
	}
}

// What is left behind is no place to go to, until the slot is granted there anew.
func TestVolumesLeftBehind(t *testing.T) {
	l := volumeLedger(4 << 30)
	c, _ := admit(l, withVolume(2), FirstSlots(2), false)
	if writes := l.leaveBehind(c, SlotsOf(1)); len(writes) != 1 {
		t.Errorf("%d writes", len(writes))
	}
	end(l, c)
	if kept := l.kept("u", false)["c"]; !kept.Equal(SlotsOf(0)) {
		t.Errorf("kept: %s", kept)
	}
	if admit(l, withVolume(2), SlotsOf(1), false); !l.kept("u", false)["c"].Equal(FirstSlots(2)) {
		t.Errorf("kept: %s", l.kept("u", false)["c"])
	}
}

// The labels of work say what its volumes take, for a ledger that was lost.
func TestLabelsNameVolumes(t *testing.T) {
	id := AllocationID{ClaimID{AskID{"s", 1, 2}, PeerRef{"p", 1}}, 3}
	labels := Labels(id, WorkSpec{UID: "u", Key: AppKey{"default", "a"}, Component: "c", Spec: withVolume(1)})
	b, err := FromLabels(labels)
	if err != nil || b.Volumes["data"].Size != 1<<30 || b.Need.Disk != 1<<20 {
		t.Errorf("%+v, %v", b, err)
	}
	for _, text := range []string{"data", "data=x", "data=-1", "data=99999999999999999"} {
		labels[labelVolumes] = text
		if _, err := FromLabels(labels); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

// keepShop is peer a, which drives an app whose component c has a volume, with b
// and m beside it. Slot 0 runs at a.
func keepShop(t *testing.T, d Disconnect) (p *Peer, now *Now, shop *app) {
	t.Helper()
	p, now = newTestPeer("a")
	step(p, now, HostChanged{Host: Host{ID: "h", Arch: "amd64", Drivers: []string{DriverProcess}, Capacity: Resources{CPU: 4000, Memory: 4 << 30, Disk: 10 << 30}}})
	room := Resources{CPU: 4000, Memory: 4 << 30, Disk: 10 << 30}
	for _, id := range []PeerID{"b", "m"} {
		step(p, now, MemberChanged{Peer: id, Site: SiteID("s" + string(id)), State: MemberAlive})
		step(p, now, RTTChanged{Peer: id, RTT: time.Millisecond})
		step(p, now, DigestChanged{Digest: Digest{Peer: PeerRef{id, 1}, Name: "fra-" + string(id), Site: SiteID("s" + string(id)),
			Drivers: []string{DriverProcess}, Arch: []string{"amd64"}, Capacity: room, Free: room, Full: "later"}})
	}
	comp := withVolume(1)
	comp.Disconnect = d
	step(p, now, Submit{Ticket: 1, App: App{Name: "shop", Components: map[string]Component{"c": comp}}})
	if shop = p.find(AppKey{"default", "shop"}); shop == nil || shop.steward == nil || len(p.ledger.claims) != 1 {
		t.Fatalf("the app is %v, with %d claims: the test shows nothing", shop, len(p.ledger.claims))
	}
	return p, now, shop
}

func reportKept(p *Peer, now *Now, from PeerID, uid UID, kept Slots) {
	say(p, now, from, message{Report: &reportMsg{UID: uid, Peer: PeerRef{from, 1}, Order: order{1, 1, 1}, Kept: map[string]Slots{"c": kept}}})
}

// A slot goes where its volume is and waits for it; by another policy it starts
// anew when that is lost, and says what it leaves.
func TestSlotsGoToTheirVolumes(t *testing.T) {
	p, now, shop := keepShop(t, Disconnect{})
	reportKept(p, now, "b", shop.uid, SlotsOf(5))
	parts := shop.steward.parts("c", shop.win.intent.App.Components["c"], SlotsOf(1, 5))
	if len(parts) != 2 || parts[0].home != "b" || !parts[0].slots.Equal(SlotsOf(5)) || parts[1].home != "" || !parts[1].slots.Equal(SlotsOf(1)) {
		t.Fatalf("parts %+v", parts)
	}
	in := PlanInput{App: shop.win.intent.App, Component: "c", Slots: SlotsOf(5), Placed: map[PeerID]int{},
		Candidates: p.members.candidates(now.Mono), Refused: map[PeerID]string{}, Rand: p.rng}
	for i := range in.Candidates {
		in.Candidates[i].Digest.Full = ""
	}
	shop.steward.p.atHome(&in, parts[0])
	res := Plan(in)
	if !res.Assign["b"].Equal(SlotsOf(5)) || considered(t, res, "m").Reason != "the volume of slot 5 is at fra-b" {
		t.Errorf("placed %v, and m: %q", res.Assign, considered(t, res, "m").Reason)
	}
	die(p, now, "b")
	now.Mono += time.Hour
	p.out.now = *now
	if parts = shop.steward.parts("c", shop.win.intent.App.Components["c"], SlotsOf(5)); len(parts) != 1 || parts[0].home != "b" {
		t.Errorf("replace: never does not wait: %+v", parts)
	}

	soon := Duration(0)
	p, now, shop = keepShop(t, Disconnect{Replace: ReplaceMajority, LostAfter: &soon})
	reportKept(p, now, "b", shop.uid, SlotsOf(5))
	die(p, now, "b")
	now.Mono += time.Second
	p.out.now = *now
	s := shop.steward
	if parts = s.parts("c", s.a.win.intent.App.Components["c"], SlotsOf(5)); len(parts) != 1 || parts[0].home != "b" {
		t.Errorf("given up before the keepers confirmed it: %+v", parts)
	}
	s.confirmed[PeerRef{"m", 1}] = now.Mono
	if parts = s.parts("c", s.a.win.intent.App.Components["c"], SlotsOf(5)); len(parts) != 1 || parts[0].home != "" || !strings.Contains(parts[0].left, "stays behind at fra-b") {
		t.Errorf("replace: majority waits: %+v", parts)
	}
}

// Whoever comes later learns from the summaries where volumes are.
func TestVolumesOfSummaries(t *testing.T) {
	p, now, shop := keepShop(t, Disconnect{})
	sum := Summaries{Peer: PeerRef{"b", 1}, Site: "sb", Apps: []Summary{{UID: shop.uid, Kept: map[string]Slots{"c": SlotsOf(5)}}}}
	step(p, now, RecordChanged{Table: TableStatus, Key: "1.1/b", Siblings: [][]byte{Encode(Signed{Body: Encode(sum), By: "b"})}})
	if homes := p.homes(shop, "c"); !homes["b"].Equal(SlotsOf(5)) {
		t.Errorf("homes %v", homes)
	}
}

// The next version of a slot stops the one before it first, and starts only when
// that is gone: two copies never share a volume.
func TestVolumesAreNotShared(t *testing.T) {
	p, now, shop := keepShop(t, Disconnect{})
	old := onlyClaim(t, p)
	step(p, now, WorkChanged{ID: AllocationID{old.ID, 0}, State: WorkState{State: AllocRunning}})
	next := *old
	next.ID.Ask.Counter, next.SpecHash = 99, 99
	p.ledger.add(&next)
	p.runClaim(&next)
	at := func() AllocState { return p.work.allocs[AllocationID{next.ID, 0}].state.State }
	if at() != AllocPending {
		t.Fatalf("the second copy is %s while the first runs", at())
	}
	p.releaseSlots(old, FirstSlots(1), "a newer version follows")
	step(p, now, TimerFired{Key: wakeTimer})
	if at() != AllocPending {
		t.Fatalf("the second copy is %s while the first stops", at())
	}
	step(p, now, WorkChanged{ID: AllocationID{old.ID, 0}, State: WorkState{State: AllocStopped}})
	if at() != AllocStarting {
		t.Errorf("the second copy is %s when the first is gone", at())
	}
	f := fact{claimStatus: claimStatus{ID: old.ID, Spec: 1, Slots: FirstSlots(4), Running: FirstSlots(4)}, peer: "a", live: true}
	c := reconcile(situation{wanted: FirstSlots(4), spec: 2, claims: []fact{f}, mayStop: true, mayMove: true, sticky: true,
		update: UpdatePolicy{Unavailable: 1, StopFirst: true}})
	if len(c.moves) != 0 || len(c.done) != 1 || c.done[0].slots.Len() != 1 {
		t.Errorf("moves %v, done %v", c.moves, c.done)
	}
	_ = shop
}

// fast lets time pass, an hour at a time, and returns which volumes are to be
// deleted.
func fast(p *Peer, now *Now, d time.Duration) (dropped []VolumeID) {
	for end := now.Mono + d; now.Mono < end; {
		now.Mono, now.Wall = now.Mono+time.Hour, now.Wall.Add(time.Hour)
		for _, e := range p.Step(*now, TimerFired{Key: wakeTimer}) {
			switch e := e.(type) {
			case DropVolume:
				dropped = append(dropped, e.ID)
			case Persist:
				for _, e := range p.Step(*now, Persisted{Token: e.Token}) {
					if e, ok := e.(DropVolume); ok {
						dropped = append(dropped, e.ID)
					}
				}
			}
		}
	}
	return dropped
}

// A volume outlives its app by a week of this peer's own time, whatever its
// clock says meanwhile, and takes its room until its data is gone.
func TestVolumesOfARemovedApp(t *testing.T) {
	p, now, shop := keepShop(t, Disconnect{})
	c := onlyClaim(t, p)
	id := VolumeID{shop.uid, "c", 0}
	step(p, now, Remove{Ticket: 2, Key: shop.key})
	if v := p.ledger.volumes.all[id]; v.Parked == 0 || v.stands() {
		t.Fatalf("the volume of a removed app is %+v", v)
	}
	now.Wall = now.Wall.Add(300 * 24 * time.Hour)
	if dropped := fast(p, now, volumeKeep+3*time.Hour); len(dropped) != 0 {
		t.Fatalf("%v was dropped while its slot is not gone", dropped)
	}
	step(p, now, WorkChanged{ID: AllocationID{c.ID, 0}, State: WorkState{State: AllocStopped}})
	if dropped := fast(p, now, 2*time.Hour); len(dropped) == 0 || dropped[0] != id {
		t.Fatalf("dropped %v", dropped)
	}
	if p.ledger.used.Disk != 1<<30 {
		t.Errorf("%s is used before the data is gone", p.ledger.used.Disk)
	}
	step(p, now, VolumeGone{ID: id})
	if len(p.ledger.volumes.all) != 0 || p.ledger.used != (Resources{}) {
		t.Errorf("left: %v, %v", p.ledger.volumes.all, p.ledger.used)
	}

	p, now, shop = keepShop(t, Disconnect{})
	c = onlyClaim(t, p)
	step(p, now, Remove{Ticket: 2, Key: shop.key})
	step(p, now, WorkChanged{ID: AllocationID{c.ID, 0}, State: WorkState{State: AllocStopped}})
	now.Wall = now.Wall.Add(300 * 24 * time.Hour) // the machine's clock jumps
	if dropped := fast(p, now, volumeKeep-3*time.Hour); len(dropped) != 0 {
		t.Errorf("%v was dropped before its time", dropped)
	}
}

// A peer that merely does not know an app deletes nothing of it.
func TestVolumesOfUnknownApps(t *testing.T) {
	p, now := newTestPeer("a")
	id := VolumeID{"unknown", "c", 0}
	step(p, now, VolumesFound{Volumes: []FoundVolume{{ID: id, Key: AppKey{"default", "x"}, Sizes: map[string]Bytes{"data": 1 << 30}}}})
	if dropped := fast(p, now, 3*volumeKeep); len(dropped) != 0 || p.ledger.volumes.all[id] == nil {
		t.Errorf("%v was dropped", dropped)
	}
	if p.ledger.used.Disk != 1<<30 {
		t.Errorf("%s is used", p.ledger.used.Disk)
	}
	step(p, now, DeleteVolume{ID: id})
	if dropped := fast(p, now, time.Hour); len(dropped) == 0 {
		t.Error("a person's word deletes nothing")
	}
}

// A volume whose slot is granted is not deleted.
func TestVolumesInUseStay(t *testing.T) {
	p, now, shop := keepShop(t, Disconnect{})
	step(p, now, DeleteVolume{ID: VolumeID{shop.uid, "c", 0}})
	if dropped := fast(p, now, 2*time.Hour); len(dropped) != 0 {
		t.Errorf("%v was dropped", dropped)
	}
}

// The time of a parked volume counts on after a restart.
func TestParkedVolumesAfterARestart(t *testing.T) {
	p, now, shop := keepShop(t, Disconnect{})
	c, id := onlyClaim(t, p), VolumeID{shop.uid, "c", 0}
	step(p, now, Remove{Ticket: 2, Key: shop.key})
	step(p, now, WorkChanged{ID: AllocationID{c.ID, 0}, State: WorkState{State: AllocStopped}})
	fast(p, now, volumeKeep-10*time.Hour)
	w := p.ledger.writeVolume(id)

	again := New(Config{Self: PeerRef{Peer: "a", Incarnation: 1}, Name: "a", Site: "s", Seed: 1})
	if err := again.Load(w.Table, w.Key, w.Value); err != nil {
		t.Fatal(err)
	}
	later := &Now{Wall: now.Wall.Add(time.Minute)}
	drive(again, later, again.Begin(*later))
	if dropped := fast(again, later, 8*time.Hour); len(dropped) != 0 {
		t.Errorf("%v was dropped before its time", dropped)
	}
	if dropped := fast(again, later, 5*time.Hour); len(dropped) == 0 || dropped[0] != id {
		t.Errorf("dropped %v", dropped)
	}
}
