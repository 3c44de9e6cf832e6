//go:build !linux

package process

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// Driver can't run anything here; see Probe.
type Driver struct{}

var _ driver.Driver = (*Driver)(nil)

// New returns a driver that says what it lacks.
func New(Config) (*Driver, error) { return &Driver{}, nil }

// SupervisorMain is never needed here.
func SupervisorMain([]string) int { return 1 }

func unavailable(what string) error {
	return fmt.Errorf("%s: %w: programs run on Linux only, this is %s", what, driver.ErrUnavailable, runtime.GOOS)
}

// Name implements driver.Driver.
func (*Driver) Name() string { return Name }

// Run implements driver.Driver.
func (*Driver) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Probe implements driver.Driver.
func (*Driver) Probe(context.Context) driver.Info {
	no := driver.Limit{Detail: "not on " + runtime.GOOS}
	return driver.Info{
		Reason: "programs on the bare machine run on Linux only, this is " + runtime.GOOS,
		Kinds:  []string{driver.KindServer}, Runtimes: []string{"process"},
		Limits: map[string]driver.Limit{"cpu": no, "memory": no},
	}
}

// Start implements driver.Driver.
func (*Driver) Start(_ context.Context, t driver.Task) (driver.Status, error) {
	return driver.Status{}, unavailable("start " + t.ID)
}

// Stop implements driver.Driver.
func (*Driver) Stop(context.Context, string, time.Duration) error { return nil }

// List implements driver.Driver.
func (*Driver) List(context.Context) ([]driver.Status, error) { return nil, nil }

// Logs implements driver.Driver.
func (*Driver) Logs(_ context.Context, id string, _ driver.LogOptions) (io.ReadCloser, error) {
	return nil, fmt.Errorf("logs of %q: %w", id, driver.ErrUnknownTask)
}
