package process

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/node/driver"
)

const (
	groupParent = "hansa"
	cpuPeriod   = 100_000 // µs
	cpuQuotaMin = 1_000   // µs, the least that the kernel takes
)

var controllers = []string{"cpu", "memory", "pids"}

// layout is where this machine lets groups be made.
type layout struct {
	v1      map[string]string // controller to the folder of a parent group
	v2      string            // folder of a parent group; "" without v2
	v2has   []string          // controllers that are limits in v2
	problem map[string]string // controller to why it can't be used
}

// groups are the folders of one task's groups.
type groups struct {
	V1 map[string]string `json:"v1,omitempty"`
	V2 string            `json:"v2,omitempty"`
	// Limits that V2 can set.
	V2Has []string `json:"v2_has,omitempty"`
}

// mounted is one cgroup mount of this machine.
type mounted struct {
	point, root string
	v2          bool
	options     []string
}

// detect reads the layout and makes the parent groups. root is "/" but in
// tests.
func detect(root string) layout {
	l := layout{v1: map[string]string{}, problem: map[string]string{}}
	mounts, err := readMounts(filepath.Join(root, "proc/self/mountinfo"))
	own, err2 := readOwn(filepath.Join(root, "proc/self/cgroup"))
	if err := errors.Join(err, err2); err != nil {
		for _, c := range controllers {
			l.problem[c] = err.Error()
		}
		return l
	}
	for _, m := range mounts {
		point := filepath.Join(root, m.point)
		if m.v2 {
			l.detectV2(point, within(own[""], m.root))
			continue
		}
		for _, c := range controllers {
			if slices.Contains(m.options, c) {
				l.detectV1(c, filepath.Join(point, within(own[c], m.root), groupParent))
			}
		}
	}
	for _, c := range controllers {
		if l.v1[c] == "" && !slices.Contains(l.v2has, c) && l.problem[c] == "" {
			l.problem[c] = "this kernel has no cgroup controller " + c
		}
	}
	return l
}

// within is the path of a group below a mount that shows the tree from root.
func within(path, root string) string {
	if root == "/" {
		return path
	}
	if rest, ok := strings.CutPrefix(path, root); ok {
		return rest
	}
	return "/"
}

func (l *layout) detectV1(controller, dir string) {
	if err := makeGroup(dir); err != nil {
		l.problem[controller] = explain(err)
		return
	}
	l.v1[controller] = dir
	delete(l.problem, controller)
}

// detectV2 looks for a place: a group that holds processes can't be divided,
// except for the root, so the parent is made there, or else below the
// daemon's own group.
func (l *layout) detectV2(point, own string) {
	var problem error
	for _, at := range []string{point, filepath.Join(point, own)} {
		parent := filepath.Join(at, groupParent)
		if err := makeGroup(parent); err != nil {
			problem = err
			continue
		}
		l.v2 = parent
		b, err := os.ReadFile(filepath.Join(at, "cgroup.controllers"))
		if err != nil {
			problem = err
			continue
		}
		for _, c := range controllers {
			if !slices.Contains(strings.Fields(string(b)), c) {
				continue
			}
			err := enable(at, c)
			if err == nil {
				err = enable(parent, c)
			}
			if err != nil {
				l.problem[c] = explain(err)
				continue
			}
			delete(l.problem, c)
			l.v2has = append(l.v2has, c)
		}
		if len(l.v2has) > 0 {
			return
		}
	}
	if l.v2 == "" && problem != nil {
		for _, c := range controllers {
			if l.v1[c] == "" {
				l.problem[c] = explain(problem)
			}
		}
	}
}

func enable(dir, controller string) error {
	path := filepath.Join(dir, "cgroup.subtree_control")
	if b, err := os.ReadFile(path); err == nil && slices.Contains(strings.Fields(string(b)), controller) {
		return nil
	}
	return writeFile(path, "+"+controller)
}

func makeGroup(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return unix.Access(dir, unix.W_OK)
}

func explain(err error) string {
	switch {
	case errors.Is(err, os.ErrPermission), errors.Is(err, unix.EROFS):
		return fmt.Sprintf("no right to make cgroups (%v): run the daemon as root, or under systemd with Delegate=yes", err)
	case errors.Is(err, unix.EBUSY):
		return fmt.Sprintf("the daemon's cgroup can't be divided because it holds processes (%v): run the daemon outside of a container, or in a cgroup namespace of the host", err)
	}
	return err.Error()
}

func writeFile(path, value string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

func readMounts(path string) ([]mounted, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("find cgroups: %w", err)
	}
	defer f.Close()
	var all []mounted
	scan := bufio.NewScanner(f)
	for scan.Scan() {
		// 36 35 98:0 /root /point rw,noatime master:1 - cgroup cgroup rw,cpu
		before, after, ok := strings.Cut(scan.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 5 || len(right) < 3 {
			continue
		}
		if right[0] == "cgroup" || right[0] == "cgroup2" {
			all = append(all, mounted{left[4], left[3], right[0] == "cgroup2", strings.Split(right[2], ",")})
		}
	}
	if err := scan.Err(); err != nil {
		return nil, fmt.Errorf("find cgroups: %w", err)
	}
	return all, nil
}

// readOwn returns the daemon's groups by controller, "" for v2.
func readOwn(path string) (map[string]string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("find cgroups: %w", err)
	}
	own := map[string]string{}
	for line := range strings.Lines(string(b)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for c := range strings.SplitSeq(parts[1], ",") {
			own[c] = parts[2]
		}
	}
	return own, nil
}

