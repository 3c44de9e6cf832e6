package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"time"

	"github.com/hansa-mesh/hansa/transport"
)

// What is asked for.
const (
	askHave  = "have"
	askChain = "chain"
	askChunk = "chunk"
)

// How a request is answered.
const (
	sayDone    = ""
	sayWait    = "wait"    // the answer comes later
	sayBusy    = "busy"    // ask others, or later
	sayMissing = "missing" // this chunk is not here
	sayNone    = "none"    // nothing of the file is here
)

type request struct {
	Digest string `cbor:"d,omitempty"` // in the first of a stream
	What   string `cbor:"w"`
	Chunk  int    `cbor:"c,omitempty"`
	// Seen is the version of the last "have": an answer may be held, for at most
	// Hold, until it is another.
	Seen uint64        `cbor:"s,omitempty"`
	Hold time.Duration `cbor:"h,omitempty"`
}

type answer struct {
	Say     string   `cbor:"y,omitempty"`
	Size    int64    `cbor:"z,omitempty"` // of the file
	Whole   bool     `cbor:"a,omitempty"`
	Have    []byte   `cbor:"b,omitempty"` // the chunks that are here, if not all
	Version uint64   `cbor:"v,omitempty"` // of Have
	Sent    []byte   `cbor:"t,omitempty"` // the chunks that others were sent
	Peers   []string `cbor:"p,omitempty"` // that fetch it, or did just now
	Data    []byte   `cbor:"i,omitempty"` // the file, if it is small
	Length  int      `cbor:"l,omitempty"` // of the bytes that follow
}

// Bounds of what is read from others.
const (
	frameMax  = 64 << 10 // a Have of SizeMax is 8 KiB
	inlineMax = 32 << 10
	peersMax  = 16 // in one answer
	peerMax   = 128
	pieceLen  = 64 << 10 // of a chunk, read at once
)

var errRefused = errors.New("it sent what makes no sense")

// check refuses an answer that no honest peer sends.
func (a answer) check() error {
	switch {
	case a.Size < 0 || a.Size > SizeMax:
		return fmt.Errorf("%w: a file of %d bytes", errRefused, a.Size)
	case len(a.Peers) > peersMax || len(a.Data) > inlineMax || a.Length < 0:
		return fmt.Errorf("%w: %d peers, %d bytes within, %d to follow", errRefused, len(a.Peers), len(a.Data), a.Length)
	}
	for _, p := range a.Peers {
		if p == "" || len(p) > peerMax {
			return fmt.Errorf("%w: a peer's id of %d bytes", errRefused, len(p))
		}
	}
	return nil
}

// bitset is a set of chunks.
type bitset []byte

func newBitset(n int) bitset { return make(bitset, (n+7)/8) }

func (b bitset) has(i int) bool { return i>>3 < len(b) && b[i>>3]&(1<<(i&7)) != 0 }
func (b bitset) set(i int)      { b[i>>3] |= 1 << (i & 7) }
func (b bitset) unset(i int)    { b[i>>3] &^= 1 << (i & 7) }

func (b bitset) count() (n int) {
	for _, x := range b {
		n += bits.OnesCount8(x)
	}
	return n
}

// line is a stream of which too little progress ends in an error.
type line struct {
	ctx    context.Context
	stream Stream
	moved  int // since the deadline was moved on
}

// extend gives the stream another stallMax. That ctx is looked at afterwards
// leaves the deadline of a ctx that ends to whoever sets that.
func (l *line) extend() error {
	// A stream that the other end closed may refuse a deadline; what it still
	// holds can be read all the same.
	_ = l.stream.SetDeadline(time.Now().Add(stallMax))
	l.moved = 0
	return l.ctx.Err()
}

func (l *line) progress(n int) error {
	if l.moved += n; l.moved < progressMin {
		return nil
	}
	return l.extend()
}

func (l *line) send(v any) error {
	if err := l.extend(); err != nil {
		return err
	}
	return transport.WriteFrame(l.stream, v)
}

func (l *line) receive(v any) error {
	if err := l.extend(); err != nil {
		return err
	}
	return transport.ReadFrame(l.stream, v, frameMax)
}

// read fills p, and tells of each piece that came.
func (l *line) read(p []byte, came func(n int)) error {
	if err := l.extend(); err != nil {
		return err
	}
	for len(p) > 0 {
		n, err := l.stream.Read(p[:min(len(p), pieceLen)])
		p = p[n:]
		if n > 0 {
			came(n)
			if err := l.progress(n); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) && len(p) > 0 {
			return io.ErrUnexpectedEOF
		}
		if err != nil && len(p) > 0 {
			return err
		}
	}
	return nil
}
