package process

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// machine writes the files that detect reads, below a temporary root.
func machine(t *testing.T, mounts, own string, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	files["proc/self/mountinfo"], files["proc/self/cgroup"] = mounts, own
	for name, content := range files {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "/") {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const (
	mountV1 = `30 24 0:26 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
31 24 0:27 /docker/1 /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 24 0:28 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
33 24 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
`
	mountUnified = "34 24 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
	mountV2      = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
)

func TestLayouts(t *testing.T) {
	v1own := "5:cpu,cpuacct:/a\n4:memory:/docker/1/b\n3:pids:/\n1:name=systemd:/\n0::/\n"
	v1dirs := map[string]string{"sys/fs/cgroup/cpu,cpuacct/a/": "", "sys/fs/cgroup/memory/b/": "", "sys/fs/cgroup/pids/": ""}
	with := func(more map[string]string) map[string]string {
		m := map[string]string{}
		for k, v := range v1dirs {
			m[k] = v
		}
		for k, v := range more {
			m[k] = v
		}
		return m
	}
	// In a real cgroup tree the files of a new group appear by themselves.
	v2 := map[string]string{
		"sys/fs/cgroup/cgroup.controllers":           "cpuset cpu io memory pids",
		"sys/fs/cgroup/cgroup.subtree_control":       "",
		"sys/fs/cgroup/hansa/cgroup.subtree_control": "cpu memory pids",
	}
	for _, tc := range []struct {
		name        string
		mounts, own string
		files       map[string]string
		enforced    string
		groups      []string
	}{
		{"v1", mountV1, v1own, with(nil), "cpu:v1 memory:v1 pids:v1", []string{
			"sys/fs/cgroup/cpu,cpuacct/a/hansa/x", "sys/fs/cgroup/memory/b/hansa/x", "sys/fs/cgroup/pids/hansa/x"}},
		{"hybrid", mountV1 + mountUnified, v1own, with(map[string]string{"sys/fs/cgroup/unified/cgroup.controllers": ""}),
			"cpu:v1 memory:v1 pids:v1", []string{
				"sys/fs/cgroup/cpu,cpuacct/a/hansa/x", "sys/fs/cgroup/memory/b/hansa/x", "sys/fs/cgroup/pids/hansa/x", "sys/fs/cgroup/unified/hansa/x"}},
		{"v2", mountV2, "0::/system.slice/hansa.service\n", v2, "cpu:v2 memory:v2 pids:v2", []string{"sys/fs/cgroup/hansa/x"}},
		{"nothing", "", "", map[string]string{}, "", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			root := machine(t, tc.mounts, tc.own, tc.files)
			l := detect(root)
			var got []string
			for _, c := range controllers {
				limit := l.limits()[c]
				if limit.Enforced {
					got = append(got, c+":"+strings.TrimPrefix(limit.Detail, "cgroup "))
				} else if limit.Detail == "" {
					t.Errorf("%s is not enforced, and no reason is given", c)
				}
			}
			if s := strings.Join(got, " "); s != tc.enforced {
				t.Errorf("enforced %q, want %q: %+v", s, tc.enforced, l)
			}
			dirs := l.groupsFor("x").dirs()
			if len(dirs) != len(tc.groups) {
				t.Fatalf("groups %v, want %v", dirs, tc.groups)
			}
			for i, d := range dirs {
				if d != filepath.Join(root, tc.groups[i]) {
					t.Errorf("group %s, want %s", d, tc.groups[i])
				}
			}
		})
	}
}

// What is written where, by layout.
func TestLimitFiles(t *testing.T) {
	dir := t.TempDir()
	touch := func(names ...string) string {
		d := filepath.Join(dir, names[0])
		for _, n := range names[1:] {
			if err := os.MkdirAll(d, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(d, n), nil, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return d
	}
	v1 := groups{V1: map[string]string{
		"cpu":    touch("cpu", "cpu.cfs_period_us", "cpu.cfs_quota_us"),
		"memory": touch("memory", "memory.limit_in_bytes"),
		"pids":   touch("pids", "pids.max"),
	}}
	v2 := groups{V2: touch("v2", "cpu.max", "memory.max", "memory.swap.max", "memory.oom.group", "pids.max"), V2Has: controllers}
	for _, g := range []*groups{&v1, &v2} {
		if err := g.create(250, 64<<20, 100); err != nil {
			t.Fatal(err)
		}
	}
	for file, want := range map[string]string{
		"cpu/cpu.cfs_period_us": "100000", "cpu/cpu.cfs_quota_us": "25000",
		"memory/memory.limit_in_bytes": "67108864", "pids/pids.max": "100",
		"v2/cpu.max": "25000 100000", "v2/memory.max": "67108864", "v2/memory.swap.max": "0", "v2/memory.oom.group": "1", "v2/pids.max": "100",
	} {
		if b, err := os.ReadFile(filepath.Join(dir, file)); err != nil || string(b) != want {
			t.Errorf("%s holds %q, %v, want %q", file, b, err, want)
		}
	}
	broken := groups{V1: map[string]string{"memory": touch("broken", "other")}}
	if err := broken.create(0, 1<<20, 1); err == nil || !strings.Contains(err.Error(), "memory") {
		t.Errorf("a limit that can't be written: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "memory", "memory.oom_control"), []byte("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "v2", "memory.events"), []byte("low 0\noom 3\noom_kill 3\noom_group_kill 1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if v1.oomKills() != 2 || v2.oomKills() != 3 {
		t.Errorf("kills %d and %d, want 2 and 3", v1.oomKills(), v2.oomKills())
	}
}

func TestStartTimeOfOddNames(t *testing.T) {
	me, err := identify(os.Getpid())
	if err != nil || me.Start == 0 || me.Boot == "" {
		t.Fatalf("%+v %v", me, err)
	}
	other := me
	other.Start++
	if f, err := other.open(); err == nil {
		f.Close()
		t.Error("a process with another start time was opened")
	}
	f, err := me.open()
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}
