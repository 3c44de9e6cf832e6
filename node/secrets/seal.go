package secrets

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
)

// What something was sealed for. It is bound into the sealing, so that a wrap is
// no value, and the value of one secret is not that of another.
const (
	purposeWrap  = "hansa namespace key 1"
	purposeValue = "hansa secret 1"
)

// keyBytes is the length of a public and of a private key.
const keyBytes = 32

// padTo is what lengths of values are rounded up to, so that a record does not
// tell how long a password is.
const padTo = 256

var errOpen = errors.New("it was not sealed for this, or was changed")

// info says what something is sealed for. No name holds a NUL.
func info(purpose string, parts ...string) []byte {
	out := []byte(purpose)
	for _, p := range parts {
		out = append(append(out, 0), p...)
	}
	return out
}

func seal(to *ecdh.PublicKey, info, plain []byte) ([]byte, error) {
	public, err := hpke.NewDHKEMPublicKey(to)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	sealed, err := hpke.Seal(public, hpke.HKDFSHA256(), hpke.AES256GCM(), info, plain)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return sealed, nil
}

func open(with *ecdh.PrivateKey, info, sealed []byte) ([]byte, error) {
	private, err := hpke.NewDHKEMPrivateKey(with)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	plain, err := hpke.Open(private, hpke.HKDFSHA256(), hpke.AES256GCM(), info, sealed)
	if err != nil {
		return nil, errOpen // the library's reason is of no use to anyone
	}
	return plain, nil
}

// sealValue seals a secret to a namespace's key.
func sealValue(key []byte, namespace, name string, value []byte) ([]byte, error) {
	public, err := ecdh.X25519().NewPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("the key of namespace %s: %w", namespace, err)
	}
	padded := make([]byte, (4+len(value)+padTo-1)/padTo*padTo)
	binary.BigEndian.PutUint32(padded, uint32(len(value)))
	copy(padded[4:], value)
	defer clear(padded)
	return seal(public, info(purposeValue, namespace, name, string(key)), padded)
}

// openValue opens what sealValue made.
func openValue(private *ecdh.PrivateKey, namespace, name string, sealed []byte) ([]byte, error) {
	padded, err := open(private, info(purposeValue, namespace, name, string(private.PublicKey().Bytes())), sealed)
	if err != nil {
		return nil, err
	}
	if len(padded) < 4 || uint64(binary.BigEndian.Uint32(padded)) > uint64(len(padded)-4) {
		return nil, errOpen
	}
	return padded[4 : 4+binary.BigEndian.Uint32(padded)], nil
}

// wrap seals the private key of a namespace to a peer.
func wrap(private *ecdh.PrivateKey, namespace string, p Peer) ([]byte, error) {
	return seal(p.Key, info(purposeWrap, namespace, string(private.PublicKey().Bytes()), p.ID), private.Bytes())
}

// unwrap opens a wrap, and looks whether it is of the key that it says.
func unwrap(own *ecdh.PrivateKey, namespace, self string, public, wrapped []byte) (*ecdh.PrivateKey, error) {
	plain, err := open(own, info(purposeWrap, namespace, string(public), self), wrapped)
	if err != nil {
		return nil, err
	}
	private, err := ecdh.X25519().NewPrivateKey(plain)
	if err != nil || string(private.PublicKey().Bytes()) != string(public) {
		return nil, errOpen
	}
	return private, nil
}

func newKey() (*ecdh.PrivateKey, error) { return ecdh.X25519().GenerateKey(rand.Reader) }
