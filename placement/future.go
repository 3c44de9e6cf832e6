package placement

import "github.com/fxamacker/cbor/v2"

// FutureField is the name of a field that no release knows: see Tuning.Future.
const FutureField = "zz-of-a-later-release"

// withFuture is an encoded record or message with one field more.
func withFuture(body []byte) []byte {
	fields := map[any]cbor.RawMessage{}
	err := decMode.Unmarshal(body, &fields)
	assert(err == nil, "a record is no map: %v", err)
	fields[FutureField] = Encode(1)
	return Encode(fields)
}
