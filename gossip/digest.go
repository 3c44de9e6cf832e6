package gossip

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// A digest in gossip: type, then at most 150 bytes.
//
//	owner 16 | sequence 8 | hash of the whole 16 | signature 64 | class ≤ 46
const (
	digestHead     = 1 + 16 + 8 + 16 + ed25519.SignatureSize
	digestBytesMax = digestHead + ClassBytesMax
)

// ErrNoDigest is a peer whose digest is not known.
var ErrNoDigest = errors.New("no digest")

// Digest is a peer's summary of itself.
type Digest struct {
	Class    []byte // rides on gossip
	Sequence uint64
	AsOf     time.Time // when Class arrived here
	// Whole is the last that was fetched, nil if none was. It belongs to this
	// Sequence if Current, else to an older one.
	Whole     []byte
	WholeAsOf time.Time
	Current   bool
}

type digestState struct {
	message   []byte // as gossiped
	class     []byte
	sequence  uint64
	hash      [16]byte
	asOf      time.Time
	whole     []byte
	wholeHash [16]byte
	wholeAsOf time.Time

	pulled bool   // message was pulled, and nobody has gossiped it here yet
	dirty  bool   // own: to be sent
	fresh  []byte // own, dirty: signed for whoever pulled it meanwhile; nil when nobody has
}

func (d *digestState) public() Digest {
	return Digest{Class: d.class, Sequence: d.sequence, AsOf: d.asOf, Whole: d.whole, WholeAsOf: d.wholeAsOf,
		Current: d.whole != nil && d.hash == d.wholeHash}
}

func wholeHash(whole []byte) [16]byte {
	sum := sha256.Sum256(whole)
	return [16]byte(sum[:16])
}

// digestShare is what a mesh of many peers spends on digests: each peer sends one in
// that time for every peer that there is, so that all together cost a peer as much.
const digestShare = 20 * time.Millisecond

// digestInterval is how long this peer sends no other digest after one.
func (g *Gossip) digestInterval() time.Duration {
	return max(g.cfg.DigestInterval, time.Duration(len(g.peers))*digestShare)
}

