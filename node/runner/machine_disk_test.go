package runner

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/placement"
)

// A machine's disk of a package is the file that it was put together into, known
// by its digest whatever the package is called.
func TestDiskOfAMachine(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	spec := placement.WorkSpec{Component: "db", Spec: placement.Component{Server: &placement.Server{Image: placement.Package("shop:1.4@" + digest)}}}
	asked := ""
	r := New(Config{Disk: func(_ context.Context, d string) (string, error) { asked = d; return "/disks/a", nil }})
	built := driver.Task{Machine: &driver.Machine{Image: "shop:1.4@" + digest}}
	if err := r.giveDisk(t.Context(), &task{}, spec, &built); err != nil {
		t.Fatal(err)
	}
	if asked != digest || built.Machine.Image != digest || built.Artifacts[digest] != "/disks/a" {
		t.Errorf("of %q it has %q at %q", asked, built.Machine.Image, built.Artifacts[digest])
	}
	stopped := &task{want: wantStop}
	if err := r.giveDisk(t.Context(), stopped, spec, &built); !errors.Is(err, errStopped) {
		t.Errorf("what is to be stopped: %v", err)
	}
	under := &task{}
	r.cfg.Disk = func(ctx context.Context, _ string) (string, error) { // a stop comes meanwhile
		r.mu.Lock()
		under.cancel()
		r.mu.Unlock()
		<-ctx.Done()
		return "", ctx.Err()
	}
	if err := r.giveDisk(t.Context(), under, spec, &built); !errors.Is(err, context.Canceled) {
		t.Errorf("what was stopped meanwhile: %v", err)
	}
	r.cfg.Disk = nil
	if err := r.giveDisk(t.Context(), &task{}, spec, &built); err == nil {
		t.Error("it was started without its disk")
	}
}
