package gossip

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
)

// mostOf is how high words may be where one peer is high itself.
func mostOf(node string, _ uint64, kind byte) uint64 {
	g := &Gossip{peers: map[string]*peer{"high": {incarnation: incarnationMax + 99}}}
	return g.numberMax(node, kind)
}

// What is no exchange of members stalls nobody and takes no room.
func FuzzStream(f *testing.F) {
	f.Add(exchangeOf("v", "meta", math.MaxUint32, 2))
	f.Fuzz(func(t *testing.T, b []byte) {
		head, err := tameHead(bufio.NewReader(bytes.NewReader(b)), mostOf)
		if err == nil && len(head) > len(b) {
			t.Errorf("%d bytes of %d", len(head), len(b))
		}
	})
}

// TestStreamsAreTame: exchanges of members go through as they are, but for words that
// nobody could refute, which become old ones.
func TestStreamsAreTame(t *testing.T) {
	for name, c := range map[string]struct {
		in   []byte
		want []byte // nil: malformed
	}{
		"alive":                     {exchangeOf("v", "meta", 7, 0), exchangeOf("v", "meta", 7, 0)},
		"dead":                      {exchangeOf("v", "meta", incarnationMax, 2), exchangeOf("v", "meta", incarnationMax, 2)},
		"a refutation":              {exchangeOf("v", "meta", incarnationMax+1, 0), exchangeOf("v", "meta", incarnationMax+1, 0)},
		"a death of one that high":  {exchangeOf("high", "meta", incarnationMax+99, 2), exchangeOf("high", "meta", incarnationMax+99, 2)},
		"a death too high":          {exchangeOf("v", "meta", incarnationMax+1, 2), exchangeOf("v", "meta", 0, 2)},
		"a suspicion too high":      {exchangeOf("v", "meta", math.MaxUint32, 1), exchangeOf("v", "meta", 0, 1)},
		"a life sign, however high": {exchangeOf("v", "meta", math.MaxUint32, 0), exchangeOf("v", "meta", math.MaxUint32, 0)},
		"a list for a map":          {[]byte("\x06\x93\x01\x00\xc2"), nil},
		"many members":              {[]byte("\x06\x81\xa5Nodes\xce\xff\xff\xff\xff"), nil},
		"compressed":                {[]byte{compressMsg, 0x80}, nil},
		"an incarnation that is no": {[]byte("\x06\x81\xa5Nodes\x01\x81\xabIncarnation\xca\x00\x00\x00\x00"), nil},
		"something else":            {[]byte("\x00anything"), []byte("\x00anything")},
	} {
		r := bufio.NewReader(bytes.NewReader(c.in))
		got, err := tameHead(r, mostOf)
		if err == nil {
			rest, _ := io.ReadAll(r) // from memory
			got = append(got, rest...)
		}
		if (err == nil) != (c.want != nil) || err == nil && !bytes.Equal(got, c.want) || err != nil && !errors.Is(err, errMalformed) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	long := []byte("\x06\x81\xa5Nodes\xcd\x10\x00")
	member := packedText([]byte{0x81}, "Meta", strings.Repeat("x", 60_000))
	if _, err := tameHead(bufio.NewReader(io.MultiReader(bytes.NewReader(long), bytes.NewReader(bytes.Repeat(member, 100)))), mostOf); !errors.Is(err, errMalformed) {
		t.Errorf("an exchange without end: %v", err)
	}
}
