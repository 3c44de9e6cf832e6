package signature

import (
	"crypto"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/image"
)

// Whoever offers signatures from elsewhere can't make those vanish that are there: what
// is joined has them still, where they are looked at, or it is refused.
func TestJoinLosesNone(t *testing.T) {
	b, key := blobs{}, newKey(t)
	old := signAs(t, b, key, api, nil)
	edit := func(change func(*ocispec.Manifest)) []byte {
		var m ocispec.Manifest
		if err := json.Unmarshal(old, &m); err != nil {
			t.Fatal(err)
		}
		change(&m)
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	junk := func(n int, size int64) (out []ocispec.Descriptor) {
		for i := range n {
			payload := digests.FromString(fmt.Sprint("junk ", i))
			b[payload] = []byte(fmt.Sprint("junk ", i))
			out = append(out, ocispec.Descriptor{MediaType: layerType, Digest: payload, Size: size, Annotations: map[string]string{annotation: "AAAA"}})
		}
		return out
	}
	for name, more := range map[string][]byte{
		"of another type":               edit(func(m *ocispec.Manifest) { m.Layers[0].MediaType = ocispec.MediaTypeImageLayer }),
		"of another length":             edit(func(m *ocispec.Manifest) { m.Layers[0].Size = payloadMax + 1 }),
		"behind many":                   edit(func(m *ocispec.Manifest) { m.Layers = slices.Concat(junk(signaturesMax, 6), m.Layers) }),
		"with too many bytes":           edit(func(m *ocispec.Manifest) { m.Layers = junk(1, ImageMax) }),
		"with many, and too many bytes": edit(func(m *ocispec.Manifest) { m.Layers = slices.Concat(m.Layers, junk(1, ImageMax)) }),
	} {
		got, _, err := Join(old, more)
		if err != nil {
			continue
		}
		if m, err := image.Parse("", got); err != nil || !Is(m) {
			t.Errorf("%s: it is no image of signatures: %v", name, err)
		} else if err := Check(read(t, b, got), api, []crypto.PublicKey{key.Public()}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
