package dev

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// controlMax bounds a request to the control socket.
const controlMax = 16 << 10

// listen takes the control socket, over one that a dead mesh left.
func listen(path string) (net.Listener, error) {
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		conn.Close()
		return nil, fmt.Errorf("dev: a mesh is running already (socket %s): end it, or set HANSA_DEV_SOCKET to run another", path)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode()&os.ModeSocket == 0 {
		return nil, fmt.Errorf("dev: control socket %s: a file is in the way: name another with --socket", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("dev: control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("dev: control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("dev: control socket: %w", err), l.Close())
	}
	return l, nil
}

// Order is what Control asks of a mesh.
type Order struct {
	Verb  string   `json:"verb"` // "partition", "heal", "kill", "restart" or "peers"
	Sites []string `json:"sites,omitempty"`
}

// outcome answers an Order.
type outcome struct {
	Err   string `json:"err,omitempty"`
	Peers []Peer `json:"peers,omitempty"`
}

func (m *Mesh) serve(l net.Listener) *http.Server {
	server := &http.Server{
		ReadHeaderTimeout: 5 * time.Second,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var o Order
			err := json.NewDecoder(http.MaxBytesReader(w, r.Body, controlMax)).Decode(&o)
			if err == nil {
				err = m.obey(o)
			}
			out := outcome{Peers: m.Peers()}
			if err != nil {
				out = outcome{Err: err.Error()}
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(out) // a client that left hears nothing
		}),
	}
	go func() { _ = server.Serve(l) }() // ends with Close
	return server
}

func (m *Mesh) obey(o Order) error {
	each := func(f func(string) error) error {
		if len(o.Sites) == 0 {
			return fmt.Errorf("%s: name at least one site", o.Verb)
		}
		var errs []error
		for _, s := range o.Sites {
			errs = append(errs, f(s))
		}
		return errors.Join(errs...)
	}
	switch o.Verb {
	case "peers":
		return nil
	case "partition":
		return m.Partition(o.Sites...)
	case "heal":
		return m.Heal()
	case "kill":
		return each(m.Kill)
	case "restart":
		return each(m.Restart)
	}
	return fmt.Errorf("unknown order %q", o.Verb)
}

// Control gives an order to the mesh whose control socket is at that path, and
// returns its peers.
func Control(ctx context.Context, socket string, o Order) ([]Peer, error) {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	body, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://dev/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	var syscallErr *net.OpError
	if errors.As(err, &syscallErr) { // not in the words of HTTP
		err = syscallErr.Err
	}
	if err != nil {
		return nil, fmt.Errorf("no dev mesh answers at %s: start one with 'hansa dev': %w", socket, err)
	}
	defer response.Body.Close()
	var out outcome
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(&out); err != nil {
		return nil, fmt.Errorf("dev: %w", err)
	}
	if out.Err != "" {
		return nil, errors.New(out.Err)
	}
	return out.Peers, nil
}
