package process

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// clockTick is the unit of CPU times in /proc: USER_HZ, which is 100 on every
// architecture that Go runs on.
const clockTick = 10 * time.Millisecond

// Usage implements driver.Meter.
func (d *Driver) Usage(ctx context.Context) (map[string]driver.Usage, error) {
	if err := d.load(); err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	d.mu.Lock()
	tasks := make([]*task, 0, len(d.tasks))
	for _, t := range d.tasks {
		tasks = append(tasks, t)
	}
	d.mu.Unlock()
	all := make(map[string]driver.Usage, len(tasks))
	for _, t := range tasks {
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("usage: %w", err)
		}
		t.mu.Lock()
		runs, who := !t.status.State.Ended(), t.run
		t.mu.Unlock()
		if !runs {
			continue
		}
		u, ok := t.spec.Groups.usage()
		if !ok {
			u, ok = familyUsage(who.Program)
		}
		if ok {
			u.At = time.Now()
			all[t.spec.Task.ID] = u
		}
	}
	return all, nil
}

// usage is what all in the groups use; false if this machine has no groups that
// count CPU time and memory.
func (g groups) usage() (driver.Usage, bool) {
	var u driver.Usage
	switch ns, err := readNumber(filepath.Join(g.V1["cpu"], "cpuacct.usage")); {
	case err == nil && g.V1["cpu"] != "":
		u.CPU = time.Duration(ns)
	case g.V2 != "":
		µs, ok := readField(filepath.Join(g.V2, "cpu.stat"), "usage_usec")
		if !ok {
			return u, false
		}
		u.CPU = time.Duration(µs) * time.Microsecond
	default:
		return u, false
	}
	dir, total, idle := g.V1["memory"], "memory.usage_in_bytes", "total_inactive_file"
	if dir == "" {
		dir, total, idle = g.V2, "memory.current", "inactive_file"
	}
	used, err := readNumber(filepath.Join(dir, total))
	if err != nil {
		return u, false
	}
	cache, _ := readField(filepath.Join(dir, "memory.stat"), idle) // 0 where it is not told
	u.Memory = max(0, used-cache)                                  // what can be given back at any time is not used
	for _, dir := range []string{g.V1["pids"], g.V2} {
		if n, err := readNumber(filepath.Join(dir, "pids.current")); dir != "" && err == nil {
			u.Tasks = int(n)
			break
		}
	}
	return u, true
}

func readNumber(path string) (int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

// readField reads the line "name number" of a file.
func readField(path, name string) (int64, bool) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// familyUsage serves machines without cgroups: it counts the program and what
// descends from it and still runs, but for who left the family.
func familyUsage(program identity) (u driver.Usage, found bool) {
	pidfd, err := program.open()
	if err != nil {
		return u, false
	}
	defer pidfd.Close()
	page := int64(os.Getpagesize())
	for pids := []int{program.Pid}; len(pids) > 0 && u.Tasks < processesMaxDefault; pids = pids[1:] {
		f := statOf(pids[0])
		if len(f) < 23 {
			continue // it has ended
		}
		at := func(field int) int64 { n, _ := strconv.ParseInt(f[field-2], 10, 64); return n } // as proc(5) numbers them
		u.CPU += time.Duration(at(14)+at(15)+at(16)+at(17)) * clockTick
		u.Memory += at(24) * page
		u.Tasks += int(at(20))
		children, _ := childrenOf(strconv.Itoa(pids[0]))
		pids = append(pids, children...)
	}
	return u, u.Tasks > 0
}
