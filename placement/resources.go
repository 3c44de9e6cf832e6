package placement

import (
	"encoding/json"
	"fmt"
	"math"
	"regexp"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"
)

// CPU is in thousandths of a core. Its text is a Kubernetes quantity ("250m").
type CPU int64

// Bytes is an amount of memory or disk. Its text is a Kubernetes quantity
// ("128Mi").
type Bytes int64

// Duration is a time.Duration whose text is Go's ("1m30s").
type Duration time.Duration

// Resources is what a slot needs, or what a host has.
type Resources struct {
	CPU    CPU   `json:"cpu,omitempty"`
	Memory Bytes `json:"memory,omitempty"`
	Disk   Bytes `json:"disk,omitempty"`
	// GPU is of one slot, and counted by device (gpu.go): sums and differences
	// leave it out.
	GPU GPU `json:"gpu,omitzero"`
}

// Add is r + o.
func (r Resources) Add(o Resources) Resources {
	return Resources{CPU: r.CPU + o.CPU, Memory: r.Memory + o.Memory, Disk: r.Disk + o.Disk}
}

// Sub is r - o; it may be negative.
func (r Resources) Sub(o Resources) Resources {
	return Resources{CPU: r.CPU - o.CPU, Memory: r.Memory - o.Memory, Disk: r.Disk - o.Disk}
}

// Times is r for n slots. The caller bounds n and r so that nothing overflows
// (SlotsMax × ResourceMax fits in an int64).
func (r Resources) Times(n int) Resources {
	return Resources{CPU: r.CPU * CPU(n), Memory: r.Memory * Bytes(n), Disk: r.Disk * Bytes(n)}
}

// Fits is how many slots that need n fit into r; math.MaxInt32 when n is zero.
func (r Resources) Fits(n Resources) int {
	count := int64(math.MaxInt32)
	for _, d := range [...]struct{ have, need int64 }{
		{int64(r.CPU), int64(n.CPU)}, {int64(r.Memory), int64(n.Memory)}, {int64(r.Disk), int64(n.Disk)},
	} {
		if d.need > 0 {
			count = min(count, max(0, d.have/d.need))
		}
	}
	return int(count)
}

// String is the quantity, "250m" or "2".
func (c CPU) String() string {
	return resource.NewMilliQuantity(int64(c), resource.DecimalSI).String()
}

// String is the quantity, "128Mi".
func (b Bytes) String() string { return resource.NewQuantity(int64(b), resource.BinarySI).String() }

// String is Go's form of the duration.
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalJSON writes the quantity as a string.
func (c CPU) MarshalJSON() ([]byte, error) { return json.Marshal(c.String()) }

// MarshalJSON writes the quantity as a string.
func (b Bytes) MarshalJSON() ([]byte, error) { return json.Marshal(b.String()) }

// MarshalJSON writes the duration as a string.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON reads a quantity: "250m", "2", or the number 2.
func (c *CPU) UnmarshalJSON(data []byte) error {
	q, err := unmarshalQuantity(data)
	if err != nil {
		return err
	}
	*c = CPU(amount(q, resource.Milli))
	return nil
}

// UnmarshalJSON reads a quantity: "128Mi", or a number of bytes.
func (b *Bytes) UnmarshalJSON(data []byte) error {
	q, err := unmarshalQuantity(data)
	if err != nil {
		return err
	}
	*b = Bytes(amount(q, 0))
	return nil
}

// UnmarshalJSON reads a duration: "1m30s".
func (d *Duration) UnmarshalJSON(data []byte) error {
	var s string
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("%s is not a duration: write it as text, for instance \"30s\"", data)
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%q is not a duration: write for instance \"30s\" or \"1m30s\"", s)
	}
	*d = Duration(v)
	return nil
}

// amount is q in units of scale. Past what an int64 holds it is the largest or
// the smallest, which validation refuses: the quantity's own arithmetic makes
// 0 of 1e30.
func amount(q resource.Quantity, scale resource.Scale) int64 {
	switch {
	case q.Cmp(*resource.NewScaledQuantity(math.MaxInt64, scale)) >= 0:
		return math.MaxInt64
	case q.Cmp(*resource.NewScaledQuantity(math.MinInt64, scale)) <= 0:
		return math.MinInt64
	}
	return q.ScaledValue(scale)
}

// quantityForm bounds what is handed to the parser of quantities, which takes
// minutes for 1e-99999999.
var quantityForm = regexp.MustCompile(`^[-+]?([0-9]{1,24}(\.[0-9]{0,24})?|\.[0-9]{1,24})([KMGTPE]i|[numkMGTPE]|[eE][-+]?[0-9]{1,2})?$`)

func unmarshalQuantity(data []byte) (resource.Quantity, error) {
	text := string(data)
	if len(data) > 0 && data[0] == '"' {
		if err := json.Unmarshal(data, &text); err != nil {
			return resource.Quantity{}, err
		}
	}
	if quantityForm.MatchString(text) {
		if q, err := resource.ParseQuantity(text); err == nil {
			return q, nil
		}
	}
	return resource.Quantity{}, fmt.Errorf("%q is not a quantity: write for instance \"250m\", \"2\" or \"128Mi\"", clip(text))
}
