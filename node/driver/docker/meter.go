package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/hansa-mesh/hansa/node/driver"
)

const (
	// statsMax bounds one answer on what a container uses.
	statsMax = 1 << 20
	// usageMax is how long all of them may take.
	usageMax = 10 * time.Second
)

// Usage implements driver.Meter.
func (d *Driver) Usage(ctx context.Context) (map[string]driver.Usage, error) {
	ctx, cancel := context.WithTimeout(ctx, usageMax)
	defer cancel()
	cli, err := d.engine.client()
	if err != nil {
		return nil, fmt.Errorf("usage: %w", err)
	}
	d.mu.Lock()
	running := map[string]found{}
	for id, t := range d.tasks {
		if !t.over() {
			running[id] = found{rec: t.rec}
		}
	}
	d.mu.Unlock()
	all := make(map[string]driver.Usage, len(running))
	var mu sync.Mutex
	err = d.each(running, func(f found) error {
		u, err := usage(ctx, cli, f.rec.Container)
		if cerrdefs.IsNotFound(err) || cerrdefs.IsConflict(err) {
			return nil // it ended
		}
		if err != nil {
			return d.engine.lost(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if !u.At.IsZero() {
			all[f.rec.ID] = u
		}
		return nil
	})
	if err != nil && len(all) == 0 {
		return nil, fmt.Errorf("usage: %w", err)
	}
	return all, nil
}

func usage(ctx context.Context, cli *client.Client, id string) (driver.Usage, error) {
	answer, err := cli.ContainerStats(ctx, id, client.ContainerStatsOptions{})
	if err != nil {
		return driver.Usage{}, err
	}
	defer answer.Body.Close()
	var s container.StatsResponse
	if err := json.NewDecoder(io.LimitReader(answer.Body, statsMax)).Decode(&s); err != nil {
		return driver.Usage{}, err
	}
	if s.Read.Year() < 1970 {
		return driver.Usage{}, nil // it does not run
	}
	memory := s.MemoryStats.Usage
	for _, name := range []string{"total_inactive_file", "inactive_file"} { // cgroups v1, v2
		if cached, ok := s.MemoryStats.Stats[name]; ok && cached < memory {
			memory -= cached // pages of files that go when the memory is wanted
			break
		}
	}
	return driver.Usage{
		CPU: time.Duration(s.CPUStats.CPUUsage.TotalUsage), Memory: int64(memory),
		Tasks: int(s.PidsStats.Current), At: s.Read,
	}, nil
}

// Collect implements driver.Collector: networks on which no container is left,
// and files and folders of tasks that have none.
func (d *Driver) Collect(ctx context.Context, gone func(id string) bool) error {
	if err := d.look(ctx); err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	ctx, cancel := call(ctx)
	defer cancel()
	cli, err := d.engine.client()
	if err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	nets, err := cli.NetworkList(ctx, client.NetworkListOptions{Filters: d.scoped()})
	if err != nil {
		return fmt.Errorf("collect: %w", d.engine.lost(err))
	}
	for _, n := range nets.Items {
		if n.Name == d.networkName(n.Labels[labelNetwork]) {
			d.leave(ctx, cli, n.Labels[labelNetwork])
		}
	}
	return d.collectSecrets(gone)
}

// collectSecrets deletes secret files of tasks that are gone.
func (d *Driver) collectSecrets(gone func(id string) bool) error {
	entries, err := os.ReadDir(d.c.SecretsDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	for _, e := range entries {
		dir := filepath.Join(d.c.SecretsDir, e.Name())
		b, err := os.ReadFile(filepath.Join(dir, idFile))
		id := string(b)
		if err != nil || driver.SafeID(id) != e.Name() || d.isBusy(id) || !gone(id) {
			continue
		}
		if t := d.task(id); t != nil && !t.over() {
			continue // it is being stopped
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("collect: %w", err)
		}
	}
	return nil
}
