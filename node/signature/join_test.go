package signature

import (
	"bytes"
	"crypto"
	"testing"

	"github.com/hansa-mesh/hansa/node/image"
)

// Signatures from two places are joined, and nothing is made anew that one has.
func TestJoin(t *testing.T) {
	b, first, second := blobs{}, newKey(t), newKey(t)
	images := [][]byte{signAs(t, b, first, api, nil), signAs(t, b, second, api, nil)}
	both, config, err := Join(images[0], images[1])
	if err != nil || config == nil {
		t.Fatal(config, err)
	}
	for _, key := range publics(first, second) {
		if err := Check(read(t, b, both), api, []crypto.PublicKey{key}); err != nil {
			t.Error(err)
		}
	}
	if m, err := image.Parse("", both); err != nil || !Is(m) {
		t.Errorf("it is no image of signatures: %v", err)
	}
	for _, one := range images {
		for _, pair := range [][2][]byte{{both, one}, {one, both}} {
			if got, config, err := Join(pair[0], pair[1]); err != nil || config != nil || !bytes.Equal(got, both) {
				t.Errorf("joined with one of its own: %v, %v", config, err)
			}
		}
	}
	if _, _, err := Join(both, []byte("x")); err == nil {
		t.Error("what is no manifest was joined")
	}
}
