package bench

import (
	"bytes"
	"container/heap"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// AzureHost is the host that the recorded machines are placed on.
var AzureHost = Shape{Capacity: placement.Resources{CPU: 48_000, Memory: 256 << 30}}

// VM is one recorded virtual machine.
type VM struct {
	Batch int           // of one tenant's request
	Start time.Duration // since the first
	Life  time.Duration
	Need  placement.Resources
}

// azureBin is how finely starts are recorded: machines of one bin are taken to
// come one after the other within it.
const azureBin = 5 * time.Minute

// lifeColumn is which of the columns that are read is how long a machine ran.
const lifeColumn = 2

// ReadAzure reads the machines that start within a span of the first, its last
// moment included, from the folder azure-vm of a data folder: packed by xz, which is called, or not.
func ReadAzure(ctx context.Context, dir string, span time.Duration) ([]VM, error) {
	path := filepath.Join(dir, "azure-vm", "azure_v1_dev.csv")
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		path += ".xz"
		if _, err = os.Stat(path); err == nil {
			text, err = exec.CommandContext(ctx, "xz", "--decompress", "--stdout", path).Output()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	all, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil || len(all) < 2 {
		return nil, fmt.Errorf("%s: not a table with a head: %v", path, err)
	}
	var out []VM
	for _, row := range pick(all, []string{"batch", "start_s", "duration_s", "vcpu", "mem_gb"}) {
		var n [5]float64
		for i, f := range row {
			if i == lifeColumn && f == "" {
				n[i] = math.MaxInt32 // it outlived the recording
				continue
			}
			if n[i], err = strconv.ParseFloat(f, 64); err != nil {
				return nil, fmt.Errorf("%s: %q is not a number", path, f)
			}
		}
		out = append(out, VM{
			Batch: int(n[0]), Start: time.Duration(n[1]) * time.Second, Life: time.Duration(n[2]) * time.Second,
			Need: placement.Resources{CPU: placement.CPU(n[3] * 1000), Memory: placement.Bytes(n[4] * (1 << 30))},
		})
	}
	slices.SortStableFunc(out, func(a, b VM) int { return int(a.Start/time.Second) - int(b.Start/time.Second) })
	first := out[0].Start
	for i := range out {
		if out[i].Start -= first; out[i].Start > span {
			return out[:i], nil
		}
	}
	return out, nil
}

// AzureConfig is one run.
type AzureConfig struct {
	VMs      []VM
	Host     Shape // default AzureHost
	Sites    int   // default 16
	Seed     uint64
	Rule     Rule          // default RuleHansa
	Age      time.Duration // of the digests that sites plan from
	Progress func(share float64)
}

// AzureResult is what came of it.
type AzureResult struct {
	VMs     int     `json:"vms"`
	Hosts   int     `json:"hosts"`    // that were needed for no machine to be refused
	Bound   int     `json:"bound"`    // below which no way of packing gets
	AtOnce  float64 `json:"at_once"`  // per cent of the machines granted by the first peer asked: in one round trip
	AtWorst int     `json:"at_worst"` // rounds of asks of the machine that took most
}

// Azure places machines as they come, each at the site that its batch comes to,
// over the hosts of all sites, and ends them. When no host has room one is added at
// that site, so that none is refused: what is counted is how many it took.
func Azure(ctx context.Context, cfg AzureConfig) (AzureResult, error) {
	if cfg.Host.Capacity == (placement.Resources{}) {
		cfg.Host = AzureHost
	}
	if cfg.Sites <= 0 {
		cfg.Sites = 16
	}
	if cfg.Rule == "" {
		cfg.Rule = RuleHansa
	}
	m := newMesh(cfg.Sites, cfg.Age, cfg.Seed)
	m.pooled = cfg.Rule == RuleHansa
	var ends endHeap
	res := AzureResult{VMs: len(cfg.VMs), Bound: bound(cfg.VMs, cfg.Host)}
	for i, at := range starts(cfg.VMs) {
		if err := ctx.Err(); err != nil {
			return res, err
		}
		v := cfg.VMs[i]
		for len(ends) > 0 && ends[0].at <= v.Start {
			m.free(heap.Pop(&ends).(end).grant)
		}
		m.pass(at)
		r := Request{Need: v.Need}
		site := v.Batch % cfg.Sites
		g, ok := m.choose(cfg.Rule, site, r)
		if !ok {
			m.add(cfg.Host, site)
			n := len(m.hosts) - 1
			if m.pooled {
				n = slices.Index(m.hosts, m.pools[site])
			}
			if g, ok = m.give(n, r); !ok {
				return res, fmt.Errorf("a machine of %s CPU and %s fits no host", v.Need.CPU, v.Need.Memory)
			}
		}
		heap.Push(&ends, end{v.Start + v.Life, i, g})
		if cfg.Progress != nil && i%1000 == 0 {
			cfg.Progress(float64(i) / float64(len(cfg.VMs)))
		}
	}
	res.Hosts = m.shapes
	all := 0
	for n, count := range m.rounds[1:] {
		all += count
		if count > 0 {
			res.AtWorst = n + 1
		}
	}
	if all > 0 {
		res.AtOnce = 100 * float64(m.rounds[1]) / float64(all)
	}
	return res, nil
}

// starts is when each machine comes: those of a bin at even distances within it.
func starts(vms []VM) []time.Duration {
	out := make([]time.Duration, len(vms))
	for from := 0; from < len(vms); {
		to := from
		for to < len(vms) && vms[to].Start == vms[from].Start {
			to++
		}
		for i := from; i < to; i++ {
			out[i] = vms[i].Start + azureBin*time.Duration(i-from)/time.Duration(to-from)
		}
		from = to
	}
	return out
}

// bound is the hosts that what runs at once takes at the least, if it could be cut
// up at will.
func bound(vms []VM, host Shape) int {
	var ends endHeap
	var used placement.Resources
	most := 0
	for i, v := range vms {
		for len(ends) > 0 && ends[0].at <= v.Start {
			used = used.Sub(vms[heap.Pop(&ends).(end).vm].Need)
		}
		used = used.Add(v.Need)
		heap.Push(&ends, end{at: v.Start + v.Life, vm: i})
		cpu := (used.CPU + host.Capacity.CPU - 1) / host.Capacity.CPU
		memory := (used.Memory + host.Capacity.Memory - 1) / host.Capacity.Memory
		most = max(most, int(cpu), int(memory))
	}
	return most
}

// end is when a machine ends.
type end struct {
	at    time.Duration
	vm    int
	grant grant
}

// endHeap has the next end on top.
type endHeap []end

func (h endHeap) Len() int { return len(h) }
func (h endHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].vm < h[j].vm
}
func (h endHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *endHeap) Push(x any)   { *h = append(*h, x.(end)) }
func (h *endHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}
