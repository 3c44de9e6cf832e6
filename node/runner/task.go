package runner

import (
	"errors"
	"fmt"
	"maps"
	"net"
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
		CPU: int64(c.Resources.CPU), Memory: int64(c.Resources.Memory),
		StopSignal: c.Stop.Signal, Grace: time.Duration(c.Stop.Grace),
	}
	if r.cfg.Labels != nil {
		out.Labels = r.cfg.Labels(id, spec)
	}
	if digest := c.Artifact(); digest != "" {
		path, ok := r.cfg.Path(digest)
		if !ok {
			return out, fmt.Errorf("the artifact %s is not at this peer", digest)
		}
		out.Artifacts = map[string]string{digest: path}
	}
	switch {
	case c.Function != nil:
		out.Function = &driver.Function{Module: c.Function.Module, Timeout: time.Duration(c.Function.Timeout)}
	case c.Server != nil && c.Server.Process != nil:
		out.Process = &driver.Process{Command: c.Server.Process.Command, Artifact: c.Artifact()}
		r.mu.Lock()
		runs := t.run != life{} && t.run != t.ended
		r.mu.Unlock()
		given, err := r.ports.allot(id, c.Ports, runs)
		if err != nil {
			return out, err
		}
		out.Ports = map[string]driver.Port{}
		for name, inside := range c.Ports {
			out.Ports[name] = driver.Port{Inside: inside, Host: given[name]}
		}
	default:
		return out, fmt.Errorf("a %s cannot be run by this version", c.Kind())
	}
	return out, nil
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