// limits says for Probe what holds.
func (l layout) limits() map[string]driver.Limit {
	m := map[string]driver.Limit{}
	for _, c := range controllers {
		switch {
		case l.v1[c] != "":
			m[c] = driver.Limit{Enforced: true, Detail: "cgroup v1"}
		case slices.Contains(l.v2has, c):
			m[c] = driver.Limit{Enforced: true, Detail: "cgroup v2"}
		default:
			m[c] = driver.Limit{Detail: l.problem[c]}
		}
	}
	return m
}

// groupsFor names the groups of one task.
func (l layout) groupsFor(name string) groups {
	g := groups{V1: map[string]string{}, V2Has: l.v2has}
	for c, dir := range l.v1 {
		g.V1[c] = filepath.Join(dir, name)
	}
	if l.v2 != "" {
		g.V2 = filepath.Join(l.v2, name)
	}
	return g
}

func (g groups) dirs() []string {
	var dirs []string
	for _, c := range controllers {
		if d := g.V1[c]; d != "" {
			dirs = append(dirs, d)
		}
	}
	if g.V2 != "" {
		dirs = append(dirs, g.V2)
	}
	return dirs
}

// create makes the groups and sets their limits; 0 is none. The error names
// all that does not hold, and the rest does.
func (g *groups) create(cpu, memory int64, processes int) error {
	var failed []error
	for c, dir := range g.V1 {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", c, err))
			delete(g.V1, c)
		}
	}
	if g.V2 != "" {
		if err := os.MkdirAll(g.V2, 0o755); err != nil {
			failed = append(failed, fmt.Errorf("cgroup v2: %w", err))
			g.V2, g.V2Has = "", nil
		}
	}
	quota := int64(0)
	if cpu > 0 {
		quota = max(cpu*cpuPeriod/1000, cpuQuotaMin)
	}
	set := func(controller, file, value string, must bool) {
		dir := g.V1[controller]
		if dir == "" && slices.Contains(g.V2Has, controller) {
			dir = g.V2
		}
		if dir == "" {
			return
		}
		if err := writeFile(filepath.Join(dir, file), value); err != nil && must {
			failed = append(failed, fmt.Errorf("%s: %w", controller, err))
		}
	}
	v1 := func(c string) bool { return g.V1[c] != "" }
	number := func(n int64) string { return strconv.FormatInt(n, 10) }
	if cpu > 0 && v1("cpu") {
		set("cpu", "cpu.cfs_period_us", number(cpuPeriod), true)
		set("cpu", "cpu.cfs_quota_us", number(quota), true)
	} else if cpu > 0 {
		set("cpu", "cpu.max", fmt.Sprint(quota, " ", cpuPeriod), true)
	}
	if memory > 0 && v1("memory") {
		set("memory", "memory.swappiness", "0", false)
		set("memory", "memory.limit_in_bytes", number(memory), true)
		set("memory", "memory.memsw.limit_in_bytes", number(memory), false) // where swap is counted
	} else if memory > 0 {
		set("memory", "memory.swap.max", "0", false)
		set("memory", "memory.oom.group", "1", false)
		set("memory", "memory.max", number(memory), true)
	}
	set("pids", "pids.max", strconv.Itoa(processes), true)
	return errors.Join(failed...)
}

// procsFiles are the files to which a process writes its id to join.
func (g groups) procsFiles() []string {
	files := g.dirs()
	for i := range files {
		files[i] = filepath.Join(files[i], "cgroup.procs")
	}
	return files
}

// oomKills is how many processes the memory limit has killed.
func (g groups) oomKills() int {
	file := ""
	if dir := g.V1["memory"]; dir != "" {
		file = filepath.Join(dir, "memory.oom_control")
	} else if slices.Contains(g.V2Has, "memory") {
		file = filepath.Join(g.V2, "memory.events")
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "oom_kill "); ok {
			n, _ := strconv.Atoi(strings.TrimSpace(value))
			return n
		}
	}
	return 0
}

// members are the processes in the groups.
func (g groups) members() []int {
	var pids []int
	for _, file := range g.procsFiles() {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // the group is gone, and with it its members
		}
		for s := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(s); err == nil && !slices.Contains(pids, pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// kill sends SIGKILL to everything in the groups, at once where v2 can, else
// one by one.
func (g groups) kill() {
	if g.V2 != "" && writeFile(filepath.Join(g.V2, "cgroup.kill"), "1") == nil {
		return
	}
	for _, pid := range g.members() {
		_ = unix.Kill(pid, unix.SIGKILL) // gone is what is wanted
	}
}

// remove deletes the groups once they are empty.
func (g groups) remove(patience time.Duration) error {
	var failed error
	for deadline := time.Now().Add(patience); ; {
		failed = nil
		for _, dir := range g.dirs() {
			if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
				failed = fmt.Errorf("remove cgroup %s: %w", dir, err)
			}
		}
		if failed == nil || time.Now().After(deadline) {
			return failed
		}
		time.Sleep(sweepInterval)
	}
}
