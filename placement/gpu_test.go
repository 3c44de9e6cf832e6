package placement

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestGPUForms(t *testing.T) {
	for form, want := range map[string]GPU{
		`1`: {1000, ""}, `0.5`: {500, ""}, `"500m"`: {500, ""}, `{"count": 0.25, "model": "a100"}`: {250, "a100"}, `{"count": 2}`: {2000, ""},
	} {
		var g, back GPU
		if err := json.Unmarshal([]byte(form), &g); err != nil || g != want {
			t.Errorf("%s is %+v, %v", form, g, err)
		}
		data, err := json.Marshal(g)
		if err == nil {
			err = json.Unmarshal(data, &back)
		}
		if err != nil || back != g {
			t.Errorf("%s came back as %s: %v", form, data, err)
		}
		var wire Resources
		if err := Decode(Encode(Resources{GPU: g}), &wire); err != nil || wire.GPU != g {
			t.Errorf("%s went over the wire as %+v, %v", form, wire.GPU, err)
		}
	}
	for _, form := range []string{`"x"`, `{"count": 1, "modle": "a"}`, `[]`} {
		var g GPU
		if err := json.Unmarshal([]byte(form), &g); err == nil {
			t.Errorf("%s was read as %+v", form, g)
		}
	}
	if strings.Contains(string(Encode(Resources{CPU: 1})), "gpu") {
		t.Error("resources without GPUs look different on the wire than they did")
	}
}

