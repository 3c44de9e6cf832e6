package bench

import (
	"context"
	"testing"

	"github.com/hansa-mesh/hansa/placement"
)

func gpuRequest(count placement.GPUShare, models ...string) Request {
	return Request{Need: placement.Resources{CPU: 1000, GPU: placement.GPU{Count: count}}, Models: models}
}

func digestOf(cpu placement.CPU, model string, free ...placement.GPUShare) *placement.Digest {
	d := &placement.Digest{Free: placement.Resources{CPU: cpu}, Labels: map[string]string{modelLabel: model}}
	for _, f := range free {
		d.GPUs = append(d.GPUs, placement.FreeGPU{Model: model, Free: f})
	}
	return d
}

func TestFragments(t *testing.T) {
	for _, c := range []struct {
		name    string
		digest  *placement.Digest
		request Request
		want    float64
	}{
		{"a share that fits one of two", digestOf(4000, "A", 500, 200), gpuRequest(400), 200},
		{"a share that fits both", digestOf(4000, "A", 500, 400), gpuRequest(400), 0},
		{"whole ones", digestOf(4000, "A", 1000, 700), gpuRequest(1000), 700},
		{"more than are whole", digestOf(4000, "A", 1000, 700), gpuRequest(2000), 1700},
		{"too few cores", digestOf(500, "A", 1000, 700), gpuRequest(400), 1700},
		{"another model", digestOf(4000, "A", 1000), gpuRequest(400, "B"), 1000},
		{"no GPU asked for", digestOf(4000, "A", 1000), gpuRequest(0), 1000},
		{"none free", digestOf(4000, "A", 0), gpuRequest(400), 0},
	} {
		if got := fragments(c.digest, []typical{{c.request, 1}}); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	half := []typical{{gpuRequest(400), 0.75}, {gpuRequest(1000), 0.25}}
	if got := fragments(digestOf(4000, "A", 500), half); got != 125 {
		t.Errorf("of two kinds %v, want 125", got)
	}
}

func TestTypicalRequests(t *testing.T) {
	var requests []Request
	for i := range 100 {
		r := gpuRequest(1000)
		if i%10 == 0 {
			r = gpuRequest(500, "A", "B")
		}
		r.Need.Memory = placement.Bytes(i) // told apart by nothing
		requests = append(requests, r)
	}
	got := typicalOf(append(requests, gpuRequest(100)))
	if len(got) != 2 || got[0].share != 0.9 || got[0].request.Need.GPU.Count != 1000 || got[1].share != 0.1 {
		t.Errorf("%+v", got)
	}
}

// What a digest is thought to be after a request is what the ledger says it is.
func TestAfterIsWhatTheLedgerDoes(t *testing.T) {
	m := newMesh(1, 0, 1)
	m.add(Shape{Capacity: placement.Resources{CPU: 64_000, Memory: 64 << 30}, GPUs: 4, Model: "A"}, 0)
	for _, share := range []placement.GPUShare{300, 1000, 600, 0, 400, 100, 1000} {
		r := gpuRequest(share)
		want := after(&m.hosts[0].now, r, nil)
		if _, ok := m.give(0, r); !ok {
			t.Fatalf("%s does not fit", share)
		}
		got := m.hosts[0].now
		if got.Free != want.Free {
			t.Errorf("%s: %v free, want %v", share, got.Free, want.Free)
		}
		for i := range got.GPUs {
			if got.GPUs[i].Free != want.GPUs[i].Free {
				t.Errorf("%s: device %d has %s, want %s", share, i, got.GPUs[i].Free, want.GPUs[i].Free)
			}
		}
	}
}

// Descending keeps a whole device for those who need one.
func TestDescentKeepsWholeDevices(t *testing.T) {
	hosts := []Shape{{Capacity: placement.Resources{CPU: 8000, Memory: 8 << 30}, GPUs: 1, Model: "A"}, {Capacity: placement.Resources{CPU: 8000, Memory: 8 << 30}, GPUs: 1, Model: "B"}}
	m := newMesh(1, 0, 1)
	for _, h := range hosts {
		m.add(h, 0)
	}
	m.typical = []typical{{gpuRequest(1000, "A"), 0.5}, {gpuRequest(500), 0.5}}
	if g, ok := m.choose(RuleFGD, 0, gpuRequest(500)); !ok || g.host != 1 {
		t.Errorf("a share went to host %d, which another kind needs whole", g.host)
	}
	res, err := OpenB(context.Background(), OpenBConfig{Hosts: hosts, Requests: []Request{gpuRequest(1000, "A"), gpuRequest(1000, "B")}, Seed: 1, Rule: RuleFGD})
	if err != nil || res.At100 != 100 {
		t.Errorf("%+v, %v", res, err)
	}
}
