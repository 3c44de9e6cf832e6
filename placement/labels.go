package placement

import (
	"fmt"
	"strconv"
	"strings"
)

// Labels that work is started with: enough to book it again when the ledger
// was lost.
const (
	labelUID       = "hansa.uid"
	labelNamespace = "hansa.namespace"
	labelApp       = "hansa.app"
	labelComponent = "hansa.component"
	labelClaim     = "hansa.claim"
	labelSlot      = "hansa.slot"
	labelVersion   = "hansa.version"
	labelSpec      = "hansa.spec"
	labelNeed      = "hansa.need"    // milli-CPU/memory bytes/disk bytes
	labelFence     = "hansa.fence"   // WorkSpec.Fence, of exclusive work
	labelVolumes   = "hansa.volumes" // name=bytes,…
	labelGPU       = "hansa.gpu"     // thousandths/model
	labelDevices   = "hansa.devices" // those that it has, with commas between
	labelHost      = "hansa.host"    // where it is not the peer's own
)

// Labels are what a driver must keep beside the work and give back in Found.
func Labels(id AllocationID, spec WorkSpec) map[string]string {
	need, hash := spec.Spec.Takes(), spec.SpecHash
	if hash == 0 {
		hash = SpecHash(spec.Spec)
	}
	labels := map[string]string{
		labelUID:       string(spec.UID),
		labelNamespace: spec.Key.Namespace,
		labelApp:       spec.Key.App,
		labelComponent: spec.Component,
		labelClaim:     id.Claim.String(),
		labelSlot:      strconv.FormatUint(uint64(id.Slot), 10),
		labelVersion:   spec.Version.String(),
		labelSpec:      strconv.FormatUint(hash, 36),
		labelNeed:      needText(need),
	}
	if spec.Fence > 0 {
		labels[labelFence] = strconv.FormatUint(spec.Fence, 10)
	}
	if g := need.GPU; g.Count > 0 {
		labels[labelGPU] = fmt.Sprintf("%d/%s", g.Count, g.Model)
		labels[labelDevices] = strings.Join(spec.Devices, ",")
	}
	if spec.Host != "" {
		labels[labelHost] = spec.Host
	}
	if len(spec.Spec.Volumes) > 0 {
		var sizes []string
		for _, name := range sortedKeys(spec.Spec.Volumes) {
			sizes = append(sizes, fmt.Sprintf("%s=%d", name, spec.Spec.Volumes[name].Size))
		}
		labels[labelVolumes] = strings.Join(sizes, ",")
	}
	return labels
}

// needText is what a slot takes of its host, as the label has it.
func needText(need Resources) string {
	text := strconv.AppendInt(nil, int64(need.CPU), 10)
	text = strconv.AppendInt(append(text, '/'), int64(need.Memory), 10)
	return string(strconv.AppendInt(append(text, '/'), int64(need.Disk), 10))
}

// Booking is what FromLabels reads.
type Booking struct {
	ID        AllocationID
	UID       UID
	Key       AppKey
	Component string
	Version   Version
	SpecHash  uint64
	Need      Resources
	Fence     uint64            // 0 when the work is not exclusive
	Volumes   map[string]Volume // with their sizes alone
	Devices   []string
	Host      string // "" is the peer's own
}

// FromLabels reads what Labels wrote.
func FromLabels(labels map[string]string) (Booking, error) {
	b := Booking{
		UID: UID(labels[labelUID]), Key: AppKey{labels[labelNamespace], labels[labelApp]}, Component: labels[labelComponent], Host: labels[labelHost],
	}
	fail := func(err error) (Booking, error) { return Booking{}, fmt.Errorf("labels of work: %w", err) }
	claim, err := ParseClaimID(labels[labelClaim])
	if err != nil {
		return fail(err)
	}
	slot, err := strconv.ParseUint(labels[labelSlot], 10, 32)
	if err != nil || slot >= SlotsMax {
		return fail(fmt.Errorf("slot %q: %w", labels[labelSlot], ErrInvalid))
	}
	b.ID = AllocationID{Claim: claim, Slot: Slot(slot)}
	if b.Version, err = ParseVersion(labels[labelVersion]); err != nil {
		return fail(err)
	}
	if b.SpecHash, err = strconv.ParseUint(labels[labelSpec], 36, 64); err != nil {
		return fail(err)
	}
	if _, err := fmt.Sscanf(labels[labelNeed], "%d/%d/%d", (*int64)(&b.Need.CPU), (*int64)(&b.Need.Memory), (*int64)(&b.Need.Disk)); err != nil {
		return fail(fmt.Errorf("resources %q: %w", labels[labelNeed], err))
	}
	if text := labels[labelFence]; text != "" {
		if b.Fence, err = strconv.ParseUint(text, 10, 64); err != nil {
			return fail(fmt.Errorf("fence %q: %w", text, err))
		}
	}
	if b.Volumes, err = volumesFrom(labels[labelVolumes]); err != nil {
		return fail(err)
	}
	if text := labels[labelGPU]; text != "" {
		count, model, _ := strings.Cut(text, "/")
		n, err := strconv.ParseInt(count, 10, 32)
		if err != nil || n <= 0 || n > gpusMax*wholeGPU {
			return fail(fmt.Errorf("gpu %q: %w", clip(text), ErrInvalid))
		}
		b.Need.GPU = GPU{GPUShare(n), model}
		if ids := labels[labelDevices]; ids != "" {
			b.Devices = strings.Split(ids, ",")
		}
	}
	if b.UID == "" || b.Component == "" || len(b.Host) > hostBytesMax || b.Need.CPU < 0 || b.Need.Memory < 0 || b.Need.Disk < 0 {
		return fail(ErrInvalid)
	}
	return b, nil
}

func volumesFrom(text string) (map[string]Volume, error) {
	if text == "" {
		return nil, nil
	}
	out := map[string]Volume{}
	for _, item := range strings.Split(text, ",") {
		name, size, _ := strings.Cut(item, "=")
		n, err := strconv.ParseInt(size, 10, 64)
		if err != nil || n < 0 || n > bytesMax || len(out) >= volumesMax {
			return nil, fmt.Errorf("volumes %q: %w", clip(text), ErrInvalid)
		}
		out[name] = Volume{Size: Bytes(n)}
	}
	return out, nil
}
