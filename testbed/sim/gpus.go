package sim

import (
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/hansa-mesh/hansa/placement"
)

// gpusName is the component that has GPUs.
const gpusName = "train"

// addGPUs gives an app a component that wants a share of a GPU, or whole ones.
func addGPUs(app placement.App, rng *rand.Rand) {
	n := 1 + rng.IntN(2)
	app.Components[gpusName] = placement.Component{
		Server: &placement.Server{Process: &placement.Process{Command: []string{"train"}}}, Replicas: &n,
		Resources: placement.Resources{CPU: 100, Memory: 32 << 20, GPU: placement.GPU{
			Count: []placement.GPUShare{250, 400, 600, 1000, 2000}[rng.IntN(5)], Model: []string{"", "a100"}[rng.IntN(2)],
		}},
	}
}

// devices is the GPUs of a machine: of every other one there are three.
func (p *peer) devices() []placement.Device {
	if !p.w.plan.GPUs {
		return nil
	}
	out := []placement.Device{{ID: "a0", Model: "NVIDIA A100"}, {ID: "a1", Model: "NVIDIA A100"}}
	if slices.Index(p.w.peers, p)%2 == 0 {
		out = append(out, placement.Device{ID: "t0", Model: "NVIDIA T4"})
	}
	return out
}

// gpusLeft is what runs leave of each device of a machine, but for one run.
func (p *peer) gpusLeft(but placement.AllocationID) map[string]placement.GPUShare {
	left := map[string]placement.GPUShare{}
	for _, d := range p.devices() {
		left[d.ID] = 1000
	}
	for id, r := range p.runs {
		if id != but {
			for _, d := range r.spec.Devices {
				left[d] -= min(r.spec.Spec.Resources.GPU.Count, 1000)
			}
		}
	}
	return left
}

// checkGPUs looks at work that is about to start: it has the devices that it asked
// for, and they have room for it.
func (p *peer) checkGPUs(id placement.AllocationID, spec placement.WorkSpec) {
	need := spec.Spec.Resources.GPU
	if want := int(max(need.Count, min(need.Count, 1)*1000) / 1000); len(spec.Devices) != want {
		p.w.fail("%s: %s %s wants %s, and was given %v", p.id, spec.Component, id, need, spec.Devices)
		return
	}
	left := p.gpusLeft(id)
	for _, d := range spec.Devices {
		left[d] -= min(need.Count, 1000)
		if left[d] < 0 {
			p.w.fail("%s: %s %s has device %s, which others have too: %v", p.id, spec.Component, id, d, left)
		}
		if need.Model != "" && !strings.HasPrefix(d, need.Model[:1]) {
			p.w.fail("%s: %s %s wants %s, and was given %v", p.id, spec.Component, id, need, spec.Devices)
		}
	}
}

// gpusFor says whether a machine has devices for one more slot.
func (p *peer) gpusFor(need placement.GPU) bool {
	if need.Count == 0 {
		return true
	}
	whole := map[string]int{}
	left := p.gpusLeft(placement.AllocationID{})
	if p.w.forgot { // what was booked again holds room until a person looks at it
		for id, used := range p.core.UsedGPUs() {
			left[id] = 1000 - used
		}
	}
	for id, free := range left {
		switch {
		case need.Model != "" && id[:1] != need.Model[:1]:
		case need.Count < 1000 && free >= need.Count:
			return true
		case free == 1000:
			whole[id[:1]]++
		}
	}
	return need.Count >= 1000 && slices.Max([]int{0, whole["a"], whole["t"]}) >= int(need.Count/1000)
}
