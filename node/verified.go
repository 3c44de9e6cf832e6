package node

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"sync"

	"github.com/hansa-mesh/hansa/transport/identity"
)

// verified remembers signatures that were checked and are right. One record is
// checked by its table, by the core that reads it, and again with each message
// that carries it; a look here costs a fiftieth of that. Who may sign is asked
// each time: only what can't change is remembered.
type verified struct {
	mu         sync.Mutex // guards what follows
	young, old map[[sha256.Size]byte]struct{}
}

// verifiedMax bounds each of the two generations of what is remembered.
const verifiedMax = 4096

// check says whether a signature is right.
func (v *verified) check(key ed25519.PublicKey, context string, body, sig []byte) bool {
	sum := signedSum(key, context, body, sig)
	if v.has(sum) {
		return true
	}
	if !identity.VerifyFor(key, context, body, sig) {
		return false
	}
	v.add(sum)
	return true
}

func (v *verified) has(sum [sha256.Size]byte) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.young[sum]; ok {
		return true
	}
	_, ok := v.old[sum]
	return ok
}

func (v *verified) add(sum [sha256.Size]byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.young == nil || len(v.young) >= verifiedMax {
		v.old, v.young = v.young, map[[sha256.Size]byte]struct{}{}
	}
	v.young[sum] = struct{}{}
}

// signedSum is a hash of all that a signature follows from, each part with its
// length, so that no two make the same text.
func signedSum(key ed25519.PublicKey, context string, body, sig []byte) (sum [sha256.Size]byte) {
	h := sha256.New()
	var length [8]byte
	for _, part := range [][]byte{key, []byte(context), body, sig} {
		binary.BigEndian.PutUint64(length[:], uint64(len(part)))
		h.Write(length[:])
		h.Write(part)
	}
	h.Sum(sum[:0])
	return sum
}
