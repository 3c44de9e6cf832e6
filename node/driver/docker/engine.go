package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/client"

	"github.com/hansa-mesh/hansa/node/driver"
)

// engine is the way to the one engine that is used. Once one was talked to, no
// other is taken: its containers would seem to have vanished.
type engine struct {
	fixed string // address that was configured
	noted string // file that remembers the address over restarts

	mu   sync.Mutex // guards what follows
	host string     // "" before one answered
	cli  *client.Client
	info *system.Info // of host, nil before it was asked
	kind string       // "docker" or "podman"
	ver  string
}

// noEngine is the error of a machine on which no engine is found.
type noEngine struct{ tried []string }

func (e noEngine) Error() string {
	return "no container engine is found (looked at " + strings.Join(e.tried, ", ") + "): install and start Docker or Podman, or set DOCKER_HOST"
}

func (e noEngine) Unwrap() error { return driver.ErrUnavailable }

// candidates are the addresses at which an engine may be, in order.
func (e *engine) candidates() []string {
	if e.fixed != "" {
		return []string{e.fixed}
	}
	if h := os.Getenv(client.EnvOverrideHost); h != "" {
		return []string{h}
	}
	list := []string{"/var/run/docker.sock", "/run/docker.sock"}
	run := os.Getenv("XDG_RUNTIME_DIR")
	if run != "" {
		list = append(list, filepath.Join(run, "docker.sock"))
	}
	list = append(list, "/run/podman/podman.sock")
	if run != "" {
		list = append(list, filepath.Join(run, "podman/podman.sock"))
	}
	for i, path := range list {
		list[i] = "unix://" + path
	}
	return list
}

// client returns the client of the engine. It does not say that it answers.
func (e *engine) client() (*client.Client, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cli != nil {
		return e.cli, nil
	}
	tried := e.candidates()
	if b, err := os.ReadFile(e.noted); err == nil && len(tried) > 1 {
		tried = append([]string{strings.TrimSpace(string(b))}, tried...) // where it was before
	}
	var first error // of a socket that is there and can't be used
	for _, host := range tried {
		err := reach(host)
		if errors.Is(err, fs.ErrNotExist) && len(tried) > 1 {
			continue
		}
		if err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		return e.use(host)
	}
	if first != nil {
		return nil, fmt.Errorf("%w: %w", driver.ErrUnavailable, first)
	}
	return nil, noEngine{tried}
}

// use makes the client of a host that was reached. The caller holds mu.
func (e *engine) use(host string) (*client.Client, error) {
	opts := []client.Opt{client.WithTLSClientConfigFromEnv(), client.WithHost(host)}
	cli, err := client.New(opts...)
	if err != nil {
		return nil, fmt.Errorf("%w: the engine's address %q: %w", driver.ErrUnavailable, host, err)
	}
	e.host, e.cli = host, cli
	if err := os.MkdirAll(filepath.Dir(e.noted), 0o700); err == nil {
		_ = os.WriteFile(e.noted, []byte(host+"\n"), 0o600) // then the first that is found is taken
	}
	return cli, nil
}

// reach says in people's words why nothing can be reached at an address; nil if
// something listens there.
func reach(host string) error {
	u, err := url.Parse(host)
	if err != nil {
		return fmt.Errorf("the engine's address %q can't be read: %w", host, err)
	}
	network, address := u.Scheme, u.Host
	if network == "unix" {
		address = u.Path
	} else if network != "tcp" {
		return fmt.Errorf("the engine's address %q is neither unix:// nor tcp://", host)
	}
	c, err := net.DialTimeout(network, address, probeMax)
	if err == nil {
		return c.Close()
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		who := "the user of this daemon"
		if u, err := user.Current(); err == nil {
			who = "the user " + u.Username
		}
		return fmt.Errorf("permission denied on %s: add %s to the group that owns it (docker)", address, who)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing answers at %s: start the engine", address)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no %s: start the engine, or correct DOCKER_HOST: %w", address, fs.ErrNotExist)
	}
	return fmt.Errorf("the engine at %s can't be reached: %w", host, err)
}

// lost returns an error that says in people's words that the engine did not
// answer, if that is what err is.
func (e *engine) lost(err error) error {
	if err == nil || !client.IsErrConnectionFailed(err) {
		return err
	}
	e.mu.Lock()
	host := e.host
	e.mu.Unlock()
	if why := reach(host); why != nil {
		return fmt.Errorf("%w: %w", driver.ErrUnavailable, why)
	}
	return fmt.Errorf("%w: the engine closed the connection: %w", driver.ErrUnavailable, err)
}

// ask pings the engine, and learns what it is.
func (e *engine) ask(ctx context.Context) (*client.Client, error) {
	cli, err := e.client()
	if err != nil {
		return nil, err
	}
	if err := e.ping(ctx, cli); err != nil {
		return nil, err
	}
	e.mu.Lock()
	known := e.ver != ""
	e.mu.Unlock()
	if known {
		return cli, nil
	}
	version, err := cli.ServerVersion(ctx, client.ServerVersionOptions{})
	if err != nil {
		return nil, e.lost(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.kind, e.ver = "docker", version.Version
	for _, part := range version.Components {
		if strings.Contains(strings.ToLower(part.Name), "podman") {
			e.kind = "podman"
		}
	}
	return cli, nil
}

// ping asks whether the engine answers at all. It is short: whoever asks next
// waits for it, since the client negotiates one at a time.
func (e *engine) ping(ctx context.Context, cli *client.Client) error {
	short, cancel := context.WithTimeout(ctx, pingMax)
	defer cancel()
	_, err := cli.Ping(short, client.PingOptions{NegotiateAPIVersion: true})
	if err != nil && short.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: the engine does not answer within %v: is the machine overloaded?", driver.ErrUnavailable, pingMax)
	}
	return e.lost(err)
}

// about is what the engine says of itself and the machine; it is asked once,
// since some take a second to answer.
func (e *engine) about(ctx context.Context) (*system.Info, error) {
	e.mu.Lock()
	info := e.info
	e.mu.Unlock()
	if info != nil {
		return info, nil
	}
	cli, err := e.client()
	if err != nil {
		return nil, err
	}
	answer, err := cli.Info(ctx, client.InfoOptions{})
	if err != nil {
		return nil, e.lost(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.info = &answer.Info
	return e.info, nil
}

// gone notes that the engine ended: what comes back may be another version.
func (e *engine) gone() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.info, e.ver = nil, ""
	if e.cli != nil {
		_ = e.cli.Close()
		e.cli = nil
		if e.fixed == "" {
			e.fixed = e.host // no other from now on
		}
	}
}

func (e *engine) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.cli != nil {
		_ = e.cli.Close()
	}
}

// what is which engine it is, once it answered.
func (e *engine) what() (kind, version string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.kind, e.ver
}

// call bounds one call of the engine.
func call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, callMax)
}

// words is an engine's error without what every one begins with.
func words(err error) string {
	return strings.TrimSpace(strings.TrimPrefix(err.Error(), "Error response from daemon: "))
}

// since makes a time as the API has it.
func since(t time.Time) string {
	return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond())
}
