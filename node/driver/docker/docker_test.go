package docker_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/moby/client"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/drivertest"
)

func TestConformance(t *testing.T) { conform(t, "docker", nil) }

// conform runs the suite on an engine.
func conform(t *testing.T, kind string, cannot map[string]string) {
	h := engine(t, kind)
	if cannot == nil {
		cannot = map[string]string{}
	}
	cannot["CommandThatNamesNoPort"] = `the words of a container's command are its own: "${…}" is for its shell`
	drivertest.Run(t, drivertest.Harness{Cannot: cannot, New: func(t *testing.T) drivertest.Machine {
		p := newPlace(t, h)
		return drivertest.Machine{
			Open: func(t *testing.T, events func(driver.Event)) driver.Driver {
				d := p.open(t, events)
				// Podman takes seconds for its first answer on a busy machine.
				drivertest.Eventually(t, "the engine", func() bool { return d.Probe(t.Context()).Available })
				return d
			},
			Program: func(t *testing.T, id string, verb ...string) driver.Task { return program(id, verb...) },
			Command: func(t *testing.T, verb ...string) []string {
				return append([]string{"/guest", drivertest.GuestArg}, verb...)
			},
			Damage:    func(t *testing.T, id string) { p.damage(t, id) },
			Leftovers: func(t *testing.T) int { return p.processes(t) },
			Network:   true, Disk: p.c.Dir, Flood: 32 << 20, Many: 30, MissesOOM: true,
			LogBytes: func(t *testing.T, id string) int64 { return p.logBytes(t, id) },
			Litter: func(t *testing.T, id string) {
				dir := filepath.Join(p.c.SecretsDir, driver.SafeID(id))
				if err := os.MkdirAll(dir, 0o700); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, "id"), []byte(id), 0o600); err != nil {
					t.Fatal(err)
				}
			},
			Littered: func(t *testing.T, id string) bool {
				_, err := os.Stat(filepath.Join(p.c.SecretsDir, driver.SafeID(id)))
				return err == nil
			},
		}
	}})
}

// damage removes the container of a task behind the driver's back.
func (p *place) damage(t *testing.T, id string) {
	t.Helper()
	cli := p.h.client(t)
	defer cli.Close()
	if _, err := cli.ContainerRemove(t.Context(), p.container(t, id), client.ContainerRemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
}

// container is the engine's id of a task.
func (p *place) container(t testing.TB, id string) string {
	t.Helper()
	cli := p.h.client(t)
	defer cli.Close()
	list, err := cli.ContainerList(context.Background(), client.ContainerListOptions{All: true, Filters: p.filters().Add("label", "hansa.scope="+p.scope, "hansa.task="+id)})
	if err != nil || len(list.Items) == 0 {
		t.Fatalf("no container of %s: %v", id, err)
	}
	return list.Items[0].ID
}

// processes counts what runs in the place's containers: all that shares the
// process namespace of one.
func (p *place) processes(t testing.TB) int {
	t.Helper()
	cli := p.h.client(t)
	defer cli.Close()
	list, err := cli.ContainerList(context.Background(), client.ContainerListOptions{Filters: p.filters()})
	if err != nil {
		t.Fatal(err)
	}
	spaces := map[string]bool{}
	for _, c := range list.Items {
		seen, err := cli.ContainerInspect(context.Background(), c.ID, client.ContainerInspectOptions{})
		if err != nil || seen.Container.State.Pid == 0 {
			continue // it ended
		}
		if space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", seen.Container.State.Pid)); err == nil {
			spaces[space] = true
		}
	}
	n := 0
	all, _ := filepath.Glob("/proc/[0-9]*/ns/pid")
	for _, at := range all {
		if space, err := os.Readlink(at); err == nil && spaces[space] {
			n++
		}
	}
	return n
}

// logBytes is what the driver keeps of a task's output.
func (p *place) logBytes(t testing.TB, id string) (total int64) {
	t.Helper()
	for _, of := range []string{"tasks", "stopped"} {
		files, _ := filepath.Glob(filepath.Join(p.c.Dir, of, driver.SafeID(id), "logs", "*.log"))
		for _, f := range files {
			if info, err := os.Stat(f); err == nil {
				total += info.Size()
			}
		}
	}
	return total
}

// pid is the process that a container began with.
func (h *host) pid(t testing.TB, container string) int {
	t.Helper()
	cli := h.client(t)
	defer cli.Close()
	seen, err := cli.ContainerInspect(context.Background(), container, client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return seen.Container.State.Pid
}
