package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// Peers are reached by name. memberlist wants an IP and a port beside it; all
// members have the same, so that it never sees a conflict of addresses: where
// a peer really is stands in its signed metadata.
const (
	placeholderPort = 7600
	placeholderAddr = "127.0.0.1:7600"
	packetQueue     = 1024
)

var placeholderIP = net.IPv4(127, 0, 0, 1).To4()

// peerAddr is a peer's id as a net.Addr.
type peerAddr string

func (peerAddr) Network() string  { return "peer" }
func (a peerAddr) String() string { return string(a) }

// network is memberlist's transport over the seam of Config.
type network struct {
	conn     net.PacketConn
	dial     func(ctx context.Context, peer string) (net.Conn, error)
	accept   func(ctx context.Context) (net.Conn, error)
	admitted func(peer string) bool
	tap      func(packet []byte) bool                                       // looks at it; false: it is not to be taken
	member   func(node string, incarnation uint64, kind byte) (most uint64) // likewise at one of an exchange

	ctx     context.Context
	cancel  context.CancelFunc
	packets chan *memberlist.Packet
	streams chan net.Conn
	wg      sync.WaitGroup

	packetsIn, packetsOut, bytesIn, bytesOut, refused, dropped atomic.Uint64
}

var _ memberlist.NodeAwareTransport = (*network)(nil)

func newNetwork(ctx context.Context, cfg *Config, admitted func(string) bool, tap func([]byte) bool, member func(string, uint64, byte) uint64) *network {
	n := &network{conn: cfg.PacketConn, dial: cfg.Dial, accept: cfg.Accept, admitted: admitted, tap: tap, member: member,
		packets: make(chan *memberlist.Packet, packetQueue), streams: make(chan net.Conn)}
	n.ctx, n.cancel = context.WithCancel(ctx)
	n.wg.Go(n.readPackets)
	n.wg.Go(n.acceptStreams)
	return n
}

func (n *network) readPackets() {
	buf := make([]byte, 64<<10)
	for {
		k, from, err := n.conn.ReadFrom(buf)
		if err != nil {
			if n.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			if !pause(n.ctx, 10*time.Millisecond) { // a broken socket must not spin
				return
			}
			continue
		}
		if !n.admitted(from.String()) {
			n.refused.Add(1)
			continue
		}
		n.packetsIn.Add(1)
		n.bytesIn.Add(uint64(k))
		p := &memberlist.Packet{Buf: append([]byte(nil), buf[:k]...), From: from, Timestamp: time.Now()}
		if !n.tap(p.Buf) {
			n.refused.Add(1)
			continue
		}
		select {
		case n.packets <- p:
		default:
			n.dropped.Add(1)
		}
	}
}

func (n *network) acceptStreams() {
	for {
		c, err := n.accept(n.ctx)
		if err != nil {
			if n.ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
				return
			}
			if !pause(n.ctx, 10*time.Millisecond) {
				return
			}
			continue
		}
		if !n.admitted(c.RemoteAddr().String()) {
			n.refused.Add(1)
			_ = c.Close()
			continue
		}
		select {
		case n.streams <- &plainConn{Conn: c, saw: n.member}:
		case <-n.ctx.Done():
			_ = c.Close()
			return
		}
	}
}

func (n *network) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return placeholderIP, placeholderPort, nil
}

func (n *network) WriteTo(_ []byte, addr string) (time.Time, error) {
	return time.Time{}, fmt.Errorf("write to %s: %w", addr, errMalformed) // names are required
}

// WriteToAddress never fails: memberlist does not suspect a peer when it could
// not write to it, and a dead peer is exactly one that cannot be written to.
func (n *network) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	now := time.Now()
	_ = n.tap(b) // of its own making
	n.packetsOut.Add(1)
	n.bytesOut.Add(uint64(len(b)))
	if _, err := n.conn.WriteTo(b, peerAddr(addr.Name)); err != nil {
		n.dropped.Add(1)
	}
	return now, nil
}

// inject gives memberlist a message of this peer itself.
func (n *network) inject(b []byte) {
	select {
	case n.packets <- &memberlist.Packet{Buf: b, From: peerAddr(placeholderAddr), Timestamp: time.Now()}:
	default:
		n.dropped.Add(1)
	}
}

func (n *network) PacketCh() <-chan *memberlist.Packet { return n.packets }
func (n *network) StreamCh() <-chan net.Conn           { return n.streams }

func (n *network) DialTimeout(addr string, _ time.Duration) (net.Conn, error) {
	return nil, fmt.Errorf("dial %s: %w", addr, errMalformed)
}

func (n *network) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if !n.admitted(addr.Name) {
		return nil, fmt.Errorf("dial %s: %w", addr.Name, errNotAdmitted)
	}
	ctx, cancel := context.WithTimeout(n.ctx, timeout)
	defer cancel()
	c, err := n.dial(ctx, addr.Name)
	if err != nil {
		return nil, err
	}
	// What memberlist sends as a message of its user has no deadline there.
	if err := c.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &plainConn{Conn: c, saw: n.member}, nil
}

// Shutdown ends both readers and returns after them.
func (n *network) Shutdown() error {
	n.cancel()
	err := n.conn.Close()
	n.wg.Wait()
	return err
}

// pause waits, and reports false if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
