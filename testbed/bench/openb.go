package bench

import (
	"context"
	"encoding/csv"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// Traces are the lists of requests that the FGD paper evaluates and that have
// GPUs asked for in different ways.
var Traces = []string{"default", "cpu100", "gpushare60", "multigpu30", "gpuspec20"}

// PublishedFGD is the share of the GPUs that the paper's own policy allocated when
// 100 % and 130 % of them had been asked for, in per cent, mean of ten seeds.
var PublishedFGD = map[string][2]float64{
	"default": {95.2, 95.4}, "cpu100": {95.2, 95.3}, "gpushare60": {91.2, 91.4}, "multigpu30": {96.4, 96.5}, "gpuspec20": {94.7, 94.8},
}

// ReadOpenB reads the hosts and one list of requests from the folder openb of a
// data folder.
func ReadOpenB(dir, trace string) (hosts []Shape, requests []Request, err error) {
	rows, err := readCSV(filepath.Join(dir, "openb", "openb_node_list_gpu_node.csv"), "cpu_milli", "memory_mib", "gpu", "model")
	if err != nil {
		return nil, nil, err
	}
	for _, row := range rows {
		n, err := numbers(row[:3])
		if err != nil {
			return nil, nil, err
		}
		hosts = append(hosts, Shape{
			Capacity: placement.Resources{CPU: placement.CPU(n[0]), Memory: placement.Bytes(n[1]) << 20},
			GPUs:     int(n[2]), Model: row[3],
		})
	}
	rows, err = readCSV(filepath.Join(dir, "openb", "openb_pod_list_"+trace+".csv"), "cpu_milli", "memory_mib", "num_gpu", "gpu_milli", "gpu_spec")
	if err != nil {
		return nil, nil, err
	}
	for _, row := range rows {
		n, err := numbers(row[:4])
		if err != nil {
			return nil, nil, err
		}
		r := Request{Need: placement.Resources{CPU: placement.CPU(n[0]), Memory: placement.Bytes(n[1]) << 20}}
		if n[2] > 0 {
			r.Need.GPU.Count = placement.GPUShare(n[2] * n[3])
		}
		if row[4] != "" {
			r.Models = strings.Split(row[4], "|")
			slices.Sort(r.Models)
			r.Models = slices.Compact(r.Models)
		}
		requests = append(requests, r)
	}
	return hosts, requests, nil
}

// readCSV reads the named columns of a file; one that the file has not is empty.
func readCSV(path string, columns ...string) ([][]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := csv.NewReader(f).ReadAll()
	if err != nil || len(all) == 0 {
		return nil, fmt.Errorf("%s: not a table with a head: %v", path, err)
	}
	return pick(all, columns), nil
}

func pick(all [][]string, columns []string) [][]string {
	var out [][]string
	for _, row := range all[1:] {
		picked := make([]string, len(columns))
		for i, name := range columns {
			if at := slices.Index(all[0], name); at >= 0 {
				picked[i] = row[at]
			}
		}
		out = append(out, picked)
	}
	return out
}

func numbers(fields []string) ([]int64, error) {
	var out []int64
	for _, f := range fields {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%q is not a number", f)
		}
		out = append(out, n)
	}
	return out, nil
}

// OpenBConfig is one run.
type OpenBConfig struct {
	Hosts    []Shape
	Requests []Request
	Seed     uint64
	Rule     Rule          // default RuleHansa
	Peers    int           // that take requests; default 1
	Age      time.Duration // of the digests that they plan from
	Rate     float64       // requests a second, of all; default 10. It matters with Age only
	Progress func(share float64)
}

// OpenBResult is what came of it. Shares are of the GPUs of all hosts, in per cent.
type OpenBResult struct {
	At100    float64 `json:"at_100"`
	At130    float64 `json:"at_130"`
	Requests int     `json:"requests"`
	Failed   int     `json:"failed"`
	Again    int     `json:"again"` // placed, but not at the first that was asked
}

// OpenB places requests one after the other, in an order drawn from the seed, and
// none departs; what finds no place is left out. It follows the evaluation of Weng
// et al., "Beware of Fragmentation", USENIX ATC 2023.
func OpenB(ctx context.Context, cfg OpenBConfig) (OpenBResult, error) {
	if cfg.Rule == "" {
		cfg.Rule = RuleHansa
	}
	cfg.Peers = max(1, cfg.Peers)
	if cfg.Rate <= 0 {
		cfg.Rate = 10
	}
	m := newMesh(cfg.Peers, cfg.Age, cfg.Seed)
	m.pooled = cfg.Rule == RuleHansa
	m.typical = typicalOf(cfg.Requests)
	var total placement.GPUShare
	for i, s := range cfg.Hosts {
		m.add(s, i*cfg.Peers/len(cfg.Hosts))
		total += placement.GPUShare(s.GPUs) * wholeGPU
	}
	var asked placement.GPUShare
	for _, r := range cfg.Requests {
		asked += r.Need.GPU.Count
	}
	if total == 0 || asked == 0 {
		return OpenBResult{}, fmt.Errorf("hosts have %s GPUs, requests ask for %s: nothing to measure", total, asked)
	}
	rng := rand.New(rand.NewPCG(cfg.Seed, 0))
	order := rng.Perm(len(cfg.Requests))
	var res OpenBResult
	var arrived, granted placement.GPUShare
	for n := 0; arrived*10 < total*13; n++ {
		if err := ctx.Err(); err != nil {
			return res, err
		}
		var r Request
		if n < len(order) {
			r = cfg.Requests[order[n]]
		} else {
			r = cfg.Requests[rng.IntN(len(cfg.Requests))]
		}
		m.pass(time.Duration(float64(n) / cfg.Rate * float64(time.Second)))
		at := 0
		if cfg.Peers > 1 {
			at = rng.IntN(cfg.Peers)
		}
		before := arrived
		arrived += r.Need.GPU.Count
		res.Requests++
		if _, ok := m.choose(cfg.Rule, at, r); ok {
			granted += r.Need.GPU.Count
		} else {
			res.Failed++
		}
		if before < total && arrived >= total {
			res.At100 = percent(granted, total)
		}
		if cfg.Progress != nil && n%500 == 0 {
			cfg.Progress(float64(arrived) / float64(total) / 1.3)
		}
	}
	res.At130 = percent(granted, total)
	for _, n := range m.rounds[2:] {
		res.Again += n
	}
	return res, nil
}

func percent(part, all placement.GPUShare) float64 { return 100 * float64(part) / float64(all) }
