package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/hansa-mesh/hansa/placement"
)

// AddrDefault is where the admin API listens.
const AddrDefault = "127.0.0.1:7601"

// Limits and delays of the server.
const (
	headerBytesMax      = 64 << 10
	headerTimeMax       = 10 * time.Second
	idleTimeMax         = 2 * time.Minute
	answerTimeMax       = 5 * time.Minute // of what is not a stream
	stopGrace           = 5 * time.Second
	artifactBytesMaxDef = 1 << 30
	requestsMaxDefault  = 2048
)

// Config is what a Server is made with.
type Config struct {
	Backend Backend // needed
	Addr    string  // host:port to listen on; default AddrDefault
	// Token is what clients must show as "Authorization: Bearer …"; "" is
	// none, which only a loopback address may have. At least 16 characters.
	Token string
	TLS   *tls.Config // nil is plain HTTP, which only a loopback address may have
	// AllowedHosts are names beside localhost and loopback addresses that the
	// Host header may hold, for instance behind a proxy on this machine.
	AllowedHosts     []string
	ArtifactBytesMax int64                // largest upload; default 1 GiB
	RequestsMax      int64                // answered at once, streams among them; default 2048
	Version          VersionInfo          // zero fields are filled from the build
	Registry         *prometheus.Registry // for /metrics; nil is a new one
	Log              *slog.Logger         // nil discards
	// OCI answers under /v2/, where registries are; nil is none.
	OCI http.Handler
	// Console answers what no other route does; nil is a plain page that
	// lists the endpoints.
	Console http.Handler
}

// Server is the admin API of one peer.
type Server struct {
	cfg      Config
	backend  Backend
	guard    *guard
	metrics  *metrics
	log      *slog.Logger
	mux      *http.ServeMux
	huma     huma.API
	streams  map[string]bool // routes whose duration says nothing
	listener net.Listener
	inFlight atomic.Int64
}

// New wires a server; it starts nothing. It refuses to serve other machines
// without TLS and a token.
func New(cfg Config) (*Server, error) {
	if cfg.Backend == nil {
		return nil, errors.New("admin API: no backend")
	}
	if cfg.Addr == "" {
		cfg.Addr = AddrDefault
	}
	if cfg.ArtifactBytesMax == 0 {
		cfg.ArtifactBytesMax = artifactBytesMaxDef
	}
	if cfg.RequestsMax == 0 {
		cfg.RequestsMax = requestsMaxDefault
	}
	if cfg.Registry == nil {
		cfg.Registry = prometheus.NewRegistry()
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Version = cfg.Version.Filled()
	g, err := newGuard(cfg)
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(cfg.Registry)
	if err != nil {
		return nil, fmt.Errorf("admin API: %w", err)
	}
	s := &Server{
		cfg: cfg, backend: cfg.Backend, guard: g, metrics: m, log: cfg.Log,
		mux: http.NewServeMux(), streams: map[string]bool{},
	}
	s.routes()
	return s, nil
}

// Filled completes v from the build.
func (v VersionInfo) Filled() VersionInfo {
	if v.Version == "" {
		v.Version = "dev"
	}
	v.Go, v.OS, v.Arch, v.Schema = runtime.Version(), runtime.GOOS, runtime.GOARCH, placement.Schema
	return v
}

// Listen binds the address, so that Addr is known before Run. Run does it when
// it was not done.
func (s *Server) Listen() error {
	if s.listener != nil {
		return nil
	}
	l, err := net.Listen("tcp", s.cfg.Addr)
	if err != nil {
		return fmt.Errorf("admin API: listen on %s: %w (choose another with --api)", s.cfg.Addr, err)
	}
	s.listener = l
	return nil
}

// Addr is the bound address, or the configured one before Listen.
func (s *Server) Addr() string {
	if s.listener == nil {
		return s.cfg.Addr
	}
	return s.listener.Addr().String()
}

// Close lets go of the address when Run is not called after Listen.
func (s *Server) Close() error {
	if s.listener == nil {
		return nil
	}
	return s.listener.Close()
}

// Run serves until ctx is done, then lets requests end within a grace (streams
// are told to end halfway through it at the latest) and returns nil.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(); err != nil {
		return err
	}
	streams, endStreams := context.WithCancel(context.WithoutCancel(ctx))
	defer endStreams()
	srv := &http.Server{
		Handler: s, TLSConfig: s.cfg.TLS,
		ReadHeaderTimeout: headerTimeMax, WriteTimeout: answerTimeMax, IdleTimeout: idleTimeMax, MaxHeaderBytes: headerBytesMax,
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return streams },
	}
	done := make(chan error, 1)
	go func() {
		if s.cfg.TLS != nil {
			done <- srv.ServeTLS(s.listener, "", "")
		} else {
			done <- srv.Serve(s.listener)
		}
	}()
	select {
	case err := <-done:
		return fmt.Errorf("admin API: serve %s: %w", s.Addr(), err)
	case <-ctx.Done():
	}
	s.stop(srv, endStreams)
	<-done
	return nil
}

// stop ends srv: quick requests finish, then the contexts of the slow ones are
// cancelled, then connections are closed.
func (s *Server) stop(srv *http.Server, endStreams context.CancelFunc) {
	soft := time.AfterFunc(stopGrace/10, endStreams)
	defer soft.Stop()
	hard, cancel := context.WithTimeout(context.Background(), stopGrace)
	defer cancel()
	if err := srv.Shutdown(hard); err != nil {
		_ = srv.Close() // what is left did not heed its context
	}
}
