package node

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/hansa-mesh/hansa/node/driver/docker"
)

// engines is where the container engine of this machine gets images of the mesh:
// the registry, to be read only, on loopback and at a port of its own, whatever
// address the API has. Engines speak plain HTTP to loopback. Who may ask is told by
// a password that only this start of the daemon has.
type engines struct {
	listener net.Listener
	password string
	next     http.Handler
}

const (
	enginesAddress   = "127.0.0.1:0"
	enginesUser      = "hansa"
	enginesHeaderMax = 10 * time.Second
	enginesIdleMax   = time.Minute
)

// openEngines takes a port. Where the drivers are not those of this machine there
// is no engine.
func (n *Node) openEngines() error {
	if n.deps.Drivers != nil {
		return nil
	}
	l, err := net.Listen("tcp", enginesAddress)
	if err != nil {
		n.log.Warn("containers can't get images of the mesh: no port on loopback is to be had", "err", err)
		return nil
	}
	n.engines = &engines{listener: l, password: rand.Text(), next: n.registry}
	return nil
}

// forEngines is what drivers are told; nothing before there is anything.
func (n *Node) forEngines() docker.Registry {
	if n.engines == nil {
		return docker.Registry{}
	}
	return docker.Registry{Addr: n.engines.listener.Addr().String(), User: enginesUser, Password: n.engines.password}
}

// ServeHTTP lets the engine read.
func (e *engines) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user, password, _ := r.BasicAuth()
	if user != enginesUser || subtle.ConstantTimeCompare([]byte(password), []byte(e.password)) != 1 {
		w.Header().Set("WWW-Authenticate", `Basic realm="the engine of this machine"`)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"only the engine of this machine reads here"}]}`, http.StatusUnauthorized)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		http.Error(w, `{"errors":[{"code":"UNSUPPORTED","message":"read only: push to the API's address"}]}`, http.StatusMethodNotAllowed)
		return
	}
	e.next.ServeHTTP(w, r)
}

func (e *engines) run(ctx context.Context) error {
	server := &http.Server{
		Handler: e, ReadHeaderTimeout: enginesHeaderMax, IdleTimeout: enginesIdleMax,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(e.listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
