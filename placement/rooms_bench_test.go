package placement

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// mixedHosts is hosts of a few kinds, as a large cluster has them.
func mixedHosts(r *rooms, n int) {
	for i := range n {
		id := fmt.Sprintf("h%06d", i)
		switch i % 8 {
		case 0, 1:
			r.put(id, Resources{CPU: 96_000, Memory: 384 << 30, Disk: 1 << 40}, gpusOf("G2", 8))
		case 2:
			r.put(id, Resources{CPU: 104_000, Memory: 512 << 30, Disk: 1 << 40}, gpusOf("T4", 2))
		case 3:
			r.put(id, Resources{CPU: 16_000, Memory: 120 << 30, Disk: 1 << 40}, gpusOf("P100", 2))
		case 4, 5:
			r.put(id, Resources{CPU: 64_000, Memory: 256 << 30, Disk: 1 << 40}, nil)
		default:
			r.put(id, Resources{CPU: 16_000, Memory: 64 << 30, Disk: 1 << 40}, nil)
		}
	}
}

// mixedNeeds is shapes of slots, two fifths of them with GPUs.
func mixedNeeds(rng *rand.Rand, n int) []Resources {
	var out []Resources
	for range n {
		need := Resources{CPU: CPU(250 * (1 + rng.IntN(32))), Memory: Bytes(1+rng.IntN(32)) << 29}
		switch rng.IntN(10) {
		case 0, 1:
			need.GPU.Count = GPUShare(100 * (1 + rng.IntN(9)))
		case 2:
			need.GPU.Count = wholeGPU
		case 3:
			need.GPU.Count = wholeGPU << rng.IntN(4)
		}
		out = append(out, need)
	}
	return out
}

type taken struct {
	id      string
	need    Resources
	devices []string
}

// BenchmarkRooms is one slot that comes and one that goes, on hosts that are four
// fifths full. What is waited for a processor is not in the median of a choice.
func BenchmarkRooms(b *testing.B) {
	for _, shapes := range []int{1, 20, 60} {
		for _, hosts := range []int{1000, 10_000, 100_000} {
			b.Run(fmt.Sprintf("%dshapes/%dhosts", shapes, hosts), func(b *testing.B) {
				r := newRooms()
				mixedHosts(r, hosts)
				rng := rand.New(rand.NewPCG(1, 2))
				needs := mixedNeeds(rng, shapes)
				var all []taken
				var spent []time.Duration
				place := func() bool {
					need := needs[rng.IntN(len(needs))]
					r.asked(need, 1, "", nil)
					from := time.Now()
					id, devices, ok := r.choose(need, nil)
					spent = append(spent, time.Since(from))
					if ok {
						r.take(id, need, devices)
						all = append(all, taken{id, need, devices})
					}
					return ok
				}
				full := r.free()
				for place() && r.free().CPU > full.CPU/5 && r.free().Memory > full.Memory/5 {
				}
				spent = nil
				b.ResetTimer()
				for range b.N {
					n := rng.IntN(len(all))
					t := all[n]
					all[n] = all[len(all)-1]
					all = all[:len(all)-1]
					r.give(t.id, t.need, t.devices)
					place()
				}
				slices.Sort(spent)
				b.ReportMetric(float64(spent[len(spent)/2]), "choose-p50-ns")
				b.ReportMetric(float64(spent[len(spent)*9/10]), "choose-p90-ns")
				b.ReportMetric(float64(len(r.states)-r.idle), "states")
			})
		}
	}
}
