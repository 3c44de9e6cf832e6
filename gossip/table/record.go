package table

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Limits of one operation on the wire.
const (
	keyBytesMax   = 1024
	supersedesMax = 256
)

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
		MaxArrayElements: 1 << 17,
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

// Record is one live value of a key.
type Record struct {
	Dot        Dot
	Key        string
	Value      []byte // opaque; signed inside by whoever made it
	Supersedes []Dot  // what its writer had seen there, and some ancestors

	raw  []byte // the operation as its writer encoded it
	hash dotHash
}

// operation is the wire and disk form of a write. Integer keys: an older peer
// skips fields that it does not know, and relays the bytes as they came.
type operation struct {
	Peer        string `cbor:"1,keyasint"`
	Incarnation uint64 `cbor:"2,keyasint"`
	Counter     uint64 `cbor:"3,keyasint"`
	Key         string `cbor:"4,keyasint"`
	Value       []byte `cbor:"5,keyasint,omitempty"`
	Supersedes  []Dot  `cbor:"6,keyasint,omitempty"`
	Removal     bool   `cbor:"7,keyasint,omitempty"`
}

func (o *operation) dot() Dot { return Dot{o.Peer, o.Incarnation, o.Counter} }

func (o *operation) encode() ([]byte, error) { return encoder.Marshal(o) }

// decodeOperation checks form and limits; it never trusts a length.
func decodeOperation(raw []byte, valueMax int) (*operation, error) {
	if len(raw) > operationBytesMax(valueMax) {
		return nil, fmt.Errorf("decode operation: %d bytes", len(raw))
	}
	o := &operation{}
	if err := decoder.Unmarshal(raw, o); err != nil {
		return nil, fmt.Errorf("decode operation: %w", err)
	}
	if err := o.dot().check(); err != nil {
		return nil, fmt.Errorf("decode operation: %w", err)
	}
	if o.Key == "" || len(o.Key) > keyBytesMax {
		return nil, fmt.Errorf("decode operation %s: key of %d bytes", o.dot(), len(o.Key))
	}
	if len(o.Value) > valueMax {
		return nil, fmt.Errorf("decode operation %s: value of %d bytes, at most %d", o.dot(), len(o.Value), valueMax)
	}
	if o.Removal && len(o.Value) > 0 {
		return nil, fmt.Errorf("decode operation %s: a removal with a value", o.dot())
	}
	if len(o.Supersedes) > supersedesMax {
		return nil, fmt.Errorf("decode operation %s: supersedes %d", o.dot(), len(o.Supersedes))
	}
	for _, d := range o.Supersedes {
		if err := d.check(); err != nil {
			return nil, fmt.Errorf("decode operation %s: supersedes: %w", o.dot(), err)
		}
		if d == o.dot() {
			return nil, fmt.Errorf("decode operation %s: supersedes itself", o.dot())
		}
	}
	return o, nil
}

// DotOf reads the dot of an operation, so that one that is too large to spread
// can be announced instead. It checks form, not content.
func DotOf(rumour []byte) (Dot, error) {
	o, err := decodeOperation(rumour, frameBytesMax/2)
	if err != nil {
		return Dot{}, err
	}
	return o.dot(), nil
}

// operationBytesMax leaves room for the envelope and for fields of later
// versions.
func operationBytesMax(valueMax int) int {
	return valueMax + keyBytesMax + supersedesMax*(peerBytesMax+32) + 1024
}

func (o *operation) record(raw []byte) *Record {
	d := o.dot()
	return &Record{Dot: d, Key: o.Key, Value: o.Value, Supersedes: o.Supersedes, raw: raw, hash: hashDot(d)}
}

// dotHash places a dot in a bucket and stands for it in the bucket's hash.
type dotHash struct {
	sub  uint16 // 0..subsTotal-1
	mark uint64
	full Hash
}

func hashDot(d Dot) dotHash {
	var buf [96]byte
	sum := sha256.Sum256(d.appendBytes(buf[:0]))
	return dotHash{
		sub:  binary.BigEndian.Uint16(sum[:2]) % subsTotal,
		mark: binary.BigEndian.Uint64(sum[8:16]),
		full: Hash(sum[16:32]),
	}
}
