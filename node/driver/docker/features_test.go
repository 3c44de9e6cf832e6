package docker_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/docker"
	"github.com/hansa-mesh/hansa/node/driver/drivertest"
)

func mustStart(t *testing.T, d *docker.Driver, task driver.Task) driver.Status {
	t.Helper()
	s, err := d.Start(t.Context(), task)
	if err != nil {
		t.Fatalf("Start %s: %v", task.ID, err)
	}
	return s
}

// TestNetwork has the containers of an app reach each other by name, those of
// another app not, and its network go with the last of them.
func TestNetwork(t *testing.T) {
	p := newPlace(t, engine(t, "docker"))
	d, _ := p.running(t, nil)
	api := program("c/0", "listen", "http")
	api.Ports = map[string]driver.Port{"http": {Inside: 8080, Host: freePort(t)}}
	api.Container.Network, api.Container.Alias = "app-1", "api"
	mustStart(t, d, api)
	friend := program("c/1", "dial", "api:8080")
	friend.Container.Network = "app-1"
	mustStart(t, d, friend)
	if s := ended(t, d, "c/1"); s.ExitCode != 0 {
		t.Errorf("a container of the app ended as %+v:\n%s", s, drivertest.LogText(t, d, "c/1"))
	}
	stranger := program("c/2", "dial", "api:8080")
	stranger.Container.Network = "app-2"
	mustStart(t, d, stranger)
	if s := ended(t, d, "c/2"); s.ExitCode != 1 {
		t.Errorf("a container of another app ended as %+v", s)
	}
	if n := p.networks(t); n != 2 {
		t.Errorf("%d networks, want one for each app", n)
	}
	for i, id := range []string{"c/0", "c/1", "c/2"} {
		if err := d.Stop(t.Context(), id, -1); err != nil {
			t.Fatal(err)
		}
		if n, want := p.networks(t), []int{2, 1, 0}[i]; n != want {
			t.Errorf("%d networks are left after %d stops, want %d", n, i+1, want)
		}
	}
}

