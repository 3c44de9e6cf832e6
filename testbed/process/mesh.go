package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/testbed/links"
	"github.com/hansa-mesh/hansa/testbed/scenario"
)

// startMax is how long a daemon may take to be ready.
const startMax = time.Minute

// idleMax bounds the idle connections to one admin API.
const idleMax = 8

// Config says which mesh to start.
type Config struct {
	Hansa string   // the binary
	Dir   string   // data folders and logs
	Sites []string // one peer each
	Net   Network  // where they run; default Loopback without delays
	Args  []string // more flags for every daemon
	// DiskSize gives every peer a disk of its own of so many bytes, which can be
	// filled; needs root. 0 is none.
	DiskSize int64
	// Engines gives every peer a Docker Engine of its own; needs root, dockerd and
	// Namespaces.
	Engines bool
}

// Mesh is a mesh of real processes.
type Mesh struct {
	cfg    Config
	stop   context.CancelFunc
	ended  chan struct{}
	netErr error // of the network, once ended is closed

	mu      sync.Mutex // guards what follows
	daemons map[string]*daemon
}

type daemon struct {
	Place
	site    string
	dir     string
	http    *http.Client
	mounted bool    // dir is a disk of its own
	engine  *engine // nil without one
	cmd     *exec.Cmd
	exited  chan struct{}
}

// Start starts the daemons: the first founds the mesh, the others are let in.
func Start(ctx context.Context, cfg Config) (*Mesh, error) {
	if cfg.Net == nil {
		cfg.Net = Loopback(links.Link{})
	}
	m := &Mesh{cfg: cfg, daemons: map[string]*daemon{}, ended: make(chan struct{})}
	runCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	m.stop = stop
	for _, site := range cfg.Sites {
		if err := m.place(site); err != nil {
			close(m.ended)
			return nil, errors.Join(err, m.Close())
		}
	}
	go func() {
		defer close(m.ended)
		m.netErr = cfg.Net.Run(runCtx)
	}()
	for i, site := range cfg.Sites {
		if err := m.found(ctx, i, m.daemons[site]); err != nil {
			return nil, errors.Join(err, m.Close())
		}
	}
	return m, nil
}

// place makes room for the peer of a site.
func (m *Mesh) place(site string) error {
	place, err := m.cfg.Net.Place(site)
	if err != nil {
		return err
	}
	d := &daemon{Place: place, site: site, dir: filepath.Join(m.cfg.Dir, site)}
	d.http = &http.Client{Transport: &http.Transport{DialContext: place.Dial, MaxIdleConnsPerHost: idleMax}}
	if m.cfg.Engines {
		d.engine = &engine{dir: filepath.Join(d.dir, "engine"), name: fmt.Sprintf("hansa-%d-%s", os.Getpid(), site)}
	}
	m.daemons[site] = d
	if m.cfg.DiskSize > 0 {
		return m.mount(d)
	}
	return nil
}

func (m *Mesh) found(ctx context.Context, i int, d *daemon) error {
	if i == 0 {
		if _, err := m.hansa(ctx, d, "init", "--data-dir", d.dir, "--name", d.site+"-1", "--site", d.site); err != nil {
			return err
		}
		return m.start(ctx, d)
	}
	first := m.daemons[m.cfg.Sites[0]]
	token, err := m.hansa(ctx, first, "invite", "--name", d.site+"-1", "--site", d.site)
	if err != nil {
		return err
	}
	return m.start(ctx, d, "--join", first.Advertise, "--token", strings.TrimSpace(token))
}

// hansa runs the command at a place to its end and returns its standard output.
func (m *Mesh) hansa(ctx context.Context, at *daemon, args ...string) (string, error) {
	return at.run(exec.CommandContext(ctx, m.cfg.Hansa, args...))
}

