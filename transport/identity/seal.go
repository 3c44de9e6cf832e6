package identity

import (
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/sha512"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// A peer's Ed25519 key is an X25519 key as well (the two curves are one, seen
// from two sides): what is sealed to a peer needs no second key that would have
// to be published, signed and waited for. Signatures and X25519 key agreement
// under one key do not help against each other (Thormarker: On using the same
// key pair for Ed25519 and an X25519 based KEM).

// SealingKey opens what was sealed to this peer.
func (i *Identity) SealingKey() *ecdh.PrivateKey {
	h := sha512.Sum512(i.key.Seed()) // RFC 8032: the scalar is the first half
	key, err := ecdh.X25519().NewPrivateKey(h[:32])
	if err != nil {
		panic("identity: x25519: " + err.Error()) // any 32 bytes are a key
	}
	return key
}

// SealingKeyOf is the key that things are sealed to for the peer with this
// public key: u = (1+y)/(1-y), RFC 7748, of numbers that everybody knows.
func SealingKeyOf(public ed25519.PublicKey) (*ecdh.PublicKey, error) {
	if len(public) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("sealing key: the public key has %d bytes, not %d", len(public), ed25519.PublicKeySize)
	}
	le := slices.Clone(public)
	le[31] &= 0x7f // the sign of x
	slices.Reverse(le)
	y, one := new(big.Int).SetBytes(le), big.NewInt(1)
	below := new(big.Int).Sub(one, y)
	if below.Mod(below, fieldPrime).Sign() == 0 {
		return nil, errors.New("sealing key: the public key is no point that a secret can be sealed to")
	}
	u := new(big.Int).Add(one, y)
	u.Mul(u, below.ModInverse(below, fieldPrime)).Mod(u, fieldPrime)
	out := u.FillBytes(make([]byte, 32))
	slices.Reverse(out)
	return ecdh.X25519().NewPublicKey(out)
}

// fieldPrime is 2^255 - 19.
var fieldPrime = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 255), big.NewInt(19))
