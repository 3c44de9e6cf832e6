package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// dumpMax bounds how long a daemon may take to say what it is doing.
const dumpMax = 10 * time.Second

// Bundle writes what the daemons can tell into a folder: their logs, and what
// the living ones say of their state, their apps and their work.
func (m *Mesh) Bundle(ctx context.Context, dir string) error {
	var errs []error
	for _, site := range m.cfg.Sites {
		log, err := os.ReadFile(filepath.Join(m.cfg.Dir, site+".log"))
		errs = append(errs, err, os.WriteFile(filepath.Join(dir, site+".log"), log, 0o600))
		for name, path := range map[string]string{
			"state.txt": "/debug/state", "goroutines.txt": "/debug/pprof/goroutine?debug=1", "apps.json": "/v1/apps?limit=1000",
			"allocations.json": "/v1/allocations?limit=1000", "mesh.json": "/v1/mesh", "events.json": "/v1/events?limit=1000",
		} {
			data, err := m.daemons[site].get(ctx, path)
			errs = append(errs, err, os.WriteFile(filepath.Join(dir, site+"-"+name), data, 0o600))
		}
	}
	return errors.Join(errs...)
}

func (d *daemon) get(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dumpMax)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.API+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := d.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%s of %s: %w", path, d.site, err)
	}
	defer response.Body.Close()
	return io.ReadAll(response.Body)
}
