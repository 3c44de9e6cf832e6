package gossip

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/hansa-mesh/hansa/gossip/table"
)

// Limits.
const (
	nameBytesMax    = 64
	addrBytesMax    = 128
	versionBytesMax = 32
	idBytesMax      = 64
	peersMax        = 4096
	tablesMax       = 16

	// packetBytesMax is memberlist's packet: a QUIC datagram carries 1,243
	// bytes before path discovery, less its own framing.
	packetBytesMax = 1150
	// messageBytesMax is the largest message that is queued; it leaves room in
	// a packet for a ping or a digest beside it.
	messageBytesMax = 1024
	// ClassBytesMax and WholeBytesMax bound a digest.
	ClassBytesMax = 46
	WholeBytesMax = 64 << 10
)

// Seed is a peer to begin with.
type Seed struct {
	ID   string
	Addr string // host:port; may be empty if the transport knows
}

// Config describes a peer's gossip. Zero fields have the defaults named;
// fields without a default are required.
type Config struct {
	Self    string // this peer's id
	Name    string // label of the peer, at most 64 bytes
	Site    string
	Addr    string // host:port at which others reach this peer
	Version string

	// PacketConn carries datagrams; its addresses' String is a peer's id.
	// WriteTo must not block. Run closes it.
	PacketConn net.PacketConn
	Dial       func(ctx context.Context, peer string) (net.Conn, error)
	Accept     func(ctx context.Context) (net.Conn, error) // RemoteAddr's String is the peer's id

	Signer crypto.Signer // Ed25519
	// KeyOf is the key of an admitted peer; false: not admitted, or revoked.
	KeyOf func(peer string) (ed25519.PublicKey, bool)
	// RTT is what the transport measured. Nil: memberlist's probes are used.
	RTT func(peer string) (time.Duration, bool)
	// Learn is told where a peer says it is. Nil: nobody.
	Learn func(peer, addr string)

	Known []Seed
	// Load and Save keep what is worth keeping over a restart: known peers,
	// coordinates, the generation. Load returns nil if there is nothing. Nil:
	// nothing is kept.
	Load func() ([]byte, error)
	Save func(state []byte) error

	// Pull fetches a peer's whole digest: what WholeDigest returned there.
	Pull func(ctx context.Context, peer string) ([]byte, error)

	// Tables are exchanged in this order: one that says who may write the
	// others comes first.
	Tables []*table.Replica
	// OpenSync opens a stream that ends in HandleSync at the peer. Nil: no
	// anti-entropy.
	OpenSync func(ctx context.Context, peer string) (io.ReadWriteCloser, error)

	Events func(Event) // nil: nobody
	Logger *slog.Logger

	DigestInterval time.Duration // least time between two digests; 2 s
	SyncInterval   time.Duration // between two checks for no reason; 60 s
}

var errConfig = errors.New("gossip config")

func (c Config) filled() (Config, error) {
	c.DigestInterval = cmp.Or(c.DigestInterval, 2*time.Second)
	c.SyncInterval = cmp.Or(c.SyncInterval, time.Minute)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Learn == nil {
		c.Learn = func(string, string) {}
	}
	if c.RTT == nil {
		c.RTT = func(string) (time.Duration, bool) { return 0, false }
	}
	switch {
	case c.Self == "" || len(c.Self) > idBytesMax:
		return c, fmt.Errorf("%w: id of %d bytes", errConfig, len(c.Self))
	case c.PacketConn == nil || c.Dial == nil || c.Accept == nil:
		return c, fmt.Errorf("%w: no network", errConfig)
	case c.Signer == nil || c.KeyOf == nil:
		return c, fmt.Errorf("%w: no keys", errConfig)
	case len(c.Name) > nameBytesMax || len(c.Site) > nameBytesMax:
		return c, fmt.Errorf("%w: name or site longer than %d bytes", errConfig, nameBytesMax)
	case len(c.Addr) > addrBytesMax:
		return c, fmt.Errorf("%w: address longer than %d bytes", errConfig, addrBytesMax)
	case len(c.Version) > versionBytesMax:
		return c, fmt.Errorf("%w: version longer than %d bytes", errConfig, versionBytesMax)
	case len(c.Tables) > tablesMax:
		return c, fmt.Errorf("%w: %d tables", errConfig, len(c.Tables))
	}
	if _, ok := c.Signer.Public().(ed25519.PublicKey); !ok {
		return c, fmt.Errorf("%w: signer is not Ed25519", errConfig)
	}
	return c, nil
}
