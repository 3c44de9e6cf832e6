package bench

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// halves is machines that take half a host each; those that end make room.
func halves(n int, every, life time.Duration) []VM {
	var out []VM
	for i := range n {
		need := placement.Resources{CPU: AzureHost.Capacity.CPU / 2, Memory: AzureHost.Capacity.Memory / 4}
		out = append(out, VM{Batch: i, Start: every * time.Duration(i), Life: life, Need: need})
	}
	return out
}

func TestAzureCountsHosts(t *testing.T) {
	for _, c := range []struct {
		name  string
		vms   []VM
		hosts int
	}{
		{"all at once", halves(20, 0, time.Hour), 10},
		{"one after the other", halves(20, time.Hour, time.Hour), 1},
		{"four at a time", halves(20, time.Hour, 4*time.Hour), 2},
	} {
		for _, by := range []Rule{RuleHansa, RuleFirstFit, RuleBestFit} {
			res, err := Azure(context.Background(), AzureConfig{VMs: c.vms, Rule: by, Seed: 1})
			if err != nil || res.Hosts != c.hosts || res.Bound != c.hosts || res.VMs != 20 {
				t.Errorf("%s, %s: %+v, %v", c.name, by, res, err)
			}
			if by == RuleHansa && (res.AtOnce != 100 || res.AtWorst != 1) {
				t.Errorf("%s: %+v with digests of no age", c.name, res)
			}
		}
	}
}

func TestAzureReplays(t *testing.T) {
	run := func() AzureResult {
		res, err := Azure(context.Background(), AzureConfig{VMs: halves(200, time.Second, time.Minute), Seed: 3, Sites: 4, Age: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return res
	}
	a, b := run(), run()
	if a != b {
		t.Errorf("%+v, then %+v", a, b)
	}
	if a.AtOnce == 100 || a.AtWorst < 2 {
		t.Errorf("%+v: sites that know nothing newer than 10 s ask in vain at times", a)
	}
}

func TestReadAzure(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "azure-vm"), 0o755); err != nil {
		t.Fatal(err)
	}
	text := "vm,batch,start_s,duration_s,censored,vcpu,mem_gb\n0,0,1800000,300,0,8,14\n1,1,1800300,1200,0,1,0.75\n2,2,1886400,,1,2,3.5\n3,2,1886700,900,0,2,3.5\n"
	if err := os.WriteFile(filepath.Join(dir, "azure-vm", "azure_v1_dev.csv"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	vms, err := ReadAzure(context.Background(), dir, 24*time.Hour)
	if err != nil || len(vms) != 3 || vms[2].Life < 1000*time.Hour {
		t.Fatalf("%v, %v", vms, err)
	}
	want := VM{Batch: 1, Start: 5 * time.Minute, Life: 20 * time.Minute, Need: placement.Resources{CPU: 1000, Memory: 768 << 20}}
	if vms[1] != want {
		t.Errorf("%+v, want %+v", vms[1], want)
	}
	if _, err := ReadAzure(context.Background(), t.TempDir(), time.Hour); err == nil {
		t.Error("a folder that has no recording was read")
	}
}