// run runs a program at a place to its end and returns its standard output.
func (d *daemon) run(cmd *exec.Cmd) (string, error) {
	cmd.Env = append(os.Environ(), "HANSA_API="+d.API)
	if d.engine != nil {
		cmd.Env = append(cmd.Env, "DOCKER_HOST="+d.engine.address())
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := d.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s%s", filepath.Base(cmd.Path), strings.Join(cmd.Args[1:], " "), err, &out, &errs)
	}
	return out.String(), nil
}

// start starts a daemon and waits until it is ready.
func (m *Mesh) start(ctx context.Context, d *daemon, extra ...string) error {
	args := []string{"agent", "--data-dir", d.dir, "--name", d.site + "-1", "--site", d.site,
		"--listen", d.Listen, "--advertise", d.Advertise, "--api", d.API}
	args = append(append(args, m.cfg.Args...), extra...)
	log, err := os.OpenFile(filepath.Join(m.cfg.Dir, d.site+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() // the daemon has its own copy
	cmd := exec.Command(m.cfg.Hansa, args...)
	cmd.Stdout, cmd.Stderr = log, log
	if d.engine != nil {
		if err := m.startEngine(ctx, d); err != nil {
			return err
		}
		cmd.Env = append(os.Environ(), "DOCKER_HOST="+d.engine.address())
	}
	if err := d.Start(cmd); err != nil {
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
		if d.ready(ctx) {
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

func (d *daemon) ready(ctx context.Context) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.API+"/readyz", nil)
	if err != nil {
		return false
	}
	response, err := d.http.Do(request)
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

// Pid is the process of a site's peer.
func (m *Mesh) Pid(site string) int { return m.daemons[site].cmd.Process.Pid }

// Listen is the address of a site's peer behind the relay, for newcomers.
func (m *Mesh) Listen(site string) string { return m.daemons[site].Listen }

// Links are the ways between the sites.
func (m *Mesh) Links() *links.Net { return m.cfg.Net.Links() }

// Client speaks to the admin API of a site's peer.
func (m *Mesh) Client(site string) (*api.Client, error) {
	d := m.daemons[site]
	return api.NewClient("http://"+d.API, "", api.ClientOptions{HTTP: d.http})
}

// HTTP speaks to what listens at a site, as its own processes do.
func (m *Mesh) HTTP(site string) *http.Client { return m.daemons[site].http }

// Command runs the hansa command at a site, with its peer, and returns what it
// printed.
func (m *Mesh) Command(ctx context.Context, site string, args ...string) (string, error) {
	return m.hansa(ctx, m.daemons[site], args...)
}

// Run runs a program of others at a site, as somebody at its machine would, with its
// peer and its engine, and returns what it printed.
func (m *Mesh) Run(ctx context.Context, site, program string, args ...string) (string, error) {
	return m.daemons[site].run(exec.CommandContext(ctx, program, args...))
}

// Sites are the sites in order.
func (m *Mesh) Sites() []scenario.Site {
	var sites []scenario.Site
	for _, name := range m.cfg.Sites {
		sites = append(sites, scenario.Site{Name: name, API: m.daemons[name].API})
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
	d := m.daemons[site]
	return errors.Join(killWork(d.dir), d.endEngine())
}

// Restart starts a site's daemon with the disk that it left.
func (m *Mesh) Restart(ctx context.Context, site string) error { return m.start(ctx, m.daemons[site]) }

// Cut cuts a site off from all others.
func (m *Mesh) Cut(_ context.Context, site string) error {
	m.Links().Isolate(site)
	return nil
}

// Heal mends every cut.
func (m *Mesh) Heal(context.Context) error {
	m.Links().Heal()
	return nil
}

// Close ends everything, work included, and frees what a place took.
func (m *Mesh) Close() error {
	var errs []error
	for _, site := range m.cfg.Sites {
		d := m.daemons[site]
		if d == nil {
			continue // not placed
		}
		if d.cmd != nil {
			errs = append(errs, m.KillDaemon(site))
		}
		errs = append(errs, killWork(d.dir), d.endEngine())
		d.http.CloseIdleConnections()
		errs = append(errs, d.unmount())
	}
	m.stop()
	<-m.ended
	return errors.Join(append(errs, m.netErr)...)
}
