package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// memory is a store of files by digest.
type memory struct {
	mu    sync.Mutex
	files map[string]string
}

func newMemory() *memory { return &memory{files: map[string]string{}} }

func (m *memory) Has(d string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.files[d]
	return ok
}

type file struct{ *strings.Reader }

func (file) Close() error { return nil }

func (m *memory) Open(d string) (io.ReadSeekCloser, int64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	text, ok := m.files[d]
	if !ok {
		return nil, 0, errors.New("no such file")
	}
	return file{strings.NewReader(text)}, int64(len(text)), nil
}

func (m *memory) add(mediaType, text string) ocispec.Descriptor {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := digests.FromString(text)
	m.files[d.String()] = text
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(text))}
}

func (m *memory) addJSON(t testing.TB, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return m.add(mediaType, string(data))
}

// image adds one with two layers, of which all images share the first.
func (m *memory) image(t testing.TB, name string, more ...ocispec.Descriptor) ocispec.Descriptor {
	config := m.add(ocispec.MediaTypeImageConfig, `{"name":"`+name+`"}`)
	layers := []ocispec.Descriptor{m.add(ocispec.MediaTypeImageLayerGzip, "shared"), m.add(ocispec.MediaTypeImageLayerZstd, "layer of "+name)}
	doc := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: append(layers, more...)}
	doc.SchemaVersion = 2
	return m.addJSON(t, ocispec.MediaTypeImageManifest, doc)
}

func (m *memory) index(t testing.TB, manifests ...ocispec.Descriptor) ocispec.Descriptor {
	doc := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests}
	doc.SchemaVersion = 2
	return m.addJSON(t, ocispec.MediaTypeImageIndex, doc)
}

func TestWalk(t *testing.T) {
	m := newMemory()
	elsewhere := ocispec.Descriptor{MediaType: "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", Digest: digests.FromString("windows"), Size: 7}
	amd, arm := m.image(t, "amd64"), m.image(t, "arm64", elsewhere)
	root := m.index(t, amd, m.index(t, arm)).Digest.String()
	tree, err := Walk(m, root, "")
	if err != nil || !tree.Whole() {
		t.Fatalf("%+v, %v; want all of it here", tree, err)
	}
	want := int64(0)
	for _, text := range m.files { // each blob counts once, shared or not
		want += int64(len(text))
	}
	if len(tree.Parts) != len(m.files) || tree.Size() != want || tree.Parts[0].Digest != root {
		t.Errorf("%d parts, %d bytes; want %d parts, %d bytes: %+v", len(tree.Parts), tree.Size(), len(m.files), want, tree.Parts)
	}

	delete(m.files, arm.Digest.String())
	delete(m.files, digests.FromString("shared").String())
	tree, err = Walk(m, root, "")
	if err != nil || tree.Whole() || len(tree.Missing) != 2 {
		t.Errorf("missing %+v, %v; want a manifest and a layer", tree.Missing, err)
	}
	if tree, err := Walk(newMemory(), root, ""); err != nil || tree.Whole() || len(tree.Missing) != 1 {
		t.Errorf("of nothing: %+v, %v; want the root missing", tree, err)
	}
}

// A host fetches of an index what it can run, and what does not say where it runs.
func TestWalkOfOneArchitecture(t *testing.T) {
	m := newMemory()
	on := func(arch string) ocispec.Descriptor {
		d := m.image(t, arch)
		d.Platform = &ocispec.Platform{OS: "linux", Architecture: arch}
		return d
	}
	amd, arm, any := on("amd64"), on("arm64"), m.image(t, "any")
	root := m.index(t, amd, arm, any).Digest.String()
	delete(m.files, arm.Digest.String())
	trees := NewTrees(m)
	if !trees.Whole(root, "amd64") || trees.Whole(root, "arm64") || trees.Whole(root, "") {
		t.Error("all for amd64 is here, and nothing but that")
	}
	tree, err := trees.Tree(root, "amd64")
	if err != nil || slices.ContainsFunc(tree.Parts, func(p Part) bool { return p.Digest == arm.Digest.String() }) {
		t.Errorf("%+v, %v; want nothing for arm64", tree.Parts, err)
	}
}

func TestWalkRefuses(t *testing.T) {
	m := newMemory()
	deep := m.image(t, "x")
	for range DepthMax + 1 {
		deep = m.index(t, deep)
	}
	tests := map[string]string{
		"deep":    deep.Digest.String(),
		"no json": m.add("", "hello").Digest.String(),
		"huge":    m.add("", strings.Repeat(" ", ManifestMax+1)).Digest.String(),
	}
	var many []ocispec.Descriptor
	for i := range PartsMax/(ChildrenMax-1) + 1 {
		var layers []ocispec.Descriptor
		for j := range ChildrenMax - 1 {
			layers = append(layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digests.FromString(fmt.Sprint(i, j))})
		}
		doc := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: m.add("", "{}"), Layers: layers}
		doc.SchemaVersion = 2
		many = append(many, m.addJSON(t, ocispec.MediaTypeImageManifest, doc))
	}
	tests["many"] = m.index(t, many...).Digest.String()
	for name, root := range tests {
		if tree, err := Walk(m, root, ""); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %d parts, %v; want ErrInvalid", name, len(tree.Parts), err)
		}
	}
}

func TestFetch(t *testing.T) {
	there, here := newMemory(), newMemory()
	root := there.index(t, there.image(t, "amd64"), there.image(t, "arm64")).Digest.String()
	fetched := map[string]int{}
	copyPart := func(_ context.Context, p Part) error {
		there.mu.Lock()
		text, ok := there.files[p.Digest]
		there.mu.Unlock()
		if !ok {
			return errors.New("nobody holds " + p.Digest)
		}
		here.add("", text)
		here.mu.Lock()
		defer here.mu.Unlock()
		fetched[p.Digest]++
		return nil
	}
	if err := Fetch(t.Context(), here, root, "", copyPart); err != nil {
		t.Fatal(err)
	}
	if tree, err := Walk(here, root, ""); err != nil || !tree.Whole() || len(fetched) != len(there.files) {
		t.Fatalf("%d of %d blobs were fetched, %v", len(fetched), len(there.files), err)
	}
	for digest, times := range fetched {
		if times != 1 {
			t.Errorf("%s was fetched %d times", digest, times)
		}
	}
	lost := digests.FromString("shared").String()
	delete(here.files, lost)
	delete(there.files, lost)
	if err := Fetch(t.Context(), here, root, "", copyPart); err == nil || !strings.Contains(err.Error(), lost) {
		t.Errorf("%v; want the blob that nobody holds named", err)
	}
	vanish := func(context.Context, Part) error { return nil }
	if err := Fetch(t.Context(), here, root, "", vanish); err == nil {
		t.Error("what does not come was taken for whole")
	}
}

func TestTrees(t *testing.T) {
	m := newMemory()
	root := m.index(t, m.image(t, "amd64")).Digest.String()
	trees := NewTrees(m)
	for range 2 { // the second time from memory
		if !trees.Whole(root, "") {
			t.Fatal("all of it is here")
		}
	}
	layer := digests.FromString("layer of amd64").String()
	text := m.files[layer]
	delete(m.files, layer)
	trees.Gone(layer)
	tree, err := trees.Tree(root, "")
	if err != nil || trees.Whole(root, "") || !slices.Equal(tree.Missing, []Part{{Digest: layer, Size: int64(len(text))}}) {
		t.Errorf("missing %+v, %v; want the layer", tree.Missing, err)
	}
	m.files[layer] = text
	if !trees.Whole(root, "") {
		t.Error("it came again, and is not seen")
	}
}
