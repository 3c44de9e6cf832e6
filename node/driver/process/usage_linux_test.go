package process

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// What is read where, by layout.
func TestUsageFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"cpu/cpuacct.usage":            "1500000000\n",
		"memory/memory.usage_in_bytes": "5000\n",
		"memory/memory.stat":           "cache 3000\ninactive_file 1\ntotal_inactive_file 1000\n",
		"pids/pids.current":            "3\n",
		"v2/cpu.stat":                  "usage_usec 2500000\nuser_usec 1\n",
		"v2/memory.current":            "7000\n",
		"v2/memory.stat":               "anon 1\ninactive_file 2000\n",
		"v2/pids.current":              "4\n",
		"bare/cpu.stat":                "usage_usec 1\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	v1 := map[string]string{"cpu": at("cpu"), "memory": at("memory"), "pids": at("pids")}
	for name, tc := range map[string]struct {
		g    groups
		want driver.Usage
		ok   bool
	}{
		"v1":                  {groups{V1: v1}, driver.Usage{CPU: 1500 * time.Millisecond, Memory: 4000, Tasks: 3}, true},
		"v2":                  {groups{V2: at("v2")}, driver.Usage{CPU: 2500 * time.Millisecond, Memory: 5000, Tasks: 4}, true},
		"hybrid":              {groups{V1: map[string]string{"memory": at("memory"), "pids": at("pids")}, V2: at("v2")}, driver.Usage{CPU: 2500 * time.Millisecond, Memory: 4000, Tasks: 3}, true},
		"v2 without memory":   {groups{V2: at("bare")}, driver.Usage{}, false},
		"none":                {groups{}, driver.Usage{}, false},
		"groups that went by": {groups{V2: at("gone")}, driver.Usage{}, false},
	} {
		if u, ok := tc.g.usage(); ok != tc.ok || ok && u != tc.want {
			t.Errorf("%s: %+v %v, want %+v %v", name, u, ok, tc.want, tc.ok)
		}
	}
}

// Without groups a program and its descendants are counted.
func TestFamilyUsage(t *testing.T) {
	me, err := identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	u, ok := familyUsage(me)
	if !ok || u.Memory < 1<<20 || u.Tasks < 2 { // a Go program has some threads
		t.Errorf("this test uses %+v, %v", u, ok)
	}
	me.Start++
	if u, ok := familyUsage(me); ok {
		t.Errorf("a process that is another uses %+v", u)
	}
}
