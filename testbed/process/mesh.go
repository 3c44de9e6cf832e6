package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hansa-mesh/hansa/testbed/relay"
	"github.com/hansa-mesh/hansa/testbed/scenario"
)

// startMax is how long a daemon may take to be ready.
const startMax = time.Minute

// Config says which mesh to start.
type Config struct {
	Hansa string   // the binary
	Dir   string   // data folders and logs
	Sites []string // one peer each
	Link  relay.Link
	Args  []string // more flags for every daemon
}

// Mesh is a mesh of real processes.
type Mesh struct {
	cfg   Config
	relay *relay.Relay
	stop  context.CancelFunc
	ended chan struct{}

	mu      sync.Mutex // guards what follows
	daemons map[string]*daemon
}

type daemon struct {
	site      string
	dir       string
	listen    string
	advertise string
	api       string
	cmd       *exec.Cmd
	exited    chan struct{}
}

// Start starts the daemons: the first founds the mesh, the others are let in.
func Start(ctx context.Context, cfg Config) (*Mesh, error) {
	m := &Mesh{cfg: cfg, relay: relay.New(cfg.Link), daemons: map[string]*daemon{}, ended: make(chan struct{})}
	for _, site := range cfg.Sites {
		d := &daemon{site: site, dir: filepath.Join(cfg.Dir, site)}
		var err error
		if d.listen, err = freePort("udp"); err != nil {
			return nil, err
		}
		if d.api, err = freePort("tcp"); err != nil {
			return nil, err
		}
		if d.advertise, err = m.relay.Add(site, d.listen); err != nil {
			return nil, err
		}
		m.daemons[site] = d
	}
	relayCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	m.stop = stop
	go func() {
		defer close(m.ended)
		_ = m.relay.Run(relayCtx) // ends with Close, without an error
	}()
	for i, site := range cfg.Sites {
		if err := m.found(ctx, i, m.daemons[site]); err != nil {
			return nil, errors.Join(err, m.Close())
		}
	}
	return m, nil
}

func (m *Mesh) found(ctx context.Context, i int, d *daemon) error {
	if i == 0 {
		if _, err := m.hansa(ctx, "", "init", "--data-dir", d.dir, "--name", d.site+"-1", "--site", d.site); err != nil {
			return err
		}
		return m.start(ctx, d)
	}
	first := m.daemons[m.cfg.Sites[0]]
	token, err := m.hansa(ctx, first.api, "invite", "--name", d.site+"-1", "--site", d.site)
	if err != nil {
		return err
	}
	return m.start(ctx, d, "--join", first.advertise, "--token", strings.TrimSpace(token))
}

// hansa runs the command to its end and returns its standard output.
func (m *Mesh) hansa(ctx context.Context, api string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, m.cfg.Hansa, args...)
	cmd.Env = append(os.Environ(), "HANSA_API="+api)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("hansa %s: %w\n%s%s", strings.Join(args, " "), err, &out, &errs)
	}
	return out.String(), nil
}

