package scale_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/testbed/scale"
)

// lastProbes is how long memberlist's last probes take to end.
const lastProbes = time.Minute

// A small mesh takes a burst and single slots, and all that it says of them is
// what was started.
func TestMeasure(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		f, err := scale.Measure(t.Context(), scale.Config{Dir: dir, Peers: 3, Hosts: 2, Apps: 4, Replicas: 5, Singles: 2, Seed: 1})
		time.Sleep(lastProbes) // of virtual time
		if err != nil {
			t.Fatal(err)
		}
		if want := (scale.Checked{Slots: 22, Apps: 6, Decisions: 6}); f.Checked != want {
			t.Errorf("checked %+v, want %+v", f.Checked, want)
		}
		if f.Hosts != 6 || f.Slots != 20 || f.Known < f.Placed {
			t.Errorf("%+v", f)
		}
	})
}

// What does not fit any mesh is refused before one is started.
func TestMeasureRefuses(t *testing.T) {
	for _, c := range []struct {
		cfg  scale.Config
		want string
	}{
		{scale.Config{Peers: 0, Hosts: 1, Apps: 1, Replicas: 1}, "peers 0"},
		{scale.Config{Peers: 1, Hosts: 1, Apps: 0, Replicas: 1}, "apps 0"},
		{scale.Config{Peers: 2, Hosts: 1, Apps: 30, Replicas: 1000}, "15000 slots for each of 2 peers"},
	} {
		if _, err := scale.Measure(t.Context(), c.cfg); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.cfg, err, c.want)
		}
	}
}