// SetDigest replaces this peer's digest; call it on material change. What is
// set within DigestInterval of the last, or longer in a mesh of more than a hundred,
// is sent at its end, the last one only.
func (g *Gossip) SetDigest(class, whole []byte) error {
	if len(class) > ClassBytesMax || len(whole) > WholeBytesMax {
		return fmt.Errorf("set digest of %d and %d bytes: %w", len(class), len(whole), errMalformed)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	hash := wholeHash(whole)
	if (g.own.dirty || g.own.message != nil) && hash == g.own.wholeHash && bytes.Equal(class, g.own.class) {
		return nil
	}
	g.own.class, g.own.whole, g.own.wholeHash = bytes.Clone(class), bytes.Clone(whole), hash
	g.own.dirty, g.own.fresh = true, nil
	g.wake()
	return nil
}

// publishDigest signs and sends what SetDigest left, if it is time. The caller
// holds mu.
func (g *Gossip) publishDigest(now time.Time) error {
	if !g.own.dirty || now.Sub(g.own.asOf) < g.digestInterval() {
		return nil
	}
	m, err := g.sealOwn(now)
	if err != nil {
		return err
	}
	g.own.message, g.own.hash, g.own.asOf, g.own.wholeAsOf = m, g.own.wholeHash, now, now
	g.own.dirty, g.own.fresh = false, nil
	g.enqueue(g.notices, "d/"+g.cfg.Self, m)
	return nil
}

// sealOwn is the message of the digest that SetDigest left, signed once for all that
// pull it and for gossip. The caller holds mu.
func (g *Gossip) sealOwn(now time.Time) ([]byte, error) {
	if g.own.fresh != nil && binary.BigEndian.Uint64(g.own.fresh[17:25]) == g.own.sequence {
		return g.own.fresh, nil
	}
	seq := max(g.own.sequence+1, uint64(now.UnixMilli()))
	m, err := sealDigest(g.cfg.Self, seq, g.own.wholeHash, g.own.class, g.cfg.Signer)
	if err == nil {
		g.own.fresh, g.own.sequence = m, seq
	}
	return m, err
}

func sealDigest(self string, seq uint64, hash [16]byte, class []byte, signer crypto.Signer) ([]byte, error) {
	o := ownerOf(self)
	m := append(make([]byte, 0, digestBytesMax), digestMsg)
	m = append(m, o[:]...)
	m = binary.BigEndian.AppendUint64(m, seq)
	m = append(m, hash[:]...)
	sig, err := signer.Sign(nil, digestText(self, m[17:], class), crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("sign digest: %w", err)
	}
	return append(append(m, sig...), class...), nil
}

func digestText(peer string, seqAndHash, class []byte) []byte {
	return signedText("hansa/gossip/digest", peer, append(bytes.Clone(seqAndHash), class...))
}

// takeDigest takes a digest message that came by whatever way; false for one
// that is forged. One that is old or about nobody is left out.
func (g *Gossip) takeDigest(m []byte) bool {
	if len(m) < digestHead || len(m) > digestBytesMax || m[0] != digestMsg {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	id, ok := g.owners[owner(m[1:17])]
	if !ok {
		return true
	}
	seq := binary.BigEndian.Uint64(m[17:25])
	if id == g.cfg.Self {
		return g.ownDigest(m, seq)
	}
	p, key, err := g.admit(id)
	if err == nil && p.digest.pulled && bytes.Equal(m, p.digest.message) { // known here, and perhaps not to others
		p.digest.pulled = false
		g.enqueue(g.notices, "d/"+id, p.digest.message)
	}
	if err != nil || seq <= p.digest.sequence {
		return true
	}
	if !digestVerifies(id, m, key) {
		g.stats.RefusedDigests++
		return false
	}
	now := time.Now()
	m = bytes.Clone(m)
	p.digest.message, p.digest.sequence, p.digest.asOf, p.digest.pulled = m, seq, now, false
	p.digest.hash = [16]byte(m[25:41])
	p.digest.class = m[digestHead:]
	p.heard = now
	g.enqueue(g.notices, "d/"+id, m)
	g.emit(EventDigest, p)
	return true
}

func digestVerifies(id string, m []byte, key ed25519.PublicKey) bool {
	return ed25519.Verify(key, digestText(id, m[17:41], m[digestHead:]), m[41:digestHead])
}

// ownDigest: a later one than this peer remembers having sent. Its next must
// be above, or nobody would take it.
func (g *Gossip) ownDigest(m []byte, seq uint64) bool {
	if seq <= g.own.sequence {
		return true
	}
	if !digestVerifies(g.cfg.Self, m, g.cfg.Signer.Public().(ed25519.PublicKey)) {
		g.stats.RefusedDigests++
		return false
	}
	g.own.sequence = seq
	g.own.dirty = g.own.message != nil || g.own.dirty
	g.wake()
	return true
}

// Digest returns what is known of a peer's digest, this peer's own included.
func (g *Gossip) Digest(id string) (Digest, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if id == g.cfg.Self {
		return g.own.public(), g.own.message != nil
	}
	p, ok := g.peers[id]
	if !ok || p.digest.message == nil {
		return Digest{}, false
	}
	return p.digest.public(), true
}

// WholeDigest is what Config.Pull fetches from this peer.
func (g *Gossip) WholeDigest() ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.own.message == nil || g.own.hash != g.own.wholeHash {
		// The message is behind the whole: sign anew, so that they belong
		// together; gossip follows at its own pace.
		if g.own.whole == nil {
			return nil, fmt.Errorf("whole digest of %s: %w", g.cfg.Self, ErrNoDigest)
		}
		m, err := g.sealOwn(time.Now())
		if err != nil {
			return nil, err
		}
		return joinWhole(m, g.own.whole), nil
	}
	return joinWhole(g.own.message, g.own.whole), nil
}

func joinWhole(message, whole []byte) []byte {
	b := append(make([]byte, 0, 1+len(message)+len(whole)), byte(len(message)))
	return append(append(b, message...), whole...)
}

// Refresh returns a peer's digest with its whole, which is fetched from the
// peer if its hash changed since it was fetched last.
func (g *Gossip) Refresh(ctx context.Context, id string) (Digest, error) {
	if d, ok := g.Digest(id); (ok && d.Current) || id == g.cfg.Self {
		return d, nil
	}
	if g.cfg.Pull == nil {
		return Digest{}, fmt.Errorf("pull digest of %s: %w", id, ErrNoDigest)
	}
	b, err := g.cfg.Pull(ctx, id)
	if err != nil {
		return Digest{}, fmt.Errorf("pull digest of %s: %w", id, err)
	}
	if len(b) == 0 || len(b) < 1+int(b[0]) || int(b[0]) < digestHead || len(b) > 1+digestBytesMax+WholeBytesMax {
		return Digest{}, fmt.Errorf("pull digest of %s: %d bytes: %w", id, len(b), errMalformed)
	}
	message, whole := b[1:1+int(b[0])], b[1+int(b[0]):]
	hash := wholeHash(whole)
	if owner(message[1:17]) != ownerOf(id) || [16]byte(message[25:41]) != hash {
		return Digest{}, fmt.Errorf("pull digest of %s: %w", id, errForged)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	p, key, err := g.admit(id)
	switch {
	case err != nil:
		return Digest{}, fmt.Errorf("pull digest of %s: %w", id, err)
	case bytes.Equal(message, p.digest.message): // checked when it came
	case !digestVerifies(id, message, key):
		g.stats.RefusedDigests++
		return Digest{}, fmt.Errorf("pull digest of %s: %w", id, errForged)
	}
	now := time.Now()
	if seq := binary.BigEndian.Uint64(message[17:25]); seq > p.digest.sequence {
		// Its peer gossips it, or a later one, in its own time: who passed on what it
		// pulled would have all others pull once more.
		p.digest.message, p.digest.sequence, p.digest.asOf, p.digest.pulled = bytes.Clone(message), seq, now, true
		p.digest.hash, p.digest.class = hash, p.digest.message[digestHead:]
		p.heard = now
	}
	p.digest.whole, p.digest.wholeHash, p.digest.wholeAsOf = bytes.Clone(whole), hash, now
	return p.digest.public(), nil
}
