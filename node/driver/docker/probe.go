package docker

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/moby/moby/api/types/system"

	"github.com/hansa-mesh/hansa/node/driver"
)

// probing is a question to the engine for all who probe meanwhile.
type probing struct {
	done chan struct{} // closed when it is answered
	info driver.Info   // set before
}

// Probe implements driver.Driver. An engine that hangs holds nobody up: what it
// says later is there for the next Probe.
func (d *Driver) Probe(ctx context.Context) driver.Info {
	d.mu.Lock()
	p := d.probing
	none := abilities()
	if p == nil {
		p = &probing{done: make(chan struct{})}
		ask := func() {
			ctx, cancel := call(d.ctx)
			defer cancel()
			p.info = d.probe(ctx)
			d.mu.Lock()
			d.probing = nil
			d.mu.Unlock()
			close(p.done)
		}
		if !d.crew.Go(ask) {
			d.mu.Unlock()
			none.Reason = driver.ErrShutdown.Error()
			return none
		}
		d.probing = p
	}
	d.mu.Unlock()
	timer := time.NewTimer(probeMax)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.info
	case <-ctx.Done():
	case <-timer.C:
	}
	none.Reason = fmt.Sprintf("the engine does not answer within %v: is the machine overloaded?", probeMax)
	return none
}

// abilities is what holds for every engine.
func abilities() driver.Info {
	return driver.Info{
		Survives: true, Kinds: []string{driver.KindContainer}, Runtimes: []string{"docker"},
		Limits: map[string]driver.Limit{
			"fence": {Detail: "an engine ends nothing at a deadline by itself: exclusive work goes elsewhere"},
			"disk":  {Detail: "an engine bounds a container's disk only on few file systems; who is found to take more than its own is ended"},
		},
	}
}

// probe asks the engine.
func (d *Driver) probe(ctx context.Context) driver.Info {
	info := abilities()
	_, err := d.engine.ask(ctx)
	var about *system.Info
	if err == nil {
		about, err = d.engine.about(ctx)
	}
	if err != nil {
		info.Reason = strings.TrimPrefix(err.Error(), driver.ErrUnavailable.Error()+": ")
		return info
	}
	kind, version := d.engine.what()
	info.Version = kind + " " + version
	if about.OSType != "" && about.OSType != "linux" {
		info.Reason = fmt.Sprintf("the engine runs %s containers: switch it to Linux ones", about.OSType)
		return info
	}
	info.Available = true
	limit := func(name string, holds bool) {
		l := driver.Limit{Enforced: holds, Detail: "cgroups, by the engine"}
		if !holds {
			l.Detail = "the engine says that this machine's cgroups can't"
		}
		info.Limits[name] = l
	}
	limit("cpu", about.CPUCfsQuota || kind == "podman")
	limit("memory", about.MemoryLimit)
	limit("pids", about.PidsLimit)
	return info
}
