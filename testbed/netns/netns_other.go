//go:build !linux

package netns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os/exec"

	"github.com/hansa-mesh/hansa/testbed/links"
)

// ErrNotAllowed says that this process may not make namespaces.
var ErrNotAllowed = errors.New("network namespaces are there on Linux only")

// Switch is the network between hosts; there is none here.
type Switch struct{ *links.Net }

// Host is one namespace; there is none here.
type Host struct {
	Name string
	Addr netip.Addr
}

// New makes a switch.
func New(usual links.Link) *Switch { return &Switch{links.New(usual)} }

// Add fails.
func (s *Switch) Add(string) (*Host, error) { return nil, ErrNotAllowed }

// Run fails.
func (s *Switch) Run(context.Context) error { return ErrNotAllowed }

// Start fails.
func (h *Host) Start(*exec.Cmd) error { return ErrNotAllowed }

// Dial fails.
func (h *Host) Dial(context.Context, string, string) (net.Conn, error) { return nil, ErrNotAllowed }
