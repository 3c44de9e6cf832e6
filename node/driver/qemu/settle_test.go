package qemu

import (
	"os"
	"sync"
	"testing"

	"github.com/hansa-mesh/hansa/node/driver"
)

// The end of a machine may be heard of twice at once: from its qemu's driver,
// and by the Start that looks at what it began.
func TestEndIsSettledOnce(t *testing.T) {
	d, err := New(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		m := newMachine("c/0")
		m.rec.End = &verdict{Starts: 1, State: driver.StateFailed, ExitCode: -1, Reason: "its power was cut"}
		if err := os.MkdirAll(d.folder(m.id), 0o700); err != nil {
			t.Fatal(err)
		}
		var heard sync.WaitGroup
		for range 4 {
			heard.Go(func() { d.settle(m, driver.Status{ID: m.id, State: driver.StateExited, Starts: 1}) })
		}
		heard.Wait()
		<-m.ended
	}
}
