package transport

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"time"
)

// Learn tells where a peer can be reached. A new address ends the wait after a
// failed dial.
func (t *Transport) Learn(id, addr string) {
	if id == t.ID() || addr == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.peers[id] == nil && len(t.peers) >= peersMax {
		return // Config.Resolve may still know it
	}
	p := t.peerOf(id)
	if p.addr == addr {
		return
	}
	p.addr, p.retryAt, p.failure = addr, time.Time{}, 0
}

// peerOf is the entry of a peer. The caller holds mu.
func (t *Transport) peerOf(id string) *peer {
	p := t.peers[id]
	if p == nil {
		p = &peer{shares: newShares(t.cfg.InFlightPeerMax)}
		t.peers[id] = p
	}
	return p
}

// connTo is a live connection with a peer, dialled if there is none.
func (t *Transport) connTo(ctx context.Context, id string) (*conn, error) {
	if _, err := t.running(); err != nil {
		return nil, err
	}
	if id == t.ID() {
		return nil, &Error{Kind: KindInvalid, Msg: "a peer does not call itself", Peer: id}
	}
	for range dialsMax {
		c, done, err := t.connOrDial(id)
		if c != nil || err != nil {
			return c, err
		}
		select {
		case <-done:
		case <-ctx.Done():
			return nil, fromNetwork(id, "connect", ctx.Err())
		}
	}
	return nil, &Error{Kind: KindUnavailable, Msg: "connect: each connection ended at once", Peer: id}
}

// connOrDial is a live connection, or else the end of an attempt to connect,
// or the error of the last one while it is too early for another.
func (t *Transport) connOrDial(id string) (c *conn, done <-chan struct{}, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peerOf(id)
	if n := len(p.conns); n > 0 {
		return p.conns[n-1], nil, nil
	}
	if p.dialing == nil {
		if t.stopped {
			return nil, nil, errStopping
		}
		if p.failed != nil && time.Now().Before(p.retryAt) {
			return nil, nil, p.failed
		}
		attempt := make(chan struct{})
		p.dialing = attempt
		t.work.Go(func() { t.dial(id, attempt) })
	}
	return nil, p.dialing, nil
}

// dial makes one attempt to connect, and notes its outcome.
func (t *Transport) dial(id string, done chan struct{}) {
	t.stats.dials.Add(1)
	ctx, cancel := context.WithTimeout(t.ctx, t.cfg.HandshakeTimeout)
	defer cancel()
	addr, err := t.connect(ctx, id)
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.peerOf(id)
	p.dialing = nil
	close(done)
	if err == nil || len(p.conns) > 0 { // or it called meanwhile
		return
	}
	t.stats.dialsFailed.Add(1)
	if KindOf(err) == KindTimeout || KindOf(err) == KindInternal {
		// Nothing was asked yet, so nothing can have been done.
		err = &Error{Kind: KindUnavailable, Msg: fmt.Sprintf("connect: no answer from %s within %v", addr, t.cfg.HandshakeTimeout), Peer: id, cause: err}
	}
	p.failed = err
	p.failure++
	t.wait(p, min(backoffMax, backoffMin<<min(p.failure, 10)))
}

// wait holds the next attempt back for about so long. The caller holds mu.
func (t *Transport) wait(p *peer, about time.Duration) {
	p.retryAt = time.Now().Add(about/2 + rand.N(about/2+1))
}

// addrOf picks where to dial: all that is known of a peer in turn, as attempts
// fail.
func (t *Transport) addrOf(id string) string {
	t.mu.Lock()
	p := t.peerOf(id)
	candidates, failure := []string{p.addr, p.seen}, p.failure
	t.mu.Unlock()
	if t.cfg.Resolve != nil {
		if addr, ok := t.cfg.Resolve(id); ok {
			candidates = slices.Insert(candidates, 1, addr)
		}
	}
	var addrs []string
	for _, addr := range candidates {
		if addr != "" && !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	if len(addrs) == 0 {
		return ""
	}
	return addrs[failure%len(addrs)]
}

func (t *Transport) connect(ctx context.Context, id string) (addr string, err error) {
	if addr = t.addrOf(id); addr == "" {
		return "", &Error{Kind: KindUnavailable, Msg: "connect: where it is was never heard", Peer: id}
	}
	udp, err := resolve(ctx, addr)
	if err != nil {
		return addr, &Error{Kind: KindUnavailable, Msg: "connect: " + err.Error(), Peer: id, cause: err}
	}
	q, err := t.quic.Dial(ctx, udp, clientTLS(t.cfg.Identity, id, protocolPeers), t.quicConfig())
	if err != nil {
		return addr, fromNetwork(id, "connect to "+addr, err)
	}
	if err := t.hello(ctx, q); err != nil {
		_ = q.CloseWithError(codeProtocol, "no hello") // it is gone already
		return addr, fromNetwork(id, "connect to "+addr, err)
	}
	c, err := t.admit(ctx, q, id, false)
	if err != nil {
		return addr, err
	}
	t.work.Go(func() { t.serve(c) })
	return addr, nil
}

// resolve finds the address of a "host:port".
func resolve(ctx context.Context, addr string) (*net.UDPAddr, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); ip == nil {
		ips, err := net.DefaultResolver.LookupHost(ctx, host)
		if err != nil {
			return nil, err
		}
		host = ips[0]
	}
	return net.ResolveUDPAddr("udp", net.JoinHostPort(host, port))
}
