package placement

import (
	"fmt"
	"strings"
	"testing"
)

func virtual(memory Bytes, replicas int) Component {
	return Component{
		Server: &Server{Image: Package("sha256:" + strings.Repeat("0", 64))}, Replicas: &replicas, Resources: Resources{CPU: 100, Memory: memory},
	}
}

// A virtual machine takes more of its host than its guest has: a ledger counts
// that, a plan does, and what is booked again from labels has it too.
func TestMachinesTakeWhatRunsThem(t *testing.T) {
	l := volumeLedger(1 << 30)
	alterHost(l, func(h *Host) { h.Drivers, h.Capacity.Memory = []string{DriverQemu}, 2<<30 })
	l.listed[DriverQemu], l.booked[DriverQemu] = true, true
	c, reply := admit(l, virtual(512<<20, 4), FirstSlots(4), false)
	if reply.Granted.Len() != 2 || l.used.Memory != 2*768<<20 {
		t.Fatalf("of 2Gi %s slots of 512Mi are granted, %s used: %s", reply.Granted, l.used.Memory, reply.Reason)
	}
	if !strings.Contains(reply.Reason, "256Mi of memory beside the guest's") {
		t.Errorf("the refusal does not say what a machine takes: %s", reply.Reason)
	}
	for n := range c.Slots.All() {
		found, err := FromLabels(Labels(AllocationID{c.ID, n}, WorkSpec{UID: c.UID, Key: c.Key, Component: c.Component, Spec: c.Spec, Version: c.Version}))
		if err != nil || found.Need != c.Need {
			t.Errorf("booked again it needs %v, and not %v: %v", found.Need, c.Need, err)
		}
	}
	end(l, c)
	if l.used != (Resources{}) {
		t.Errorf("after they ended %v is used", l.used)
	}

	for memory, takes := range map[Bytes]Bytes{0: 768 << 20, 1 << 30: 1280 << 20} {
		if got := virtual(memory, 1).Need().Memory; got != takes {
			t.Errorf("a machine of %s takes %s, and not %s", memory, got, takes)
		}
	}
	p, now := newTestPeer("a")
	step(p, now, HostChanged{Host: Host{ID: "h", Arch: "amd64", Drivers: []string{DriverQemu}, Capacity: Resources{CPU: 4000, Memory: 1 << 30}}})
	step(p, now, WorkListed{Driver: DriverQemu})
	plan := p.PlanFor(*now, App{Name: "vm", Components: map[string]Component{"c": virtual(512<<20, 2)}}).Components[0]
	if plan.Placed != 1 || !strings.Contains(plan.Decision.Reason, "beside the guest's") {
		t.Errorf("%d of 2 fit into 1Gi: %s", plan.Placed, fmt.Sprint(plan.Decision))
	}
	if need := withVolume(1).Takes(); need != withVolume(1).Resources {
		t.Errorf("a program takes %v", need)
	}
}
