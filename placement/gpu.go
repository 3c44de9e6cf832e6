package placement

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"k8s.io/apimachinery/pkg/api/resource"
)

// wholeGPU is one device, in the thousandths that are counted with.
const wholeGPU = 1000

// GPUShare is a number of GPUs in thousandths. Its text is a Kubernetes quantity.
type GPUShare int64

// String is the quantity, "500m" or "2".
func (g GPUShare) String() string {
	return resource.NewMilliQuantity(int64(g), resource.DecimalSI).String()
}

// MarshalJSON writes the quantity as a string.
func (g GPUShare) MarshalJSON() ([]byte, error) { return json.Marshal(g.String()) }

// UnmarshalJSON reads a quantity: 0.5, "500m", 2.
func (g *GPUShare) UnmarshalJSON(data []byte) error {
	q, err := unmarshalQuantity(data)
	if err != nil {
		return err
	}
	*g = GPUShare(amount(q, resource.Milli))
	return nil
}

// GPU is what a slot needs of them: a share of one device, or whole devices of one
// model. The zero value is none.
type GPU struct {
	Count GPUShare `json:"count" cbor:"c"`
	Model string   `json:"model,omitempty" cbor:"m,omitempty"` // words that the device's name must have; empty for any
}

// String is "500m" or "2 a100".
func (g GPU) String() string { return strings.TrimSpace(g.Count.String() + " " + g.Model) }

// MarshalJSON writes a quantity, or an object where a model is asked for.
func (g GPU) MarshalJSON() ([]byte, error) {
	if g.Model == "" {
		return json.Marshal(g.Count)
	}
	type plain GPU
	return json.Marshal(plain(g))
}

