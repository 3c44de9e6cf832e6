package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/docker"
	"github.com/hansa-mesh/hansa/node/driver/process"
	"github.com/hansa-mesh/hansa/node/driver/qemu"
	"github.com/hansa-mesh/hansa/node/driver/wasm"
)

// machineDrivers makes the runtimes of this machine.
func (n *Node) machineDrivers(dir string, events func(driver.Event), log *slog.Logger) ([]driver.Driver, error) {
	functions, err := wasm.New(wasm.Config{Dir: filepath.Join(dir, "wasm"), Events: events, Log: log.With("driver", "wasm")})
	if err != nil {
		return nil, fmt.Errorf("driver wasm: %w", err)
	}
	processes, err := process.New(process.Config{Dir: filepath.Join(dir, "process"), Events: events, Log: log.With("driver", "process")})
	if err != nil {
		return nil, fmt.Errorf("driver process: %w", err)
	}
	containers, err := docker.New(docker.Config{
		Dir: filepath.Join(dir, "docker"), Scope: n.member.Mesh + "/" + n.id.ID(), Events: events, Log: log.With("driver", "docker"),
		Registry: n.forEngines,
	})
	if err != nil {
		return nil, fmt.Errorf("driver docker: %w", err)
	}
	machines, err := qemu.New(qemu.Config{Dir: filepath.Join(dir, "qemu"), Bridges: n.cfg.Bridges, Events: events, Log: log.With("driver", "qemu")})
	if err != nil {
		return nil, fmt.Errorf("driver qemu: %w", err)
	}
	return []driver.Driver{functions, processes, containers, machines}, nil
}

// makeDrivers makes the runtimes that this peer was configured with.
func (n *Node) makeDrivers(events func(driver.Event)) ([]driver.Driver, error) {
	make := n.deps.Drivers
	if make == nil {
		make = n.machineDrivers
	}
	return make(filepath.Join(n.cfg.DataDir, workDir), events, n.log.With("part", "driver"))
}

// EndWork ends all that this peer's drivers left running, for a throw-away
// mesh. It is called when Run has returned: like a daemon that comes back, it
// finds the work with drivers of its own. A grace of 0 is each task's own;
// below 0 work is killed at once.
func (n *Node) EndWork(ctx context.Context, grace time.Duration) error {
	drivers, err := n.makeDrivers(func(driver.Event) {})
	if err != nil {
		return err
	}
	runCtx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for _, d := range drivers {
		running.Go(func() { _ = d.Run(runCtx) }) // what it ends with shows in List and Stop
	}
	var mu sync.Mutex
	var all []error
	fail := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, err)
	}
	var wg sync.WaitGroup
	for _, d := range drivers {
		tasks, err := d.List(ctx)
		if err != nil && !d.Probe(ctx).Available && errors.Is(err, driver.ErrUnavailable) {
			continue // nothing of it runs here, or nobody could end it
		}
		if err != nil {
			fail(fmt.Errorf("driver %s: %w", d.Name(), err))
		}
		for _, t := range tasks {
			wg.Go(func() {
				if err := d.Stop(ctx, t.ID, grace); err != nil {
					fail(fmt.Errorf("stop %s: %w", t.ID, err))
				}
			})
		}
	}
	wg.Wait()
	return errors.Join(all...)
}
