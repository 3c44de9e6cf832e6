package transport

import (
	"encoding/binary"
	"fmt"
	"io"

	"github.com/fxamacker/cbor/v2"
)

// WriteFrame writes v as one frame: the length of its CBOR (4 bytes,
// big-endian), and the CBOR.
func WriteFrame(w io.Writer, v any) error {
	body, err := cbor.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...))
	return err
}

// ReadFrame reads into v what WriteFrame wrote, and nothing beyond. A frame of
// more than limit bytes is not read: the error is of KindTooLarge, and of
// KindInvalid for a body that is no such v.
func ReadFrame(r io.Reader, v any, limit int) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	length := binary.BigEndian.Uint32(head[:])
	if uint64(length) > uint64(limit) {
		return &Error{Kind: KindTooLarge, Msg: fmt.Sprintf("a frame of %d bytes, at most %d", length, limit)}
	}
	body, err := readBody(r, int(length))
	if err != nil {
		return err
	}
	if err := cbor.Unmarshal(body, v); err != nil {
		return &Error{Kind: KindInvalid, Msg: "a frame that can't be read: " + err.Error(), cause: err}
	}
	return nil
}
