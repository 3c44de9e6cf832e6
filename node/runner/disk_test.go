package runner

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/driver/fake"
	"github.com/hansa-mesh/hansa/placement"
)

// Work that takes more disk than it was granted ends as if by itself, and can be
// started again; work without a limit, and what takes just that, goes on.
func TestDiskIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, d := newAilingRig(t, fake.NewWorld(), placement.DriverProcess)
		defer g.close()
		limited := spec("run")
		limited.Spec.Resources.Disk = 64 << 20
		d.disk.Store(64 << 20)
		g.runner.Start(anID, limited)
		time.Sleep(time.Minute)
		if got := g.changes(); got != "running" {
			t.Fatalf("with all of its disk: %s", got)
		}
		d.disk.Store(80 << 20)
		time.Sleep(2 * diskEvery)
		want := "its files take 80 MiB, its disk is 64 MiB: raise resources.disk, or have it write less"
		if got, last := g.changes(), g.last(); got != "running unhealthy failed" || last.Reason != want {
			t.Fatalf("over its disk: %s, %+v", got, last)
		}
		if g.world.Running() != 0 {
			t.Error("it was not ended")
		}
		d.disk.Store(0)
		g.runner.Start(anID, limited)
		time.Sleep(time.Minute)
		if last := g.last(); last.State != placement.AllocRunning {
			t.Errorf("started again: %+v", last)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		g, d := newAilingRig(t, fake.NewWorld(), placement.DriverProcess)
		defer g.close()
		d.disk.Store(1 << 40)
		g.runner.Start(anID, spec("run"))
		time.Sleep(time.Minute)
		if got := g.changes(); got != "running" {
			t.Errorf("without a limit: %s", got)
		}
	})
}