func TestGPUsAreChecked(t *testing.T) {
	process := Component{Server: &Server{Process: &Process{Command: []string{"x"}}}}
	for name, x := range map[string]struct {
		c    Component
		g    GPU
		fine bool
	}{
		"a share": {process, GPU{500, "a100"}, true}, "whole": {process, GPU{2000, ""}, true},
		"none": {process, GPU{0, "a100"}, false}, "below none": {process, GPU{-1, ""}, false}, "one and a half": {process, GPU{1500, ""}, false},
		"too many": {process, GPU{1 << 40, ""}, false}, "no model": {process, GPU{500, "a b"}, false},
		"a function":        {Component{Function: &Function{Module: digestOf("a")}}, GPU{500, ""}, false},
		"a virtual machine": {Component{Server: &Server{Image: Package(digestOf("a"))}}, GPU{500, ""}, false},
	} {
		x.c.Resources.GPU = x.g
		if err := (App{Name: "a", Components: map[string]Component{"c": x.c}}).Validate(); (err == nil) != x.fine {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func gpuLedger(models ...string) *Ledger {
	l := volumeLedger(1 << 40)
	for i, model := range models {
		alterHost(l, func(h *Host) { h.GPUs = append(h.GPUs, Device{ID: fmt.Sprint("gpu", i), Model: model}) })
	}
	return l
}

func withGPU(g GPU, replicas int) Component {
	return Component{Server: &Server{Process: &Process{Command: []string{"x"}}}, Replicas: &replicas, Resources: Resources{GPU: g}}
}

// Shares are packed on single devices, so that whole ones stay free; no device is
// granted beyond itself, and what ended is free again.
func TestGPUsArePacked(t *testing.T) {
	l := gpuLedger("NVIDIA A100-SXM4-40GB", "NVIDIA A100-SXM4-40GB", "NVIDIA T4")
	one, _ := admit(l, withGPU(GPU{400, "a100"}, 2), FirstSlots(2), false)
	if one.Devices[0][0] != one.Devices[1][0] {
		t.Errorf("two shares of 0.4 are on %v: one device has room for both", one.Devices)
	}
	two, reply := admit(l, withGPU(GPU{1000, "A100"}, 9), SlotRange(2, 11), false)
	if reply.Granted.Len() != 1 || len(two.Devices[2]) != 1 || two.Devices[2][0] == one.Devices[0][0] {
		t.Errorf("whole ones: %s at %v", reply.Granted, two.Devices)
	}
	if _, reply = admit(l, withGPU(GPU{2000, ""}, 20), SlotsOf(12), false); !reply.Granted.IsEmpty() || !strings.Contains(reply.Reason, "whole GPUs") {
		t.Errorf("two whole ones of two models were granted: %s", reply.Reason)
	}
	if _, reply = admit(l, withGPU(GPU{500, "h100"}, 20), SlotsOf(13), false); !strings.Contains(reply.Reason, "it has no GPU h100") {
		t.Errorf("the reason is %q", reply.Reason)
	}
	end(l, one)
	if free := l.ownHost().freeGPUs(); free[0].Free+free[1].Free != 1000 || free[2].Free != 1000 {
		t.Errorf("free: %v", free)
	}
	end(l, two)
	if gpus := l.ownHost().gpus; len(gpus) != 0 {
		t.Errorf("left: %v", gpus)
	}
}

// Whatever is asked and given back in whatever order, no device is granted beyond
// itself, and what a plan takes for fitting fits.
func TestGPUsNeverOvercommit(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		l := gpuLedger([]string{"a", "a", "b c", "b", "b"}[:1+rng.IntN(5)]...)
		var claims []*claim
		for i := range 40 {
			need := GPU{[]GPUShare{100, 300, 500, 700, 1000, 2000}[rng.IntN(6)], []string{"", "a", "b"}[rng.IntN(3)]}
			slots := SlotRange(Slot(i*4), Slot(i*4+1+rng.IntN(3)))
			if rng.IntN(3) == 0 && len(claims) > 0 {
				at := rng.IntN(len(claims))
				end(l, claims[at])
				claims = append(claims[:at], claims[at+1:]...)
			}
			could := gpuSlots(l.ownHost().freeGPUs(), need)
			c, reply := admit(l, withGPU(need, 1000), slots, false)
			if want := min(could, slots.Len()); reply.Granted.Len() != want {
				t.Fatalf("seed %d: %s slots with %s granted, and %d fit of %v", seed, reply.Granted, need, want, l.ownHost().freeGPUs())
			}
			if c != nil {
				claims = append(claims, c)
			}
			for _, f := range l.ownHost().freeGPUs() {
				if f.Free < 0 || f.Free > wholeGPU {
					t.Fatalf("seed %d: %v", seed, l.ownHost().freeGPUs())
				}
			}
		}
	}
}

// A peer whose store was lost learns from labels which devices are taken.
func TestGPUsAreBookedAgain(t *testing.T) {
	p, now := newTestPeer("a")
	step(p, now, HostChanged{Host: Host{ID: "h", Drivers: []string{DriverProcess}, GPUs: []Device{{ID: "GPU-1", Model: "a100"}, {ID: "GPU-2", Model: "a100"}}}})
	id := AllocationID{ClaimID{AskID{"s", 1, 2}, PeerRef{"a", 7}}, 3}
	labels := Labels(id, WorkSpec{UID: "u", Key: AppKey{"default", "a"}, Component: "c", Spec: withGPU(GPU{500, "a100"}, 9), Devices: []string{"GPU-2"}})
	step(p, now, WorkListed{Driver: DriverProcess, Work: []Found{{ID: id, Labels: labels, State: WorkState{State: AllocRunning}}}})
	if free := p.ledger.ownHost().freeGPUs(); free[0].Free != 1000 || free[1].Free != 500 {
		t.Errorf("free: %v", free)
	}
	for _, text := range []string{"x/a", "-5/a", "99999999/a"} {
		labels[labelGPU] = text
		if _, err := FromLabels(labels); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

// A plan asks those that have such devices free, and says what others lack.
func TestPlanCountsGPUs(t *testing.T) {
	in := planFor(4, Place{}, peersFor(3))
	c := in.App.Components["c"]
	c.Resources.GPU = GPU{500, "a100"}
	in.App.Components["c"] = c
	in.Candidates[1].Digest.GPUs = []FreeGPU{{Model: "A100", Free: 600}, {Model: "A100", Free: 1000}, {Model: "T4", Free: 1000}}
	in.Candidates[2].Digest.GPUs = []FreeGPU{{Model: "A100", Free: 400}}
	r := Plan(in)
	if r.Assign["p001"].Len() != 3 || r.Unplaced.Len() != 1 {
		t.Errorf("placed %v", r.Assign)
	}
	if why := considered(t, r, "p000").Reason; why != "no room: it has no GPU a100" {
		t.Errorf("p000: %q", why)
	}
	if why := considered(t, r, "p002").Reason; !strings.Contains(why, "no device has that left") {
		t.Errorf("p002: %q", why)
	}
	// What was asked of a peer since its digest counts.
	p, now := newTestPeer("a")
	step(p, now, DigestChanged{Digest: Digest{Peer: PeerRef{"b", 1}, GPUs: []FreeGPU{{Model: "A100", Free: 1000}, {Model: "evil", Free: 1 << 40}}}})
	p.members.charge(now.Mono, "b", c, 1)
	for _, cand := range p.members.candidates(now.Mono) {
		if cand.Digest.Peer.Peer == "b" && (cand.Digest.GPUs[0].Free != 500 || cand.Digest.GPUs[1].Free != 1000) {
			t.Errorf("b has %v", cand.Digest.GPUs)
		}
	}
}
