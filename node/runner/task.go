package runner

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/placement"
)

// DriverID is an allocation's id as drivers know it: "<claim>/<slot>".
func DriverID(id placement.AllocationID) string {
	return id.Claim.String() + "/" + strconv.FormatUint(uint64(id.Slot), 10)
}

// FromDriverID reads what DriverID wrote.
func FromDriverID(s string) (placement.AllocationID, error) {
	claim, slot, ok := strings.Cut(s, "/")
	if !ok {
		return placement.AllocationID{}, fmt.Errorf("task %q: not an allocation", s)
	}
	return placement.ParseAllocationID(claim + "." + slot)
}

// build makes the driver's task of an allocation.
func (r *Runner) build(id placement.AllocationID, t *task, spec placement.WorkSpec) (driver.Task, error) {
	c := spec.Spec
	env := maps.Clone(r.cfg.Env)
	if env == nil {
		env = map[string]string{}
	}
	maps.Copy(env, c.Env)
	env["HANSA_NAMESPACE"] = spec.Key.Namespace
	env["HANSA_APP"] = spec.Key.App
	env["HANSA_COMPONENT"] = spec.Component
	env["HANSA_SLOT"] = strconv.FormatUint(uint64(id.Slot), 10)
	env["HANSA_ALLOCATION"] = id.String()
	out := driver.Task{
		ID: DriverID(id), Kind: c.Kind(), Env: env,
		CPU: int64(c.Resources.CPU), Memory: int64(c.Resources.Memory), Disk: int64(c.Resources.Disk),
		Host: spec.Host, Devices: spec.Devices, StopSignal: c.Stop.Signal, Grace: time.Duration(c.Stop.Grace),
	}
	if r.cfg.Labels != nil {
		out.Labels = r.cfg.Labels(id, spec)
	}
	for _, digest := range c.ArtifactsOn(r.cfg.Arch) {
		path, ok := r.cfg.Path(digest)
		if !ok {
			return out, fmt.Errorf("the artifact %s is not at this peer", digest)
		}
		if out.Artifacts == nil {
			out.Artifacts = map[string]string{}
		}
		out.Artifacts[digest] = path
	}
	files, err := filesOf(c)
	if err != nil {
		return out, err
	}
	out.Files = files
	if out.Volumes, err = r.volumesOf(id, spec); err != nil {
		return out, err
	}
	if err := r.allotPorts(id, t, c.Ports, &out); err != nil {
		return out, err
	}
	switch {
	case c.Function != nil:
		out.Function = &driver.Function{Module: c.Function.Module, Timeout: time.Duration(c.Function.Timeout), Handler: c.Function.Handler}
	case c.Container != nil:
		out.Container = containerOf(spec)
		if digest := c.ImageDigest(); digest != "" && r.cfg.HasImage != nil && r.cfg.HasImage(digest) {
			out.Container.Digest = digest
		}
	case c.Server != nil && c.Server.Process != nil:
		p := c.Server.Process
		out.Process = &driver.Process{Command: p.Command, Artifact: p.Artifact.For(r.cfg.Arch), User: p.User}
	case c.Server != nil:
		out.Machine = machineOf(id, spec, r.cfg.Arch)
	default:
		return out, fmt.Errorf("a %s cannot be run by this version", c.Kind())
	}
	return out, nil
}

// filesOf are the files that a component's manifest holds, by path.
func filesOf(c placement.Component) ([]driver.File, error) {
	var files []driver.File
	for _, name := range slices.Sorted(maps.Keys(c.Files)) {
		mode, err := placement.FileMode(c.Files[name].Mode, fileMode)
		if err != nil {
			return nil, fmt.Errorf("file %s: %w", name, err)
		}
		files = append(files, driver.File{Path: name, Content: []byte(c.Files[name].Content), Mode: mode})
	}
	return files, nil
}

const fileMode = 0o644

