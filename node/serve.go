package node

import (
	"crypto/tls"
	"errors"
	"fmt"

	"github.com/hansa-mesh/hansa/node/api"
)

// openAPI wires the admin API, and takes its address so that a port in use is
// found before anything runs.
func (n *Node) openAPI() error {
	if n.cfg.API == apiNone {
		return nil
	}
	if err := n.metrics.Register(collector{n}); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	cfg := api.Config{
		Backend: backend{n}, Addr: n.cfg.API, Token: n.cfg.APIToken, AllowedHosts: n.cfg.APIHosts,
		Version: api.VersionInfo{Version: n.deps.Version}, OCI: n.registry, Registry: n.metrics, Log: n.log.With("part", "api"),
	}
	if n.cfg.APICert != "" || n.cfg.APIKey != "" {
		if n.cfg.APICert == "" || n.cfg.APIKey == "" {
			return errors.New("--api-tls-cert and --api-tls-key go together: one is missing")
		}
		pair, err := tls.LoadX509KeyPair(n.cfg.APICert, n.cfg.APIKey)
		if err != nil {
			return fmt.Errorf("--api-tls-cert, --api-tls-key: %w", err)
		}
		cfg.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	}
	var err error
	if n.server, err = api.New(cfg); err != nil {
		return err
	}
	if err := n.server.Listen(); err != nil {
		return err
	}
	n.cfg.API = n.server.Addr()
	return nil
}

// API is the address of the admin API.
func (n *Node) API() string { return n.cfg.API }

// Backend answers people as the admin API does, for who runs this peer in the
// same process.
func (n *Node) Backend() api.Backend { return backend{n} }
