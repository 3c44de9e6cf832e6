package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// engineMax is how long an engine may take to answer.
const engineMax = time.Minute

// engine is a Docker Engine of a site's own, in its namespace and with all of its
// folders below dir, so that a power failure ends what it runs too.
type engine struct {
	dir    string
	name   string // of what it has beside its folders: its cgroup
	cmd    *exec.Cmd
	exited chan struct{}
}

func (e *engine) socket() string { return filepath.Join(e.dir, "docker.sock") }

// address is its DOCKER_HOST.
func (e *engine) address() string { return "unix://" + e.socket() }

// http speaks to it.
func (e *engine) http() *http.Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", e.socket())
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}
}

func (e *engine) runs() bool {
	if e.cmd == nil {
		return false
	}
	select {
	case <-e.exited:
		return false
	default:
		return true
	}
}

// startEngine starts the engine of a site unless it runs, and waits until it
// answers.
func (m *Mesh) startEngine(ctx context.Context, d *daemon) error {
	e := d.engine
	if e.runs() {
		return nil
	}
	if err := os.MkdirAll(e.dir, 0o700); err != nil {
		return err
	}
	in := func(name string) string { return filepath.Join(e.dir, name) }
	// What a machine that boots anew has not got.
	for _, left := range []string{"run", "pid", "docker.sock"} {
		if err := os.RemoveAll(in(left)); err != nil {
			return err
		}
	}
	if err := os.WriteFile(in("daemon.json"), []byte("{}"), 0o600); err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(m.cfg.Dir, d.site+".engine.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the engine has its own copy
	cmd := exec.Command("dockerd", "--config-file", in("daemon.json"), "--data-root", in("root"), "--exec-root", in("run"),
		"--pidfile", in("pid"), "-H", e.address(), "--bridge", "none", "--default-address-pool", "base=10.213.0.0/16,size=24",
		"--containerd-namespace", e.name, "--cgroup-parent", "/"+e.name, "--log-level", "warn")
	cmd.Stdout, cmd.Stderr = log, log
	if err := d.Start(cmd); err != nil {
		return fmt.Errorf("the engine of %s: %w", d.site, err)
	}
	e.cmd, e.exited = cmd, make(chan struct{})
	go func(exited chan struct{}) {
		_ = cmd.Wait() // killed on purpose, mostly
		close(exited)
	}(e.exited)
	return e.ready(ctx, d.site)
}

func (e *engine) ready(ctx context.Context, site string) error {
	ctx, cancel := context.WithTimeout(ctx, engineMax)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://engine/_ping", nil)
		if err != nil {
			return err
		}
		if response, err := e.http().Do(request); err == nil {
			response.Body.Close()
			return nil
		}
		select {
		case <-e.exited:
			return fmt.Errorf("the engine of %s ended: see its log", site)
		case <-ctx.Done():
			return fmt.Errorf("the engine of %s does not answer: %w", site, ctx.Err())
		case <-tick.C:
		}
	}
}

// Engine speaks to a site's engine, at any host name. Needs Config.Engines.
func (m *Mesh) Engine(site string) (*http.Client, error) {
	d := m.daemons[site]
	if d == nil || d.engine == nil {
		return nil, errors.New("there is no engine at " + site)
	}
	return d.engine.http(), nil
}

// endEngine is called when all of a site's processes are dead: it waits for the
// engine's end and removes what the kernel keeps of its containers.
func (d *daemon) endEngine() error {
	if d.engine == nil {
		return nil
	}
	if d.engine.cmd != nil {
		<-d.engine.exited
		d.engine.cmd = nil
	}
	// Cgroups stay when their processes are killed, and are no files.
	for _, pattern := range []string{"/sys/fs/cgroup/%s/*", "/sys/fs/cgroup/%s", "/sys/fs/cgroup/*/%s/*", "/sys/fs/cgroup/*/%s"} {
		all, err := filepath.Glob(fmt.Sprintf(pattern, d.engine.name))
		if err != nil {
			return err
		}
		for _, cgroup := range all {
			_ = os.Remove(cgroup) // one that the kernel still empties stays
		}
	}
	return unmountBelow(d.engine.dir)
}
