package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/hansa-mesh/hansa/testbed/links"
)

// Link is one direction between two peers.
type Link = links.Link

// packetMax is the largest UDP payload that the relay carries; QUIC stays far
// below it.
const packetMax = 2048

// Relay carries packets between peers, by the links of its Net.
type Relay struct {
	*links.Net

	mu     sync.Mutex // guards what follows
	ends   []*end
	byReal map[netip.AddrPort]*end
}

// end is one peer: its socket at the relay and its real address.
type end struct {
	name   string
	socket *net.UDPConn
	real   netip.AddrPort
}

// New makes a relay whose links are all as usual says.
func New(usual Link) *Relay {
	return &Relay{Net: links.New(usual), byReal: map[netip.AddrPort]*end{}}
}

// Add gives the peer that listens at real an address to advertise. Call it
// before Run.
func (r *Relay) Add(name, real string) (advertise string, err error) {
	addr, err := netip.ParseAddrPort(real)
	if err != nil {
		return "", fmt.Errorf("relay: add %s: %w", name, err)
	}
	if !r.Join(name) {
		return "", fmt.Errorf("relay: add %s: added already", name)
	}
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return "", fmt.Errorf("relay: add %s: %w", name, err)
	}
	e := &end{name: name, socket: socket, real: addr}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ends, r.byReal[addr] = append(r.ends, e), e
	return socket.LocalAddr().String(), nil
}

// Run carries packets until ctx ends, and then closes the sockets.
func (r *Relay) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	r.mu.Lock()
	ends := append([]*end{}, r.ends...)
	r.mu.Unlock()
	for _, e := range ends {
		wg.Go(func() { r.receive(e) })
	}
	wg.Go(func() { r.Net.Run(ctx) })
	<-ctx.Done()
	for _, e := range ends {
		e.socket.Close()
	}
	wg.Wait()
	return nil
}

// receive takes what is sent to the advertised address of e.
func (r *Relay) receive(to *end) {
	buffer := make([]byte, packetMax)
	for {
		n, source, err := to.socket.ReadFromUDPAddrPort(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // an ICMP refusal of an earlier packet
		}
		r.mu.Lock()
		from := r.byReal[netip.AddrPortFrom(source.Addr().Unmap(), source.Port())]
		r.mu.Unlock()
		if from == nil {
			r.Drop()
			continue
		}
		r.Send(from.name, to.name, buffer[:n], func(data []byte) {
			// A refused or failed write is a lost packet, which is what links do.
			_, _ = from.socket.WriteToUDPAddrPort(data, to.real)
		})
	}
}
