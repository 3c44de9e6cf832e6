package process_test

import (
	"archive/tar"
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// ballast is what an image has beside its program: enough that it shows whether it
// travels.
const ballast = 8 << 20

// imageOf is an image that runs a program, as a Dockerfile with nothing else in it
// makes one; more layers come after the program's.
func imageOf(t *testing.T, program string, more ...v1.Layer) v1.Image {
	t.Helper()
	text, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Base(program)
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.AppendLayers(image, append([]v1.Layer{layerOf(t, name, text)}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Config.Entrypoint = "linux", runtime.GOARCH, []string{"/" + name}
	if image, err = mutate.ConfigFile(image, config); err != nil {
		t.Fatal(err)
	}
	return image
}

// saveImage writes the image of a program beside it, as docker save does.
func saveImage(t *testing.T, program string) {
	t.Helper()
	tag, err := name.NewTag("hansa-mixed/" + filepath.Base(program))
	if err != nil {
		t.Fatal(err)
	}
	if err := tarball.WriteToFile(program+".tar", tag, imageOf(t, program)); err != nil {
		t.Fatal(err)
	}
}

// webImage writes an image of examples/mixed/web into an OCI layout, and gives the
// digests of its manifest and of its largest layer. Each seed is another image.
func webImage(t *testing.T, seed uint64) (dir, digest, layer string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "web")
	build(t, program, "./examples/mixed/web")
	noise := make([]byte, ballast)
	var key [32]byte
	key[0] = byte(seed)
	_, _ = rand.NewChaCha8(key).Read(noise) // it can't fail
	image := imageOf(t, program, layerOf(t, "ballast", noise))
	dir = filepath.Join(t.TempDir(), "layout")
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := path.AppendImage(image); err != nil {
		t.Fatal(err)
	}
	manifest, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	hash, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return dir, hash.String(), manifest.Layers[1].Digest.String()
}

// layerOf is a layer of one file.
func layerOf(t *testing.T, name string, text []byte) v1.Layer {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		t.Fatal(err)
	}
	return layer
}
