package placement

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"
)

// Limits of what is decoded, whoever sent it.
const (
	messageBytesMax = 4 << 20
	nestedMax       = 24
	elementsMax     = 1 << 16
)

var (
	encMode = func() cbor.EncMode {
		m, err := cbor.CoreDetEncOptions().EncMode()
		assert(err == nil, "cbor options")
		return m
	}()
	// Unknown fields are tolerated: a newer peer may send more.
	decMode = func() cbor.DecMode {
		m, err := cbor.DecOptions{
			MaxNestedLevels: nestedMax, MaxArrayElements: elementsMax, MaxMapPairs: elementsMax,
			DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden,
		}.DecMode()
		assert(err == nil, "cbor options")
		return m
	}()
)

// Encode writes a record of this package (deterministic CBOR: equal values
// give equal bytes).
func Encode(v any) []byte {
	data, err := encMode.Marshal(v)
	assert(err == nil, "encode %T: %v", v, err)
	return data
}

// Decode reads what Encode wrote, within limits of size, depth and counts.
func Decode(data []byte, v any) error {
	if len(data) > messageBytesMax {
		return fmt.Errorf("decode %T: %d bytes: at most %d", v, len(data), messageBytesMax)
	}
	if err := decMode.Unmarshal(data, v); err != nil {
		return fmt.Errorf("decode %T: %w", v, err)
	}
	return nil
}

// assert panics when an invariant of the core is broken: a bug here, never
// bad input.
func assert(ok bool, format string, args ...any) {
	if !ok {
		panic("placement: " + fmt.Sprintf(format, args...))
	}
}
