package gossip

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Gossip's packets take some twenty operations a second to each peer, which is
// plenty while people change things, and too little when a hundred apps are
// deployed at once. What comes beyond that goes in bundles over streams, from
// each peer to which it is new to a few others, as an operation does that no
// packet holds.
const (
	packedMax      = 12       // operations that wait for packets; what comes then is bundled
	bundleBytesMax = 64 << 10 // of one bundle, as long as no single operation is larger
	bundlesWaiting = 4 << 20  // bytes; what is beyond is left to anti-entropy
	bundleWait     = 20 * time.Millisecond
	bundleFanOut   = 4
)

// bundler gathers messages that are to go together.
type bundler struct {
	mu    sync.Mutex // guards what follows
	queue [][]byte
	bytes int
	wake  chan struct{}
}

func newBundler() *bundler { return &bundler{wake: make(chan struct{}, 1)} }

// add says whether there was room.
func (b *bundler) add(m []byte) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bytes+len(m) > bundlesWaiting {
		return false
	}
	b.queue, b.bytes = append(b.queue, m), b.bytes+len(m)
	select {
	case b.wake <- struct{}{}:
	default:
	}
	return true
}

// take is the next bundle, nil when nothing waits.
func (b *bundler) take() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.queue) == 0 {
		return nil
	}
	n, size := 0, 0
	for n < len(b.queue) && (n == 0 || size+len(b.queue[n]) <= bundleBytesMax) {
		size += len(b.queue[n])
		n++
	}
	bundle := bundleOf(b.queue[:n])
	b.bytes -= size
	if b.queue = b.queue[n:]; len(b.queue) == 0 {
		b.queue = nil
	}
	return bundle
}

// sendBundles hands what was gathered to those who push.
func (g *Gossip) sendBundles(ctx context.Context) {
	for {
		select {
		case <-g.bundles.wake:
		case <-ctx.Done():
			return
		}
		if !pause(ctx, bundleWait) {
			return
		}
		for bundle := g.bundles.take(); bundle != nil; bundle = g.bundles.take() {
			for _, id := range g.someAlive(bundleFanOut) {
				select {
				case g.pushes <- push{id, bundle}:
				default: // a peer that does not read holds up nobody else; anti-entropy brings it
					g.pushesDropped.Add(1)
				}
			}
		}
	}
}

// sendCrowded gives operations packets of their own, one in place of each that what is
// said about members left no room in, to whomever: words about members go first, and in
// a mesh of a thousand whose links lose packets they fill one after the other.
func (g *Gossip) sendCrowded(ctx context.Context) {
	const head = 1 + binary.MaxVarintLen16 // of each message, the bundle's own byte included
	for {
		select {
		case <-g.crowded:
		case <-ctx.Done():
			return
		}
		for _, id := range g.someAlive(1) {
			some := g.rumours.GetBroadcasts(head, messageBytesMax+head)
			if len(some) == 0 {
				continue
			}
			to := &memberlist.Node{Name: id, Addr: placeholderIP, Port: placeholderPort}
			if err := g.ml.SendBestEffort(to, bundleOf(some)); err != nil && ctx.Err() == nil {
				g.cfg.Logger.Debug("operations not sent", "peer", id, "error", err)
			}
		}
	}
}

// bundleOf is a bundle of messages.
func bundleOf(messages [][]byte) []byte {
	bundle := []byte{bundleMsg}
	for _, m := range messages {
		bundle = append(binary.AppendUvarint(bundle, uint64(len(m))), m...)
	}
	return bundle
}

// takeBundle takes the messages of a bundle one by one. A part that is none ends it.
func (g *Gossip) takeBundle(b []byte) {
	for len(b) > 0 {
		n, used := binary.Uvarint(b)
		if used <= 0 || n == 0 || n > uint64(len(b)-used) {
			return
		}
		m := b[used : used+int(n)]
		switch m[0] {
		case rumourMsg:
			g.takeRumour(m[1:])
		case announceMsg:
			g.takeAnnouncement(m[1:])
		}
		b = b[used+int(n):]
	}
}
