package process_test

import (
	"encoding/json"
	"errors"
	"flag"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/testbed/chaos"
	"github.com/hansa-mesh/hansa/testbed/links"
	"github.com/hansa-mesh/hansa/testbed/netns"
	"github.com/hansa-mesh/hansa/testbed/process"
)

var (
	chaosFlag     = flag.Duration("chaos", 0, "how long TestChaos does harm; without it, for a minute in namespaces and not at all on loopback")
	chaosSeedFlag = flag.Uint64("chaos.seed", 1, "what harm it does")
)

// chaosShort is how long the run lasts that is always made.
const chaosShort = time.Minute

// wan is the way between two sites.
var wan = links.Link{Delay: 10 * time.Millisecond, Jitter: 2 * time.Millisecond, Loss: 0.005}

// diskSize of a daemon that has one of its own: room for its store, and little
// to fill.
const diskSize = 400 << 20

// TestChaos: what was acknowledged is there in the end, every slot runs once,
// and no site ever ran more than it has room for: with every daemon in a network
// namespace and on a disk of its own, and on plain loopback.
func TestChaos(t *testing.T) {
	for _, c := range []struct {
		name  string
		net   func(links.Link) process.Network
		disk  int64
		usual time.Duration
	}{
		{"namespaces", process.Namespaces, diskSize, chaosShort},
		{"loopback", process.Loopback, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			lasts := *chaosFlag
			if lasts == 0 {
				lasts = c.usual
			}
			switch {
			case testing.Short():
				t.Skip("a minute of harm to real daemons; not with -short")
			case lasts == 0:
				t.Skip("a longer run: go test ./testbed/process -run TestChaos -chaos 5m -v")
			}
			hansa := daemon(t)
			m, err := process.Start(t.Context(), process.Config{
				Hansa: hansa, Dir: t.TempDir(), Sites: []string{"a", "b", "c", "d", "e"}, Net: c.net(wan), DiskSize: c.disk, Args: chaos.Args(),
			})
			if errors.Is(err, netns.ErrNotAllowed) {
				t.Skipf("daemons on hosts of their own are only to be had as root (on loopback: -chaos 1m): %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := m.Close(); err != nil {
					t.Error(err)
				}
			})
			figures, err := chaos.Run(t.Context(), chaos.Config{Mesh: m, Seed: *chaosSeedFlag, Lasts: lasts, Disks: c.disk > 0, Say: t.Logf})
			if err != nil {
				t.Error(err)
			}
			text, err := json.Marshal(figures)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s", text)
			if figures.Safe == 0 {
				t.Error("nothing was acknowledged: the run shows nothing")
			}
		})
	}
}
