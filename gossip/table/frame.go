package table

import (
	"fmt"
)

// Bounds of the exchange.
const (
	protocolVersion = 1
	// frameBytesMax is the largest frame that is read: one record with its
	// envelope, or the context of a mesh with a long history.
	frameBytesMax = 4 << 20
	// chunkBytes is when a frame of many records is closed.
	chunkBytes = 64 << 10
	// refusedMax is how many records one exchange may have refused before it
	// is given up: each costs a signature check.
	refusedMax = 1024
)

// kind is what a frame says.
type kind uint8

const (
	kindHello    kind = iota + 1 // the sender's hash
	kindEqual                    // answer to hello: nothing to do
	kindContext                  // what the sender has seen
	kindGroups                   // keys with records that the receiver lacks
	kindEnd                      // no more groups; the hash of the live dots, and the tops
	kindSubs                     // the sub-hashes of the tops that differ
	kindDots                     // the live dots of the subs that differ
	kindDotsEnd                  //
	kindRemoved                  // dots that the sender knows as removed
	kindFinished                 // the exchange is over
)

// frame is one message of a session.
type frame struct {
	Kind    kind     `cbor:"1,keyasint"`
	Version uint64   `cbor:"2,keyasint,omitempty"`
	Name    string   `cbor:"3,keyasint,omitempty"`
	Hash    []byte   `cbor:"4,keyasint,omitempty"`
	Context []byte   `cbor:"5,keyasint,omitempty"`
	Groups  []group  `cbor:"6,keyasint,omitempty"`
	Tops    []byte   `cbor:"7,keyasint,omitempty"`
	Subs    []subs   `cbor:"8,keyasint,omitempty"`
	Lists   []subDot `cbor:"9,keyasint,omitempty"`
	Dots    []Dot    `cbor:"10,keyasint,omitempty"`
}

// group is a key with all of its live siblings at the sender: in full those
// that the receiver lacks, by dot the others. What the receiver has under the
// key beyond these, and the sender has seen, was removed there.
type group struct {
	Key     string   `cbor:"1,keyasint"`
	Records [][]byte `cbor:"2,keyasint"`
	Others  []Dot    `cbor:"3,keyasint,omitempty"`
}

type subs struct {
	Top    uint16 `cbor:"1,keyasint"`
	Hashes []byte `cbor:"2,keyasint"`
}

type subDot struct {
	Sub  uint16 `cbor:"1,keyasint"`
	Dots []Dot  `cbor:"2,keyasint,omitempty"`
}

func (f *frame) encode() []byte {
	b, err := encoder.Marshal(f)
	if err != nil {
		panic(fmt.Sprintf("table: encode frame %d: %v", f.Kind, err)) // plain data
	}
	return b
}

func decodeFrame(b []byte) (*frame, error) {
	if len(b) > frameBytesMax {
		return nil, fmt.Errorf("decode frame: %d bytes, at most %d", len(b), frameBytesMax)
	}
	f := &frame{}
	if err := decoder.Unmarshal(b, f); err != nil {
		return nil, fmt.Errorf("decode frame: %w", err)
	}
	if len(f.Tops) != 0 && len(f.Tops) != topsTotal*markBytes {
		return nil, fmt.Errorf("decode frame: tops of %d bytes", len(f.Tops))
	}
	if len(f.Subs) > topsTotal {
		return nil, fmt.Errorf("decode frame: %d tops", len(f.Subs))
	}
	for _, s := range f.Subs {
		if s.Top >= topsTotal || len(s.Hashes) != subsEach*markBytes {
			return nil, fmt.Errorf("decode frame: malformed subs of top %d", s.Top)
		}
	}
	for _, l := range f.Lists {
		if l.Sub >= subsTotal {
			return nil, fmt.Errorf("decode frame: no sub %d", l.Sub)
		}
	}
	return f, nil
}
