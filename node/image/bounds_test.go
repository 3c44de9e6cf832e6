package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// allocated is how many bytes f asks memory for, in all.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A short text does not become very many blobs before they are counted.
func TestParseStopsAtTooMany(t *testing.T) {
	for _, list := range []string{"layers", "blobs", "manifests"} {
		text := []byte(`{"schemaVersion":2,"` + list + `":[{}` + strings.Repeat(",{}", ManifestMax/3-20) + `]}`)
		var err error
		used := allocated(func() { _, err = Parse("", text) })
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), fmt.Sprint(ChildrenMax)) {
			t.Errorf("%s: %v", list, err)
		}
		if used > 64<<20 {
			t.Errorf("%s: %d MiB for a text of %d", list, used>>20, len(text)>>20)
		}
	}
	for text, want := range map[string]string{`[]`: ocispec.MediaTypeImageIndex, `null`: ocispec.MediaTypeImageManifest} {
		if m, err := Parse("", []byte(`{"schemaVersion":2,"manifests":`+text+`}`)); err != nil || m.MediaType != want {
			t.Errorf("manifests %s: %s, %v; want %s", text, m.MediaType, err, want)
		}
	}
	for _, text := range []string{`{}`, `"x"`, `[1]`, `7`} {
		if _, err := Parse("", []byte(`{"schemaVersion":2,"layers":`+text+`}`)); !errors.Is(err, ErrInvalid) {
			t.Errorf("layers %s: %v", text, err)
		}
	}
}

// counted counts the files that are opened.
type counted struct {
	*memory
	opened int
}

func (c *counted) Open(d string) (io.ReadSeekCloser, int64, error) {
	c.opened++
	return c.memory.Open(d)
}

// manifests adds an index of so many manifests, each of as many blobs as there may be,
// of which nothing is here.
func (m *memory) manifests(t *testing.T, n int) string {
	t.Helper()
	var many []ocispec.Descriptor
	for i := range n {
		layers := make([]ocispec.Descriptor, ChildrenMax-1)
		for j := range layers {
			layers[j] = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digests.FromString(fmt.Sprint(i, " ", j))}
		}
		doc := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: m.add("", "{}"), Layers: layers}
		doc.SchemaVersion = 2
		data, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}
		many = append(many, m.add(ocispec.MediaTypeImageManifest, string(data)))
	}
	return m.index(t, many...).Digest.String()
}

// A walk reads no further once there are too many blobs.
func TestWalkStopsAtTooMany(t *testing.T) {
	c := &counted{memory: newMemory()}
	most := PartsMax/(ChildrenMax-1) + 1
	root := c.manifests(t, most+3)
	if _, err := Walk(c, root, ""); !errors.Is(err, ErrInvalid) || c.opened > most+1 {
		t.Errorf("%v after %d files", err, c.opened)
	}
}

// That a manifest is none stays so: it is not read again, until something went that may
// have been rotten.
func TestTreesRememberWhatIsNone(t *testing.T) {
	c := &counted{memory: newMemory()}
	root := c.add("", strings.Repeat("x", 1<<20)).Digest.String()
	trees := NewTrees(c)
	for range 3 {
		if _, err := trees.Tree(root, ""); !errors.Is(err, ErrInvalid) || len(err.Error()) > 1000 {
			t.Errorf("%v", err)
		}
	}
	if c.opened != 1 {
		t.Errorf("it was read %d times", c.opened)
	}
	if trees.Gone(root); trees.Whole(root, "") || c.opened != 2 {
		t.Errorf("it was read %d times, once more after something went", c.opened)
	}
	for i := range 3 * invalidMax / 2 {
		trees.remember(treeKey{root: fmt.Sprint(i)}, ErrInvalid, trees.gone)
	}
	if len(trees.wrong) > invalidMax {
		t.Errorf("%d are remembered", len(trees.wrong))
	}
}
