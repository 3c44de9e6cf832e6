package bench

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// small is eight hosts and requests that fill their GPUs exactly.
func small() (hosts []Shape, requests []Request) {
	for i := range 8 {
		hosts = append(hosts, Shape{Capacity: placement.Resources{CPU: 8000, Memory: 8 << 30}, GPUs: 2, Model: []string{"A", "B"}[i%2]})
	}
	for i := range 16 {
		r := Request{Need: placement.Resources{CPU: 1000, Memory: 1 << 30, GPU: placement.GPU{Count: 1000}}}
		if i%4 == 0 {
			r.Models = []string{"A"}
		}
		requests = append(requests, r)
	}
	return hosts, requests
}

func TestOpenBFillsWhatIsEvenlyAskedFor(t *testing.T) {
	hosts, requests := small()
	for i := range requests { // whatever the order, whole GPUs of any model fill all
		requests[i].Models = nil
	}
	for _, by := range []Rule{RuleHansa, RuleFirstFit, RuleBestFit} {
		res, err := OpenB(context.Background(), OpenBConfig{Hosts: hosts, Requests: requests, Seed: 42, Rule: by})
		if err != nil || res.At100 != 100 || res.At130 != 100 || res.Requests != 21 || res.Failed != 5 || res.Again != 0 {
			t.Errorf("%s: %+v, %v", by, res, err)
		}
	}
}

func TestOpenBReplays(t *testing.T) {
	hosts, requests := small()
	run := func(seed uint64) OpenBResult {
		res, err := OpenB(context.Background(), OpenBConfig{Hosts: hosts, Requests: requests, Seed: seed, Peers: 4, Age: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	for seed := range uint64(5) {
		if a, b := run(seed), run(seed); a != b {
			t.Errorf("seed %d: %+v, then %+v", seed, a, b)
		}
	}
}

// A planner whose digests are old is refused, and goes on elsewhere; it never has
// more than is there.
func TestOldDigestsCostRefusals(t *testing.T) {
	hosts, requests := small()
	again := 0
	for seed := range uint64(10) {
		res, err := OpenB(context.Background(), OpenBConfig{Hosts: hosts, Requests: requests, Seed: seed, Peers: 4, Age: time.Hour})
		if err != nil || res.At130 > 100 {
			t.Fatalf("%+v, %v", res, err)
		}
		again += res.Again
	}
	if again == 0 {
		t.Error("no planner was refused anything")
	}
}

func TestSharesOfAGPUAreOfOneDevice(t *testing.T) {
	hosts := []Shape{{Capacity: placement.Resources{CPU: 8000, Memory: 8 << 30}, GPUs: 1, Model: "A"}}
	var requests []Request
	for range 2 {
		requests = append(requests, Request{Need: placement.Resources{CPU: 1, Memory: 1, GPU: placement.GPU{Count: 600}}})
	}
	res, err := OpenB(context.Background(), OpenBConfig{Hosts: hosts, Requests: requests, Seed: 1})
	if err != nil || res.At100 != 60 || res.At130 != 60 {
		t.Errorf("%+v, %v", res, err)
	}
}

func TestReadOpenB(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "openb"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"openb_node_list_gpu_node.csv": "sn,cpu_milli,memory_mib,gpu,model\nn0,64000,262144,2,P100\n",
		"openb_pod_list_default.csv":   "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\na,6000,12288,1,460,T4|P100|T4\nb,1,2,0,0,\nc,1,2,4,1000,\n",
		"openb_pod_list_bad.csv":       "name,cpu_milli,memory_mib,num_gpu,gpu_milli\na,6000,12288,one,460\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, "openb", name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	hosts, requests, err := ReadOpenB(dir, "default")
	if err != nil || len(hosts) != 1 || len(requests) != 3 {
		t.Fatalf("%v, %v, %v", hosts, requests, err)
	}
	if h := hosts[0]; h.GPUs != 2 || h.Model != "P100" || h.Capacity.CPU != 64000 || h.Capacity.Memory != 256<<30 {
		t.Errorf("host %+v", h)
	}
	if r := requests[0]; r.Need.GPU.Count != 460 || len(r.Models) != 2 || r.Models[0] != "P100" {
		t.Errorf("request %+v", r)
	}
	if requests[1].Need.GPU.Count != 0 || requests[2].Need.GPU.Count != 4000 {
		t.Errorf("requests %+v", requests[1:])
	}
	for _, trace := range []string{"bad", "absent"} {
		if _, _, err := ReadOpenB(dir, trace); err == nil {
			t.Errorf("trace %s was read", trace)
		}
	}
}

// dataFolder is where recordings are; a test that needs them skips without.
func dataFolder(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("HANSA_DATA")
	if dir == "" {
		t.Skip("HANSA_DATA names no folder with the recordings openb and azure-vm")
	}
	return dir
}

// The recordings are what the published figures are of.
func TestRecordedRequests(t *testing.T) {
	dir := dataFolder(t)
	for _, trace := range Traces {
		hosts, requests, err := ReadOpenB(dir, trace)
		if err != nil {
			t.Fatal(err)
		}
		gpus := 0
		for _, h := range hosts {
			gpus += h.GPUs
		}
		if len(hosts) != 1213 || gpus != 6212 || len(requests) < 4000 {
			t.Errorf("%s: %d hosts, %d GPUs, %d requests", trace, len(hosts), gpus, len(requests))
		}
	}
}