func containerOf(spec placement.WorkSpec) *driver.Container {
	c := spec.Spec.Container
	out := &driver.Container{
		Image: c.Image, Command: c.Command, Args: c.Args, User: c.User, Dir: c.Dir, ReadOnly: c.ReadOnly,
		CapAdd: c.Capabilities.Add, CapDrop: c.Capabilities.Drop, Pids: c.Pids,
		Network: string(spec.UID), Alias: spec.Component,
	}
	if len(c.Tmpfs) > 0 {
		out.Tmpfs = map[string]int64{}
		for path, size := range c.Tmpfs {
			out.Tmpfs[path] = int64(size)
		}
	}
	return out
}

func machineOf(id placement.AllocationID, spec placement.WorkSpec, arch string) *driver.Machine {
	s := spec.Spec.Server
	m := &driver.Machine{Image: s.Image.For(arch), Kernel: s.Kernel.For(arch), Initrd: s.Initrd.For(arch), Append: s.Append, Bridge: s.Bridge}
	if ci := s.CloudInit; ci != nil {
		m.CloudInit = &driver.CloudInit{UserData: ci.UserData, SSHKeys: ci.SSHKeys, Hostname: ci.Hostname}
		if ci.Hostname == "" {
			m.CloudInit.Hostname = fmt.Sprintf("%s-%s-%d", spec.Key.App, spec.Component, id.Slot)
		}
	}
	return m
}

// allotPorts gives an allocation its host ports.
func (r *Runner) allotPorts(id placement.AllocationID, t *task, wanted map[string]int, out *driver.Task) error {
	if len(wanted) == 0 {
		return nil
	}
	r.mu.Lock()
	runs := t.run != life{} && t.run != t.ended
	r.mu.Unlock()
	given, err := r.ports.allot(id, wanted, runs)
	if err != nil {
		return err
	}
	out.Ports = make(map[string]driver.Port, len(wanted))
	for name, inside := range wanted {
		out.Ports[name] = driver.Port{Inside: inside, Host: given[name]}
	}
	return nil
}

// ports allots host ports and remembers whose they are, so that a restart in
// place keeps its address while that is to be had.
type ports struct {
	address string

	mu    sync.Mutex // guards what follows
	given map[placement.AllocationID]map[string]string
	used  map[string]bool
}

func newPorts(address string) *ports {
	return &ports{address: address, given: map[placement.AllocationID]map[string]string{}, used: map[string]bool{}}
}

// portTries bounds the search for a port that is given to nobody.
const portTries = 100

// allot returns an address for each port. What an allocation has it keeps if
// it runs; else only if nobody else took the port while it was down.
func (p *ports) allot(id placement.AllocationID, wanted map[string]int, runs bool) (map[string]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	have := maps.Clone(p.given[id])
	if have == nil {
		have = map[string]string{}
	}
	for name := range wanted {
		if old := have[name]; old != "" && (runs || isFree(old)) {
			continue
		}
		addr, err := p.free()
		if err != nil {
			return nil, fmt.Errorf("port %q: %w", name, err)
		}
		delete(p.used, have[name])
		have[name] = addr
		p.used[addr] = true
	}
	p.given[id] = have
	return have, nil
}

// free finds a port that the system has free and that was given to nobody,
// since work that is down for a moment keeps its port. The caller holds mu.
func (p *ports) free() (string, error) {
	for range portTries {
		l, err := net.Listen("tcp", net.JoinHostPort(p.address, "0"))
		if err != nil {
			return "", err
		}
		addr := l.Addr().String()
		if err := l.Close(); err != nil {
			return "", err
		}
		if !p.used[addr] && isFree(addr) {
			return addr, nil
		}
	}
	return "", errors.New("no free port was found")
}

// isFree reports whether a program could listen on the port, be it on one
// address or, as most do, on all of them.
func isFree(addr string) bool {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	l, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return false
	}
	return l.Close() == nil
}

// take notes the ports of work that runs already.
func (p *ports) take(id placement.AllocationID, given map[string]string) {
	if len(given) == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.given[id] = maps.Clone(given)
	for _, addr := range given {
		p.used[addr] = true
	}
}

func (p *ports) release(id placement.AllocationID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, addr := range p.given[id] {
		delete(p.used, addr)
	}
	delete(p.given, id)
}
