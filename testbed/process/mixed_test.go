package process_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/driver/qemu/guest"
	"github.com/hansa-mesh/hansa/testbed/links"
	"github.com/hansa-mesh/hansa/testbed/netns"
	"github.com/hansa-mesh/hansa/testbed/process"
)

// mixedMax bounds each wait for the mixed app: its machine is emulated, and boots
// for as long as others leave it no core.
const mixedMax = 4 * time.Minute

// slots are what the mixed app has, by component.
var slots = map[string]int{"web": 2, "counter": 1, "price": 2, "vm": 1}

// mixed is the app at three sites.
type mixed struct {
	*testing.T
	mesh *process.Mesh
	at   string // the site whose peer is asked
	file string // the manifest
}

// TestMixed: an app with a virtual machine, two containers and a function is
// deployed, seen, read, entered, restarted and changed by one set of verbs, and
// outlives the loss of the sites that it runs at.
func TestMixed(t *testing.T) {
	if testing.Short() {
		t.Skip("engines, a virtual machine and real daemons take a minute; not with -short")
	}
	hansa := daemon(t)
	if os.Geteuid() != 0 {
		t.Skip("sites with an engine each are only to be had as root")
	}
	for _, program := range []string{"dockerd", "qemu-system-x86_64", "qemu-img"} {
		if _, err := exec.LookPath(program); err != nil {
			lacks(t, "containers and machines need %s: %v", program, err)
		}
	}
	file := mixedFiles(t)
	m, err := process.Start(t.Context(), process.Config{
		Hansa: hansa, Dir: t.TempDir(), Sites: []string{"lubeck", "bergen", "novgorod"},
		Net: process.Namespaces(links.Link{Delay: 5 * time.Millisecond}), Engines: true,
	})
	if errors.Is(err, netns.ErrNotAllowed) {
		lacks(t, "no site can have an engine: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	a := &mixed{T: t, mesh: m, at: m.Sites()[0].Name, file: file}
	t.Cleanup(a.end)
	acquainted(t, m)

	a.deploy("mixed:1")
	a.healthy("after the deploy", "")
	n := a.visit("welcome")
	a.reads(n)
	a.console()
	a.hansa("restart", "mixed/counter", "--timeout", mixedMax.String())
	if again := a.visit("welcome"); again <= n {
		t.Errorf("the counter was restarted, and counts on from %d with %d", n, again)
	}
	a.change("GREETING: welcome", "GREETING: good day")
	a.visit("good day")
	counter, vm := a.running("counter")[0].Site, a.running("vm")[0].Site
	a.lose(counter)
	if vm != counter {
		a.lose(vm)
	}
}

// lacks skips where a machine can't have what the test needs. In CI that is a
// failure.
func lacks(t *testing.T, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

// mixedFiles builds what the manifest names beside a copy of it.
func mixedFiles(t *testing.T) (manifest string) {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"web", "counter", "machine"} {
		build(t, filepath.Join(dir, "build", name), "./examples/mixed/"+name)
	}
	for _, name := range []string{"web", "counter"} {
		saveImage(t, filepath.Join(dir, "build", name))
	}
	build(t, filepath.Join(dir, "build/price.wasm"), "./examples/mixed/price", "GOOS=wasip1", "GOARCH=wasm")
	if _, _, err := guest.Build(filepath.Join(dir, "build/machine"), filepath.Join(dir, "build")); err != nil {
		lacks(t, "no kernel for a machine: %v", err)
	}
	text, err := os.ReadFile("../../examples/mixed/mixed.yaml")
	if err != nil {
		t.Fatal(err)
	}
	manifest = filepath.Join(dir, "mixed.yaml")
	if err := os.WriteFile(manifest, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return manifest
}

// end shows what there is to see of a failure, and ends the mesh.
func (a *mixed) end() {
	if a.Failed() {
		if out, err := a.mesh.Command(context.Background(), a.at, "explain", "mixed"); err == nil {
			a.Log(out)
		}
		for _, s := range a.mesh.Sites() {
			a.Logf("log of %s:\n%s", s.Name, a.mesh.Log(s.Name))
		}
	}
	if err := a.mesh.Close(); err != nil {
		a.Error(err)
	}
}

// deploy makes a package of the manifest, with the images, and has it run.
func (a *mixed) deploy(name string) {
	a.Helper()
	a.hansa("pack", a.file, "-t", name)
	a.hansa("deploy", name, "--timeout", mixedMax.String())
}

// engine asks the engine of a site.
func (a *mixed) engine(site, method, path string, body io.Reader) []byte {
	a.Helper()
	return askEngine(a.T, a.mesh, site, method, path, body)
}

func askEngine(t *testing.T, m *process.Mesh, site, method, path string, body io.Reader) []byte {
	t.Helper()
	c, err := m.Engine(site)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, "http://engine"+path, body)
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode/100 != 2 {
		t.Fatalf("%s %s at the engine of %s: %s %s %v", method, path, site, response.Status, said, err)
	}
	return said
}

// hansa runs the command as a person would.
func (a *mixed) hansa(args ...string) string {
	a.Helper()
	begin := time.Now()
	out, err := a.mesh.Command(a.Context(), a.at, args...)
	if err != nil {
		a.Fatal(err)
	}
	a.Logf("$ hansa %s   # at %s, %v\n%s", strings.Join(args, " "), a.at, time.Since(begin).Round(time.Millisecond), out)
	return out
}

// running are the allocations of a component, in the order of their slots.
func (a *mixed) running(component string) []api.Allocation {
	a.Helper()
	c, err := a.mesh.Client(a.at)
	if err != nil {
		a.Fatal(err)
	}
	list, err := c.Allocations(a.Context(), api.AllocationQuery{App: "mixed", Component: component, States: []string{"running"}})
	if err != nil {
		a.Fatal(err)
	}
	return list.Items
}

// healthy waits until each slot of the app runs once; at the dead site nothing
// counts.
func (a *mixed) healthy(when, dead string) {
	a.Helper()
	begin := time.Now()
	within(a.T, mixedMax, "all runs "+when, func() error {
		c, err := a.mesh.Client(a.at)
		if err != nil {
			return err
		}
		list, err := c.Allocations(a.Context(), api.AllocationQuery{App: "mixed"})
		if err != nil {
			return err
		}
		seen, wanted := map[string]string{}, 0
		for _, x := range list.Items {
			slot := fmt.Sprintf("%s[%d]", x.Component, x.Slot)
			switch other, twice := seen[slot]; {
			case x.Site == dead:
			case x.State != "running":
				return fmt.Errorf("%s is %s at %s: %s", slot, x.State, x.Site, x.Reason)
			case twice:
				return fmt.Errorf("%s runs at %s and at %s", slot, other, x.Site)
			default:
				seen[slot] = x.Site
			}
		}
		for _, n := range slots {
			wanted += n
		}
		if len(seen) != wanted {
			return fmt.Errorf("%d of %d slots run: %v", len(seen), wanted, seen)
		}
		return nil
	})
	a.Logf("all runs %s, %v\n%s", when, time.Since(begin).Round(time.Millisecond), a.hansa("ps", "mixed"))
}

// visit asks every web, which asks the counter by its name, and returns the
// highest number that it gave.
func (a *mixed) visit(greeting string) (highest int) {
	a.Helper()
	for range slots["web"] {
		for _, x := range a.running("web") {
			within(a.T, time.Minute, "web counts its visitors", func() error {
				response, err := a.mesh.HTTP(x.Site).Get("http://" + x.Ports["http"] + "/")
				if err != nil {
					return err
				}
				defer response.Body.Close()
				var answer struct{ Site, Greeting, Visit string }
				if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
					return err
				}
				if answer.Site != x.Site || answer.Greeting != greeting {
					return fmt.Errorf("web[%d] at %s answers %+v", x.Slot, x.Site, answer)
				}
				n, err := strconv.Atoi(answer.Visit)
				highest = max(highest, n)
				return err
			})
		}
	}
	return highest
}

// reads invokes the function, reads the machine's log, and runs a command beside
// the counter, whose number is n.
func (a *mixed) reads(n int) {
	a.Helper()
	if got := a.hansa("invoke", "mixed/price", "--path", "/?quantity=3"); !strings.Contains(got, `"cents": 3750`) {
		a.Errorf("the price of 3 is %q", got)
	}
	if got := a.hansa("logs", "mixed/vm"); !strings.Contains(got, "This machine belongs to the mixed app.") || !strings.Contains(got, "machine: booted at "+a.running("vm")[0].Site+", ahoy") {
		a.Errorf("the machine's log is %q", got)
	}
	if got := a.hansa("exec", "mixed/counter", "--", "/counter", "-show"); strings.TrimSpace(got) != strconv.Itoa(n) {
		a.Errorf("the counter shows %q, not %d", got, n)
	}
}

// console types on the machine's console.
func (a *mixed) console() {
	a.Helper()
	c, err := a.mesh.Client(a.at)
	if err != nil {
		a.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(a.Context(), time.Minute)
	defer cancel()
	in, typed := io.Pipe()
	shown, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := c.Exec(ctx, a.running("vm")[0].ID, api.Exec{Console: true, TTY: true, Stdin: in, Stdout: out, Stderr: out})
		out.CloseWithError(io.EOF)
		ended <- err
	}()
	if _, err := io.WriteString(typed, "env\n"); err != nil {
		a.Fatal(err)
	}
	var said strings.Builder
	for buffer := make([]byte, 1<<12); !strings.Contains(said.String(), "HANSA_COMPONENT=vm"); {
		n, err := shown.Read(buffer)
		said.Write(buffer[:n])
		if err != nil {
			a.Fatalf("the console says %q: %v, %v", &said, err, <-ended)
		}
	}
	typed.Close()
	go func() { _, _ = io.Copy(io.Discard, shown) }()
	if err := <-ended; err != nil {
		a.Errorf("the console, left: %v", err)
	}
}

// change packs and deploys the manifest with another text in it, and waits until that is
// rolled out.
func (a *mixed) change(from, to string) {
	a.Helper()
	text, err := os.ReadFile(a.file)
	if err != nil {
		a.Fatal(err)
	}
	next := bytes.Replace(text, []byte(from), []byte(to), 1)
	if bytes.Equal(next, text) {
		a.Fatalf("the manifest has no %q", from)
	}
	if err := os.WriteFile(a.file, next, 0o600); err != nil {
		a.Fatal(err)
	}
	before := a.running("counter")[0]
	a.deploy("mixed:2")
	a.healthy("after the change", "")
	if after := a.running("counter")[0]; after.ID != before.ID || !after.StartedAt.Equal(before.StartedAt) {
		a.Errorf("web was changed, and the counter was started anew: %+v, then %+v", before, after)
	}
}

// lose cuts the power of a site, and has it back.
func (a *mixed) lose(lost string) {
	a.Helper()
	if err := a.mesh.Kill(a.Context(), lost); err != nil {
		a.Fatal(err)
	}
	for _, s := range a.mesh.Sites() {
		if s.Name != lost {
			a.at = s.Name
		}
	}
	a.healthy("elsewhere, without "+lost, lost)
	a.visit("good day")
	if err := a.mesh.Restart(a.Context(), lost); err != nil {
		a.Fatal(err)
	}
	within(a.T, mixedMax, "the mesh is settled", func() error {
		for _, s := range a.mesh.Sites() {
			c, err := a.mesh.Client(s.Name)
			if err != nil {
				return err
			}
			if mesh, err := c.Mesh(a.Context()); err != nil || !mesh.Settled {
				return fmt.Errorf("%s does not call it settled: %v %v", s.Name, mesh.Open, err)
			}
		}
		return nil
	})
	a.healthy("after "+lost+" is back", "")
	a.visit("good day")
	a.once()
}

// once holds what runs at all sites, as the engines and the kernel tell, to what
// has to.
func (a *mixed) once() {
	a.Helper()
	containers, machines := 0, 0
	for _, s := range a.mesh.Sites() {
		var list []json.RawMessage
		if err := json.Unmarshal(a.engine(s.Name, http.MethodGet, "/containers/json", nil), &list); err != nil {
			a.Fatal(err)
		}
		containers += len(list)
		all, err := filepath.Glob("/proc/[0-9]*")
		if err != nil {
			a.Fatal(err)
		}
		for _, dir := range all {
			program, _ := os.Readlink(filepath.Join(dir, "exe")) // gone, or not ours
			cwd, _ := os.Readlink(filepath.Join(dir, "cwd"))     // the same
			if strings.HasPrefix(filepath.Base(program), "qemu-system") && strings.HasPrefix(cwd, a.mesh.Dir(s.Name)+"/") {
				machines++
			}
		}
	}
	if containers != slots["web"]+slots["counter"] || machines != slots["vm"] {
		a.Errorf("%d containers and %d machines run", containers, machines)
	}
}