func (p *place) networks(t *testing.T) int {
	t.Helper()
	cli := p.h.client(t)
	defer cli.Close()
	list, err := cli.NetworkList(t.Context(), client.NetworkListOptions{Filters: p.filters()})
	if err != nil {
		t.Fatal(err)
	}
	return len(list.Items)
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestScopes has two daemons at one engine, that see nothing of each other.
func TestScopes(t *testing.T) {
	h := engine(t, "docker")
	one, other := newPlace(t, h), newPlace(t, h)
	first, _ := one.running(t, nil)
	second, _ := other.running(t, nil)
	mustStart(t, first, program("c/0", "run"))
	mustStart(t, second, program("c/0", "run")) // the same id
	mustStart(t, second, program("c/1", "run"))
	if all, err := first.List(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("the first lists %v, %v", all, err)
	}
	if err := first.Stop(t.Context(), "c/0", -1); err != nil {
		t.Fatal(err)
	}
	if err := first.Collect(t.Context(), func(string) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if n := other.containers(t, false); n != 2 {
		t.Errorf("%d containers of the second run, want 2", n)
	}
}

// TestSettings looks from inside at what a manifest can say of a container.
func TestSettings(t *testing.T) {
	p := newPlace(t, engine(t, "docker"))
	d, _ := p.running(t, nil)
	run := func(task driver.Task) (int, string) {
		t.Helper()
		mustStart(t, d, task)
		s := ended(t, d, task.ID)
		return s.ExitCode, drivertest.LogText(t, d, task.ID)
	}
	who := program("c/who", "who")
	who.Container.User = "1000:1001"
	if code, text := run(who); code != 0 || !strings.Contains(text, "1000") || !strings.Contains(text, "1001") {
		t.Errorf("as 1000:1001 it is\n%s", text)
	}
	where := program("c/where", "where")
	where.Container.Dir = "/srv"
	if _, text := run(where); !strings.Contains(text, "/srv") {
		t.Errorf("its folder is\n%s", text)
	}
	sealed := program("c/sealed", "write", "/srv/file", "x")
	sealed.Container.ReadOnly = true
	if code, _ := run(sealed); code == 0 {
		t.Error("a read-only container wrote to its root")
	}
	scratch := program("c/scratch", "fill", "/scratch/file", "65536")
	scratch.Container.ReadOnly, scratch.Container.Tmpfs = true, map[string]int64{"/scratch": 1 << 20}
	if code, text := run(scratch); code != 0 {
		t.Errorf("a tmpfs takes nothing:\n%s", text)
	}
	scratch.ID, scratch.Container.Args = "c/overflow", []string{"fill", "/scratch/file", "4194304"}
	if code, _ := run(scratch); code == 0 {
		t.Error("a tmpfs of 1 MiB took 4 MiB")
	}
	secret := program("c/secret", "read", "/etc/key")
	secret.Container.User = "1000"
	secret.Files = []driver.File{{Path: "/etc/key", Content: []byte("k"), Mode: 0o400, Secret: true}}
	if code, text := run(secret); code != 0 {
		t.Errorf("a user can't read its secret:\n%s", text)
	}
	volume := program("c/volume", "append", "/data/book", "line")
	volume.Container.User = "1000"
	volume.Volumes = []driver.Volume{{Name: "data", Path: "/data", Source: t.TempDir()}}
	if code, text := run(volume); code != 0 {
		t.Errorf("a user can't write to its volume:\n%s", text)
	}
}

// TestWhatTheEngineIsTold is what can't be seen from inside here.
func TestWhatTheEngineIsTold(t *testing.T) {
	h := engine(t, "docker")
	p := newPlace(t, h)
	d, _ := p.running(t, nil)
	task := program("c/0", "run")
	task.Labels = map[string]string{"app": "shop", "component": "api"}
	task.Container.CapAdd, task.Container.CapDrop, task.Container.Pids = []string{"NET_ADMIN"}, []string{"ALL"}, 99
	task.Memory, task.CPU, task.LogMax = 64<<20, 1_000_000, 8<<20 // more CPU than there is
	mustStart(t, d, task)
	cli := h.client(t)
	defer cli.Close()
	seen, err := cli.ContainerInspect(t.Context(), p.container(t, "c/0"), client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	host, config := seen.Container.HostConfig, seen.Container.Config
	if !slices.Equal(host.CapAdd, []string{"CAP_NET_ADMIN"}) || !slices.Equal(host.CapDrop, []string{"ALL"}) || *host.PidsLimit != 99 {
		t.Errorf("capabilities +%v -%v, %d processes", host.CapAdd, host.CapDrop, *host.PidsLimit)
	}
	if host.Memory != 64<<20 || host.MemorySwap != 64<<20 || host.NanoCPUs <= 0 {
		t.Errorf("memory %d, with swap %d, cpu %d", host.Memory, host.MemorySwap, host.NanoCPUs)
	}
	if host.RestartPolicy.Name != "no" || host.AutoRemove || host.Privileged || host.LogConfig.Config["max-size"] != "8388608" {
		t.Errorf("restart %v, removal %v, privileges %v, log %v", host.RestartPolicy, host.AutoRemove, host.Privileged, host.LogConfig)
	}
	if config.Labels["hansa.label.app"] != "shop" || config.Labels["hansa.task"] != "c/0" || config.Labels["hansa.scope"] != p.scope {
		t.Errorf("labels %v", config.Labels)
	}
	gpu := program("c/1", "run")
	gpu.Devices = []string{"0"}
	if _, err := d.Start(t.Context(), gpu); err == nil || !strings.Contains(err.Error(), "nvidia") {
		t.Errorf("a GPU that this machine has not: %v", err)
	}
	none := program("c/2", "run")
	none.Container.Command = []string{"/no/such/program"}
	if _, err := d.Start(t.Context(), none); !errors.Is(err, driver.ErrInvalid) || !strings.Contains(err.Error(), "command is not in the image") {
		t.Errorf("a command that the image has not: %v", err)
	}
	if all, err := d.List(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("List has %v, %v: what never ran is not there", all, err)
	}
	if n := p.containers(t, true); n != 1 {
		t.Errorf("%d containers are left, want 1", n)
	}
}

// TestPortOfAnother says which port of the host somebody else has.
func TestPortOfAnother(t *testing.T) {
	p := newPlace(t, engine(t, "docker"))
	d, _ := p.running(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	task := program("c/0", "listen", "http")
	task.Ports = map[string]driver.Port{"http": {Inside: 8080, Host: l.Addr().String()}}
	_, err = d.Start(t.Context(), task)
	if err == nil || !strings.Contains(err.Error(), l.Addr().String()) || !strings.Contains(err.Error(), `"http"`) || errors.Is(err, driver.ErrInvalid) {
		t.Errorf("Start: %v", err)
	}
}

// TestExecWithoutAShell is an image that has none.
func TestExecWithoutAShell(t *testing.T) {
	p := newPlace(t, engine(t, "docker"))
	d, _ := p.running(t, nil)
	mustStart(t, d, program("c/0", "run"))
	if _, err := d.Exec(t.Context(), "c/0", driver.Exec{}); !errors.Is(err, driver.ErrInvalid) || !strings.Contains(err.Error(), "no shell") {
		t.Errorf("a shell: %v", err)
	}
	if _, err := d.Exec(t.Context(), "c/0", driver.Exec{Console: true}); !errors.Is(err, driver.ErrInvalid) {
		t.Errorf("a console: %v", err)
	}
}

// TestEmptyDisk is a daemon that lost its folder: the labels have all that it
// needs.
func TestEmptyDisk(t *testing.T) {
	p := newPlace(t, engine(t, "docker"))
	d, stop := p.running(t, nil)
	task := program("c/0", "on-stop", "4")
	task.Labels = map[string]string{"claim": "c", "slot": "0"}
	task.Ports = map[string]driver.Port{"http": {Inside: 80, Host: freePort(t)}}
	task.Container.Network = "app"
	before := mustStart(t, d, task)
	drivertest.Eventually(t, "the program", func() bool { return strings.Contains(drivertest.LogText(t, d, "c/0"), "ready") })
	stop()
	entries, err := os.ReadDir(p.c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(p.c.Dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	var states last
	d, _ = p.running(t, states.event)
	all, err := d.List(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("List has %v, %v", all, err)
	}
	s := all[0]
	if s.State != driver.StateRunning || s.Labels["claim"] != "c" || s.Ports["http"] != before.Ports["http"] || !s.StartedAt.Equal(before.StartedAt) {
		t.Errorf("it is %+v, before it was %+v", s, before)
	}
	drivertest.Eventually(t, "its output", func() bool { return strings.Contains(drivertest.LogText(t, d, "c/0"), "ready") })
	if err := d.Stop(context.Background(), "c/0", 0); err != nil {
		t.Fatal(err)
	}
	drivertest.Eventually(t, "its end", func() bool { return states.of("c/0").State.Ended() })
	if s := states.of("c/0"); s.ExitCode != 4 {
		t.Errorf("it ended as %+v, want code 4", s)
	}
	if n := p.networks(t); n != 0 {
		t.Errorf("%d networks are left", n)
	}
}
