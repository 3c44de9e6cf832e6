package table

import (
	"cmp"
	"encoding/binary"
	"fmt"
)

// Limits of a dot, on the wire and in memory.
const (
	peerBytesMax = 64
	counterMax   = 1 << 48 // 8,900 years at a thousand writes a second
)

// Dot names one write for ever: the writer, the incarnation of the writer's
// store, and a counter that starts at 1 in each incarnation.
type Dot struct {
	Peer        string `cbor:"1,keyasint"`
	Incarnation uint64 `cbor:"2,keyasint"`
	Counter     uint64 `cbor:"3,keyasint"`
}

// String renders a dot as peer.incarnation.counter.
func (d Dot) String() string {
	return fmt.Sprintf("%s.%d.%d", d.Peer, d.Incarnation, d.Counter)
}

// Compare orders dots by counter first, so that the later of two writes of one
// writer is the greater; ties fall to the peer and the incarnation.
func (d Dot) Compare(o Dot) int {
	return cmp.Or(cmp.Compare(d.Counter, o.Counter), cmp.Compare(d.Peer, o.Peer),
		cmp.Compare(d.Incarnation, o.Incarnation))
}

func (d Dot) writer() writer { return writer{d.Peer, d.Incarnation} }

func (d Dot) check() error {
	if d.Peer == "" || len(d.Peer) > peerBytesMax {
		return fmt.Errorf("dot of a peer with an id of %d bytes", len(d.Peer))
	}
	if d.Counter == 0 || d.Counter > counterMax {
		return fmt.Errorf("dot %s: counter out of range", d)
	}
	return nil
}

// appendBytes is the form that is hashed; it is injective.
func (d Dot) appendBytes(b []byte) []byte {
	b = append(b, byte(len(d.Peer)))
	b = append(b, d.Peer...)
	b = binary.BigEndian.AppendUint64(b, d.Incarnation)
	return binary.BigEndian.AppendUint64(b, d.Counter)
}

// writer is one incarnation of a peer: the unit that counts.
type writer struct {
	Peer        string
	Incarnation uint64
}

func (w writer) compare(o writer) int {
	return cmp.Or(cmp.Compare(w.Peer, o.Peer), cmp.Compare(w.Incarnation, o.Incarnation))
}
