package process

import (
	"context"
	"net"
	"net/netip"
	"os/exec"

	"github.com/hansa-mesh/hansa/testbed/links"
	"github.com/hansa-mesh/hansa/testbed/netns"
	"github.com/hansa-mesh/hansa/testbed/relay"
)

// Network is where daemons run: it gives each a place, and carries what they
// say to each other.
type Network interface {
	// Place makes room for the peer of a site. Called before Run.
	Place(site string) (Place, error)
	// Links are the ways between the sites, to be cut and mended.
	Links() *links.Net
	// Run carries packets until ctx ends.
	Run(ctx context.Context) error
}

// Place is where one daemon runs.
type Place struct {
	Listen    string // for other peers
	Advertise string // where they reach it
	API       string // as it is reached by Start's commands and by Dial
	Start     func(*exec.Cmd) error
	Dial      func(ctx context.Context, network, addr string) (net.Conn, error)
}

// Loopback is daemons on this machine's loopback, behind a relay.
func Loopback(usual links.Link) Network { return loopback{relay.New(usual)} }

type loopback struct{ relay *relay.Relay }

func (l loopback) Place(site string) (p Place, err error) {
	p.Start, p.Dial = (*exec.Cmd).Start, (&net.Dialer{}).DialContext
	if p.Listen, err = freePort("udp"); err != nil {
		return p, err
	}
	if p.API, err = freePort("tcp"); err != nil {
		return p, err
	}
	p.Advertise, err = l.relay.Add(site, p.Listen)
	return p, err
}

func (l loopback) Links() *links.Net             { return l.relay.Net }
func (l loopback) Run(ctx context.Context) error { return l.relay.Run(ctx) }

// Namespaces is daemons in a network namespace each, as on hosts of their own:
// all listen on the same ports. Needs root; see netns.ErrNotAllowed.
func Namespaces(usual links.Link) Network { return namespaces{netns.New(usual)} }

type namespaces struct{ hosts *netns.Switch }

// The ports of a daemon that has a host to itself.
const (
	portPeers = 7600
	portAPI   = 7601
)

func (n namespaces) Place(site string) (Place, error) {
	h, err := n.hosts.Add(site)
	if err != nil {
		return Place{}, err
	}
	at := netip.AddrPortFrom(h.Addr, portPeers).String()
	api := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), portAPI).String()
	return Place{Listen: at, Advertise: at, API: api, Start: h.Start, Dial: h.Dial}, nil
}

func (n namespaces) Links() *links.Net             { return n.hosts.Net }
func (n namespaces) Run(ctx context.Context) error { return n.hosts.Run(ctx) }

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
