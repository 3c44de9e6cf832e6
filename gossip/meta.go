package gossip

import (
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/hashicorp/memberlist"
)

var (
	errNotAdmitted = errors.New("not admitted")
	errForged      = errors.New("signature does not verify")
	errStale       = errors.New("older than what is known")
	errMalformed   = errors.New("malformed")
)

// meta is what a peer says of itself in its membership record. Generation
// grows with every start of the peer, revision with every change after that.
type meta struct {
	Name       string `cbor:"1,keyasint,omitempty"`
	Site       string `cbor:"2,keyasint,omitempty"`
	Addr       string `cbor:"3,keyasint,omitempty"`
	Version    string `cbor:"4,keyasint,omitempty"`
	Generation uint64 `cbor:"5,keyasint"`
	Revision   uint64 `cbor:"6,keyasint"`
	Leaving    bool   `cbor:"7,keyasint,omitempty"`
	BackWithin uint32 `cbor:"8,keyasint,omitempty"` // seconds
}

func (m meta) olderThan(o meta) bool {
	return m.Generation < o.Generation || (m.Generation == o.Generation && m.Revision < o.Revision)
}

func metaText(peer string, body []byte) []byte {
	return signedText("hansa/gossip/meta", peer, body)
}

// signedText binds a signature to its purpose and to the peer.
func signedText(purpose, peer string, body []byte) []byte {
	b := make([]byte, 0, len(purpose)+len(peer)+len(body)+2)
	b = append(b, purpose...)
	b = append(b, 0, byte(len(peer)))
	b = append(b, peer...)
	return append(b, body...)
}

// seal encodes and signs: 64 bytes of signature, then CBOR.
func (m meta) seal(peer string, signer crypto.Signer) ([]byte, error) {
	body, err := encoder.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode metadata: %w", err)
	}
	sig, err := signer.Sign(nil, metaText(peer, body), crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("sign metadata: %w", err)
	}
	sealed := append(sig, body...)
	if len(sealed) > memberlist.MetaMaxSize {
		return nil, fmt.Errorf("metadata of %d bytes: %w", len(sealed), errMalformed)
	}
	return sealed, nil
}

func openMeta(peer string, sealed []byte, key ed25519.PublicKey) (meta, error) {
	var m meta
	if len(sealed) <= ed25519.SignatureSize || len(sealed) > memberlist.MetaMaxSize {
		return m, fmt.Errorf("metadata of %d bytes: %w", len(sealed), errMalformed)
	}
	sig, body := sealed[:ed25519.SignatureSize], sealed[ed25519.SignatureSize:]
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, metaText(peer, body), sig) {
		return m, fmt.Errorf("metadata: %w", errForged)
	}
	if err := decoder.Unmarshal(body, &m); err != nil {
		return m, fmt.Errorf("metadata: %w: %w", errMalformed, err)
	}
	if len(m.Name) > nameBytesMax || len(m.Site) > nameBytesMax || len(m.Addr) > addrBytesMax ||
		len(m.Version) > versionBytesMax {
		return m, fmt.Errorf("metadata: field too long: %w", errMalformed)
	}
	return m, nil
}

var (
	encoder = mustEncoder()
	decoder = mustDecoder()
)

func mustEncoder() cbor.EncMode {
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err) // constant options
	}
	return m
}

func mustDecoder() cbor.DecMode {
	m, err := cbor.DecOptions{
		MaxArrayElements: 1 << 14,
		MaxMapPairs:      64,
		MaxNestedLevels:  8,
		IndefLength:      cbor.IndefLengthForbidden,
		TagsMd:           cbor.TagsForbidden,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}