// start starts a daemon and waits until it is ready.
func (m *Mesh) start(ctx context.Context, d *daemon, extra ...string) error {
	args := []string{"agent", "--data-dir", d.dir, "--name", d.site + "-1", "--site", d.site,
		"--listen", d.listen, "--advertise", d.advertise, "--api", d.api}
	args = append(append(args, m.cfg.Args...), extra...)
	log, err := os.OpenFile(filepath.Join(m.cfg.Dir, d.site+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the daemon has its own copy
	cmd := exec.Command(m.cfg.Hansa, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // killed on purpose, mostly
		close(exited)
	}()
	m.mu.Lock()
	d.cmd, d.exited = cmd, exited
	m.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if ready(ctx, d.api) {
			return nil
		}
		select {
		case <-exited:
			return fmt.Errorf("the daemon of %s ended:\n%s", d.site, m.Log(d.site))
		case <-ctx.Done():
			return fmt.Errorf("the daemon of %s is not ready: %w\n%s", d.site, ctx.Err(), m.Log(d.site))
		case <-tick.C:
		}
	}
}

func ready(ctx context.Context, api string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+api+"/readyz", nil)
	if err != nil {
		return false
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return false
	}
	_, _ = io.Copy(io.Discard, response.Body)
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// Log is the end of what a daemon printed.
func (m *Mesh) Log(site string) string {
	data, err := os.ReadFile(filepath.Join(m.cfg.Dir, site+".log"))
	if err != nil {
		return err.Error()
	}
	return string(data[max(0, len(data)-20_000):])
}

// Dir is the data folder of a site's peer.
func (m *Mesh) Dir(site string) string { return m.daemons[site].dir }

// Listen is the address of a site's peer behind the relay, for newcomers.
func (m *Mesh) Listen(site string) string { return m.daemons[site].listen }

// Relay is the network between the sites.
func (m *Mesh) Relay() *relay.Relay { return m.relay }

// Sites are the sites in order.
func (m *Mesh) Sites() []scenario.Site {
	var sites []scenario.Site
	for _, name := range m.cfg.Sites {
		sites = append(sites, scenario.Site{Name: name, API: m.daemons[name].api})
	}
	return sites
}

// KillDaemon kills a daemon with SIGKILL and leaves its work running.
func (m *Mesh) KillDaemon(site string) error {
	m.mu.Lock()
	d := m.daemons[site]
	m.mu.Unlock()
	if d == nil || d.cmd == nil {
		return fmt.Errorf("kill %s: it does not run", site)
	}
	if err := d.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill %s: %w", site, err)
	}
	<-d.exited
	m.mu.Lock()
	d.cmd = nil
	m.mu.Unlock()
	return nil
}

// Kill is a power failure at a site: the daemon and all of its work end at
// once.
func (m *Mesh) Kill(_ context.Context, site string) error {
	if err := m.KillDaemon(site); err != nil {
		return err
	}
	return killWork(m.daemons[site].dir)
}

// Restart starts a site's daemon with the disk that it left.
func (m *Mesh) Restart(ctx context.Context, site string) error { return m.start(ctx, m.daemons[site]) }

// Cut cuts a site off from all others.
func (m *Mesh) Cut(_ context.Context, site string) error {
	m.relay.Isolate(site)
	return nil
}

// Heal mends every cut.
func (m *Mesh) Heal(context.Context) error {
	m.relay.Heal()
	return nil
}

// Close ends everything, work included.
func (m *Mesh) Close() error {
	var errs []error
	for _, site := range m.cfg.Sites {
		if m.daemons[site].cmd != nil {
			errs = append(errs, m.Kill(context.Background(), site))
		}
	}
	m.stop()
	<-m.ended
	return errors.Join(errs...)
}

// killWork kills every process that a driver of the peer with this data
// folder started: their supervisors and programs name the folder in their
// command line, their environment or as their working folder.
func killWork(dir string) error {
	for range 100 { // what was just forked is found in the next round
		pids, err := workOf(dir)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("kill the work in %s: %w", dir, err)
			}
		}
	}
	return fmt.Errorf("the work in %s can't be killed", dir)
}

func workOf(dir string) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscanf(e.Name(), "%d", &pid); err != nil || pid == os.Getpid() {
			continue
		}
		proc := filepath.Join("/proc", e.Name())
		stat, err := os.ReadFile(filepath.Join(proc, "stat"))
		if err != nil || bytes.Contains(stat, []byte(") Z ")) {
			continue // gone, or dead and not yet reaped
		}
		cwd, _ := os.Readlink(filepath.Join(proc, "cwd"))         // not ours to read, or gone: not ours
		cmdline, _ := os.ReadFile(filepath.Join(proc, "cmdline")) // the same
		if strings.HasPrefix(cwd, dir+"/") || bytes.Contains(cmdline, []byte(dir+"/")) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func freePort(network string) (string, error) {
	if network == "udp" {
		c, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		defer c.Close()
		return c.LocalAddr().String(), nil
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