// UnmarshalJSON reads 1, 0.5, "500m" or {count: 0.5, model: a100}.
func (g *GPU) UnmarshalJSON(data []byte) error {
	*g = GPU{}
	if len(data) == 0 || data[0] != '{' {
		return g.Count.UnmarshalJSON(data)
	}
	type plain GPU
	var p plain
	dec := json.NewDecoder(strings.NewReader(string(data)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		return errors.New("not a number of GPUs: write for instance 1, 0.5 or {count: 1, model: a100}")
	}
	*g = GPU(p)
	return nil
}

// Device is a GPU of a host.
type Device struct {
	ID     string `json:"id"` // as the runtimes name it
	Model  string `json:"model"`
	Memory Bytes  `json:"memory,omitempty"`
}

// FreeGPU is what is left of a device.
type FreeGPU struct {
	Model string   `json:"model"`
	Free  GPUShare `json:"free"`

	id string // at its own ledger
}

// fits says whether a device is of the model that is asked for: it has all of
// its words.
func (g GPU) fits(model string) bool {
	have := words(model)
	return !slices.ContainsFunc(words(g.Model), func(w string) bool { return !slices.Contains(have, w) })
}

func words(model string) []string {
	return strings.FieldsFunc(strings.ToLower(model), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
}

// takeGPU finds devices for one slot, takes it off them, and returns which; none
// when there is no room. A share goes to the device that it fills best, whole
// ones are of one model.
func takeGPU(free []FreeGPU, need GPU) []int {
	if need.Count < wholeGPU {
		best := -1
		for i, f := range free {
			if f.Free >= need.Count && need.fits(f.Model) && (best < 0 || f.Free < free[best].Free) {
				best = i
			}
		}
		if best < 0 {
			return nil
		}
		free[best].Free -= need.Count
		return []int{best}
	}
	want := int(need.Count / wholeGPU)
	for _, first := range free {
		if !need.fits(first.Model) {
			continue
		}
		var taken []int
		for i, f := range free {
			if len(taken) < want && f.Model == first.Model && f.Free == wholeGPU {
				taken = append(taken, i)
			}
		}
		if len(taken) == want {
			for _, i := range taken {
				free[i].Free = 0
			}
			return taken
		}
	}
	return nil
}

// gpuSlots is for how many slots there are GPUs.
func gpuSlots(free []FreeGPU, need GPU) int {
	n := 0
	whole := map[string]int{}
	for _, f := range free {
		switch {
		case !need.fits(f.Model):
		case need.Count < wholeGPU:
			n += int(max(0, f.Free) / need.Count)
		case f.Free == wholeGPU:
			whole[f.Model]++
		}
	}
	for _, devices := range whole {
		n += devices / int(need.Count/wholeGPU)
	}
	return n
}

// takeGPUs takes so many slots off what is free, and leaves the given list alone.
func takeGPUs(free []FreeGPU, need GPU, slots int) []FreeGPU {
	if need.Count <= 0 || len(free) == 0 {
		return free
	}
	free = slices.Clone(free)
	for range slots {
		if takeGPU(free, need) == nil {
			break
		}
	}
	return free
}

// shortOfGPU says in words what there is too little of, or "".
func shortOfGPU(need GPU, free []FreeGPU) string {
	switch {
	case need.Count <= 0 || gpuSlots(free, need) > 0:
		return ""
	case !slices.ContainsFunc(free, func(f FreeGPU) bool { return need.fits(f.Model) }):
		return strings.TrimSpace("it has no GPU " + need.Model)
	case need.Count < wholeGPU:
		return "a slot needs " + need.String() + " of one GPU, and no device has that left"
	}
	return "a slot needs " + need.String() + " whole GPUs, and so many are not free"
}

// The ledger's side.

// allot chooses devices of a host for those of the slots for which there are
// some.
func (b *hostBook) allot(need GPU, slots Slots) (Slots, map[Slot][]string) {
	if need.Count <= 0 {
		return slots, nil
	}
	free, out, devices := b.freeGPUs(), Slots{}, map[Slot][]string{}
	for n := range slots.All() {
		taken := takeGPU(free, need)
		if taken == nil {
			break
		}
		out = out.Add(n)
		for _, i := range taken {
			devices[n] = append(devices[n], free[i].id)
		}
	}
	return out, devices
}

// chargeGPUs adds (or with -1 takes off) what a slot has of devices.
func (b *hostBook) chargeGPUs(devices []string, need GPU, sign GPUShare) {
	for _, id := range devices {
		if b.gpus[id] += sign * min(need.Count, wholeGPU); b.gpus[id] == 0 {
			delete(b.gpus, id)
		}
	}
}

// boundedGPUs is what a digest may say of them.
func boundedGPUs(free []FreeGPU) []FreeGPU {
	out := slices.Clone(free[:min(len(free), gpusMax)])
	for i := range out {
		out[i] = FreeGPU{Model: clip(out[i].Model), Free: max(0, min(out[i].Free, wholeGPU))}
	}
	return out
}

// UsedGPUs is what each device of the peer's own host has granted.
func (p *Peer) UsedGPUs() map[string]GPUShare {
	out := map[string]GPUShare{}
	for id, n := range p.ledger.ownHost().gpus {
		out[id] = n
	}
	return out
}

const gpusMax = 64 // devices of one host, and of one slot

// gpu checks what is asked of them.
func (v *validation) gpu(c Component) {
	g := c.Resources.GPU
	const field = ".resources.gpu"
	switch {
	case g == GPU{}:
		return
	case g.Count <= 0 || g.Count > gpusMax*wholeGPU:
		v.bad(field, g.Count.String(), "out of range", fmt.Sprintf("more than 0, at most %d", gpusMax))
	case g.Count > wholeGPU && g.Count%wholeGPU != 0:
		v.bad(field, g.Count.String(), "a share of more than one GPU", "a part of one, for instance 0.5, or whole ones")
	}
	if g.Model != "" && !labelForm.MatchString(g.Model) {
		v.bad(field+".model", g.Model, "not a model", `letters, digits and "-", for instance a100`)
	}
	if !v.lenient && (c.Function != nil || c.Server != nil && c.Server.Process == nil) {
		v.bad(field, g.String(), "a "+c.Kind()+" of this kind can't be given one in this release", "ask for it in a container or a process")
	}
}
