package process_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/testbed/links"
	"github.com/hansa-mesh/hansa/testbed/process"
	"github.com/hansa-mesh/hansa/testbed/scenario"
)

// build builds a program of this module into a file.
func build(t testing.TB, out, pkg string, env ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
	cmd.Dir, cmd.Env = filepath.Join("..", ".."), append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, text)
	}
}

// daemon builds the daemon, as make does.
func daemon(t testing.TB) (hansa string) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("real daemons run on Linux only: the process driver does")
	}
	hansa = filepath.Join(t.TempDir(), "hansa")
	build(t, hansa, "./node/cmd/hansa")
	return hansa
}

// shop builds the programs of the shop beside its manifest.
func shop(t *testing.T) (manifest string) {
	t.Helper()
	dir := t.TempDir()
	build(t, filepath.Join(dir, "build/api.wasm"), "./examples/shop/api", "GOOS=wasip1", "GOARCH=wasm")
	build(t, filepath.Join(dir, "build/meter"), "./examples/shop/meter")
	text, err := os.ReadFile("../../examples/shop/shop.yaml")
	if err != nil {
		t.Fatal(err)
	}
	manifest = filepath.Join(dir, "shop.yaml")
	if err := os.WriteFile(manifest, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return manifest
}

// start runs a daemon for each site, and shows their logs when the test failed.
func start(t *testing.T, hansa string, delay time.Duration, sites ...string) *process.Mesh {
	t.Helper()
	m, err := process.Start(t.Context(), process.Config{
		Hansa: hansa, Dir: t.TempDir(), Sites: sites, Net: process.Loopback(links.Link{Delay: delay}),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, s := range m.Sites() {
				t.Logf("log of %s:\n%s", s.Name, m.Log(s.Name))
			}
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// out shows the narration only of a test that failed, or with -v.
type out struct{ t *testing.T }

func (o out) Write(p []byte) (int, error) {
	o.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

// TestScenario is the demo with real daemons and kill -9: deploy once, lose the
// first site, cut another off, heal.
func TestScenario(t *testing.T) {
	if testing.Short() {
		t.Skip("real daemons take half a minute; not with -short")
	}
	hansa, manifest := daemon(t), shop(t)
	m := start(t, hansa, 20*time.Millisecond, "lubeck", "bergen", "novgorod")
	figures, err := scenario.Run(t.Context(), m, scenario.Options{Hansa: hansa, Manifest: manifest, Out: out{t}})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("deploy %v, failover %v, heal %v, %d calls", figures.Deploy, figures.Failover, figures.Heal, figures.Calls)
	t.Run("a daemon killed with its work left running adopts it", func(t *testing.T) { adopts(t, m) })
	t.Run("a newcomer joins when the first site is gone", func(t *testing.T) { joins(t, m, hansa) })
}

// running is how many allocations run at a site, as that site tells.
func running(ctx context.Context, s scenario.Site) (int, error) {
	c, err := api.NewClient(s.API, "", api.ClientOptions{})
	if err != nil {
		return 0, err
	}
	list, err := c.Allocations(ctx, api.AllocationQuery{Site: s.Name, States: []string{"running"}})
	return len(list.Items), err
}

func until(t *testing.T, what string, condition func() error) {
	t.Helper()
	within(t, time.Minute, what, condition)
}

func within(t *testing.T, patience time.Duration, what string, condition func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

// adopts: programs do not notice that their daemon was killed and came back.
func adopts(t *testing.T, m *process.Mesh) {
	site := m.Sites()[2]
	programs := func() string {
		text, err := exec.CommandContext(t.Context(), "pgrep", "-f", m.Dir(site.Name)+".*meter").Output()
		if err != nil {
			return ""
		}
		return string(text)
	}
	before := programs()
	if before == "" {
		t.Skip("no program runs at this site, or there is no pgrep")
	}
	if err := m.KillDaemon(site.Name); err != nil {
		t.Fatal(err)
	}
	if now := programs(); now != before {
		t.Fatalf("programs ended with their daemon: before %q, now %q", before, now)
	}
	if err := m.Restart(t.Context(), site.Name); err != nil {
		t.Fatal(err)
	}
	until(t, "the work is known again", func() error {
		n, err := running(t.Context(), site)
		if err == nil && n == 0 {
			err = errors.New("nothing runs")
		}
		return err
	})
	if now := programs(); now != before {
		t.Errorf("programs were started anew: before %q, now %q", before, now)
	}
}

// joins: any peer lets a newcomer in; an invitation is good once.
func joins(t *testing.T, m *process.Mesh, hansa string) {
	sites := m.Sites()
	if err := m.Kill(t.Context(), sites[0].Name); err != nil {
		t.Fatal(err)
	}
	run := func(api string, args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), hansa, args...)
		cmd.Env = append(os.Environ(), "HANSA_API="+api)
		text, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("hansa %v: %w: %s", args, err, text)
		}
		return string(text), err
	}
	text, err := run(sites[1].API, "invite", "--name", "visby-1", "--site", "visby")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(text)
	token := lines[len(lines)-1]
	at := m.Listen(sites[2].Name) // not the peer that invited
	if _, err := run("", "join", at, "--data-dir", t.TempDir(), "--token", token); err != nil {
		t.Fatal(err)
	}
	text, err = run("", "join", at, "--data-dir", t.TempDir(), "--token", token)
	if err == nil || !strings.Contains(text, "used already") {
		t.Errorf("a used invitation: %v %s", err, text)
	}
	forged := token[:len(token)-8] + "AAAAAAAA"
	if text, err = run("", "join", at, "--data-dir", t.TempDir(), "--token", forged); err == nil {
		t.Errorf("a forged invitation let somebody in: %s", text)
	}
}
