package process_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	programs "github.com/hansa-mesh/hansa/node/driver/process"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/testbed/process"
)

// lone is a program that writes down that it runs: with which number, where, as
// which life of it, and when.
const lone = `me=$(cat /proc/sys/kernel/random/uuid)
while :; do echo "$HANSA_FENCE $HANSA_SITE $me $(date +%s%N)" >> "$BOOK"; sleep 0.2; done`

// leaseSure is when a copy runs on a lease that was renewed since, by an ample
// measure.
const leaseSure = placement.LeaseDefault + 2*time.Second

// restartMax is how long a daemon may be away so that what is left of a lease that
// was not renewed lately is enough.
const restartMax = placement.LeaseDefault / 3

// life is one start of the program, from its first line to its last.
type life struct {
	fence       uint64
	site, id    string
	first, last time.Time
}

func (l life) String() string {
	return fmt.Sprintf("number %d at %s from %s to %s", l.fence, l.site, l.first.Format(time.StampMilli), l.last.Format(time.StampMilli))
}

// lives reads what the program wrote, in the order in which its copies began.
func lives(book string) ([]life, error) {
	text, err := os.ReadFile(book)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	var all []life
	for line := range strings.Lines(string(text)) {
		var l life
		var nanos int64
		if _, err := fmt.Sscanf(line, "%d %s %s %d\n", &l.fence, &l.site, &l.id, &nanos); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		l.first = time.Unix(0, nanos)
		l.last = l.first
		i := slices.IndexFunc(all, func(o life) bool { return o.id == l.id })
		if i < 0 {
			all = append(all, l)
			continue
		}
		all[i].last = l.last
	}
	return all, nil
}

// alone says that no two copies ever ran at a time, and that each had a higher
// number than the one before.
func alone(all []life) error {
	for i := 1; i < len(all); i++ {
		before, l := all[i-1], all[i]
		if !before.last.Before(l.first) {
			return fmt.Errorf("two copies ran at a time: %v, %v", before, l)
		}
		if l.fence <= before.fence {
			return fmt.Errorf("the number did not rise: %v, %v", before, l)
		}
	}
	return nil
}

// writes waits until a copy that passes has written something after a time.
func writes(t *testing.T, book string, since time.Time, pass func(life) bool) (got life) {
	t.Helper()
	until(t, "a copy runs", func() error {
		all, err := lives(book)
		if err != nil {
			return err
		}
		if len(all) == 0 {
			return errors.New("none was started")
		}
		if got = all[len(all)-1]; !pass(got) || !got.last.After(since) {
			return fmt.Errorf("%d were started, the last is %v", len(all), got)
		}
		return nil
	})
	return got
}

// canFence skips where no exclusive program can run.
func canFence(t *testing.T, hansa string) {
	t.Helper()
	d, err := programs.New(programs.Config{Dir: t.TempDir(), Executable: hansa})
	if err != nil {
		t.Fatal(err)
	}
	if info := d.Probe(t.Context()); !info.Fence {
		t.Skipf("this machine can't fence: %s", info.Limits["fence"].Detail)
	}
}

// TestExclusiveRunsOnce: an exclusive program outlives kill -9 of its daemon
// when that comes back, ends by itself when it does not or when its site is cut
// off, and only then runs elsewhere, with a higher number.
func TestExclusiveRunsOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("leases of real daemons take most of a minute; not with -short")
	}
	hansa := daemon(t)
	canFence(t, hansa)
	m := start(t, hansa, 5*time.Millisecond, "lubeck", "bergen", "novgorod")
	book := filepath.Join(t.TempDir(), "book")
	deployLone(t, m, book)
	first := writes(t, book, time.Time{}, func(life) bool { return true })

	// Its daemon is killed and comes back: the same copy runs on, on a lease that
	// it must have renewed.
	killed := time.Now()
	kill(t, m, first.site)
	restart(t, m, first.site)
	if took := time.Since(killed); took > restartMax {
		t.Skipf("a daemon is back after %v, too late for the lease of its work: this machine is too busy", took)
	}
	writes(t, book, killed.Add(leaseSure), func(l life) bool { return l.id == first.id })

	// It is killed and does not come back.
	kill(t, m, first.site)
	second := writes(t, book, killed, func(l life) bool { return l.site != first.site })
	restart(t, m, first.site)

	// The site of the second is cut off.
	if err := m.Cut(t.Context(), second.site); err != nil {
		t.Fatal(err)
	}
	writes(t, book, second.last, func(l life) bool { return l.site != second.site })
	if err := m.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, err := lives(book)
	if err == nil {
		err = alone(all)
	}
	if err != nil {
		t.Error(err)
	}
	for _, l := range all {
		t.Log(l)
	}
	if len(all) != 3 {
		t.Errorf("%d copies were started, not 3", len(all))
	}
}

// acquainted waits until the first site knows what the peers of all have to offer,
// and returns its client.
func acquainted(t *testing.T, m *process.Mesh) *api.Client {
	t.Helper()
	c, err := m.Client(m.Sites()[0].Name)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "all know each other", func() error {
		list, err := c.Peers(t.Context(), api.Page{})
		if err != nil {
			return err
		}
		for _, p := range list.Items {
			if len(p.Drivers) == 0 {
				return fmt.Errorf("%s is not known", p.Name)
			}
		}
		if len(list.Items) < len(m.Sites()) {
			return fmt.Errorf("%d peers are known", len(list.Items))
		}
		return nil
	})
	return c
}

func deployLone(t *testing.T, m *process.Mesh, book string) {
	t.Helper()
	c := acquainted(t, m)
	one, user := 1, ""
	if os.Geteuid() == 0 {
		user = "root" // the book is in a folder of the test's own
	}
	app := placement.App{Name: "lone", Namespace: placement.DefaultNamespace, Components: map[string]placement.Component{"one": {
		Server:   &placement.Server{Process: &placement.Process{Command: []string{"/bin/sh", "-c", lone}, User: user}},
		Replicas: &one, Resources: placement.Resources{CPU: 50, Memory: 16 << 20},
		Env: map[string]string{"BOOK": book}, Exclusive: placement.Exclusive{On: true},
	}}}
	r, err := c.PutApp(t.Context(), app, api.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if r.Durability.Keepers != len(m.Sites()) {
		t.Fatalf("the app has %d keepers: no other copy could start without the first", r.Durability.Keepers)
	}
}

func kill(t *testing.T, m *process.Mesh, site string) {
	t.Helper()
	if err := m.KillDaemon(site); err != nil {
		t.Fatal(err)
	}
}

func restart(t *testing.T, m *process.Mesh, site string) {
	t.Helper()
	if err := m.Restart(t.Context(), site); err != nil {
		t.Fatal(err)
	}
}

// What holds the program's lines to the promise can fail.
func TestAlone(t *testing.T) {
	at := func(second int64) time.Time { return time.Unix(second, 0) }
	for want, all := range map[string][]life{
		"":             {{fence: 1, first: at(1), last: at(2)}, {fence: 3, first: at(3), last: at(4)}},
		"at a time":    {{fence: 1, first: at(1), last: at(3)}, {fence: 2, first: at(3), last: at(4)}},
		"did not rise": {{fence: 2, first: at(1), last: at(2)}, {fence: 2, first: at(3), last: at(4)}},
	} {
		if err := alone(all); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
}
