package pack

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/image"
	"github.com/hansa-mesh/hansa/node/pack/disk"
)

// hostileLayout is a folder with a layout of one manifest, as it is said to be.
func hostileLayout(t *testing.T, index ocispec.Index, blobs map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, ocispec.ImageLayoutFile), layoutFile)
	write(t, filepath.Join(dir, ocispec.ImageIndexFile), encode(index))
	for name, data := range blobs {
		write(t, filepath.Join(dir, "blobs", "sha256", name), data)
	}
	return dir
}

func manifestOf(layers ...ocispec.Descriptor) []byte {
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, ArtifactType: FileType, Config: ocispec.DescriptorEmptyJSON, Layers: layers}
	m.SchemaVersion = 2
	return encode(m)
}

// Who reads just as many bytes as were announced is told that there are more.
func TestMoreBytesAreSeenAtTheEnd(t *testing.T) {
	data := []byte("a file")
	for given, want := range map[string]error{"a file and more": ErrDigest, "a file": nil} {
		layer := describe(layerType, data)
		root := manifestOf(layer)
		l, err := OpenLayout(hostileLayout(t, ocispec.Index{Manifests: []ocispec.Descriptor{describe(ocispec.MediaTypeImageManifest, root)}},
			map[string][]byte{layer.Digest.Encoded(): []byte(given)}))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		r, err := openVerified(t.Context(), l, layer)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		got := make([]byte, len(data))
		if _, err := io.ReadFull(r, got); !errors.Is(err, want) {
			t.Errorf("of %q it is %v, and should be %v", given, err, want)
		}
		if rest, err := io.ReadAll(r); want == nil && (err != nil || len(rest) > 0) {
			t.Errorf("after it %q, %v", rest, err)
		}
	}
}

func TestWrongLayoutsAreRefused(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, []byte("secret"))
	data := []byte("a file")
	layer := describe(layerType, data)
	empty := map[string][]byte{ocispec.DescriptorEmptyJSON.Digest.Encoded(): ocispec.DescriptorEmptyJSON.Data}
	with := func(m []byte, more map[string][]byte) (ocispec.Descriptor, map[string][]byte) {
		blobs := map[string][]byte{digests.FromBytes(m).Encoded(): m}
		for _, from := range []map[string][]byte{empty, more} {
			for name, b := range from {
				blobs[name] = b
			}
		}
		return describe(ocispec.MediaTypeImageManifest, m), blobs
	}
	cases := map[string]struct {
		layer ocispec.Descriptor
		bytes []byte // nil for none
		want  error
	}{
		"other bytes":           {layer, []byte("b file"), ErrDigest},
		"more bytes":            {layer, []byte("a file and more"), ErrDigest},
		"fewer bytes":           {layer, []byte("a f"), ErrDigest},
		"none":                  {layer, nil, ErrNotFound},
		"a digest with a path":  {ocispec.Descriptor{MediaType: layerType, Digest: "sha256:../../../../etc/passwd", Size: 6}, nil, image.ErrInvalid},
		"an unknown algorithm":  {ocispec.Descriptor{MediaType: layerType, Digest: digests.Digest("md5:" + strings.Repeat("0", 32)), Size: 6}, nil, image.ErrInvalid},
		"a negative size":       {ocispec.Descriptor{MediaType: layerType, Digest: layer.Digest, Size: -1}, data, image.ErrInvalid},
		"more than is allowed":  {ocispec.Descriptor{MediaType: layerType, Digest: layer.Digest, Size: blobBytesMax + 1}, data, ErrInvalid},
		"a manifest that is no": {ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: layer.Digest, Size: layer.Size}, data, image.ErrInvalid},
	}
	for what, c := range cases {
		t.Run(what, func(t *testing.T) {
			more := map[string][]byte{}
			if c.bytes != nil {
				more[layer.Digest.Encoded()] = c.bytes
			}
			root, blobs := with(manifestOf(c.layer), more)
			l, err := OpenLayout(hostileLayout(t, ocispec.Index{Manifests: []ocispec.Descriptor{root}}, blobs))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			to := serve(t, nil)
			if _, err := Copy(t.Context(), l, root, to.at("x")); !errors.Is(err, c.want) {
				t.Errorf("it is %v, and should be %v", err, c.want)
			}
			w, err := CreateLayout(filepath.Join(t.TempDir(), "out"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := Copy(t.Context(), l, root, w); !errors.Is(err, c.want) {
				t.Errorf("to a folder it is %v, and should be %v", err, c.want)
			}
			if has, _ := w.Has(t.Context(), layer); has && c.want == ErrDigest {
				t.Error("the wrong bytes were kept")
			}
		})
	}
	t.Run("a link out of the folder", func(t *testing.T) {
		leak := describe(layerType, []byte("secret"))
		root, blobs := with(manifestOf(leak), nil)
		dir := hostileLayout(t, ocispec.Index{Manifests: []ocispec.Descriptor{root}}, blobs)
		if err := os.Symlink(secret, filepath.Join(dir, "blobs", "sha256", leak.Digest.Encoded())); err != nil {
			t.Fatal(err)
		}
		l, err := OpenLayout(dir)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		if _, err := Copy(t.Context(), l, root, serve(t, nil).at("x")); err == nil {
			t.Error("it was followed")
		}
	})
}

func TestIndexesWithinThemselves(t *testing.T) {
	s := shelf{}
	d := s.keep(ocispec.MediaTypeImageManifest, manifestOf())
	s.keep("", ocispec.DescriptorEmptyJSON.Data)
	for range image.DepthMax + 2 {
		x := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{d}}
		x.SchemaVersion = 2
		d = s.keep(x.MediaType, encode(x))
	}
	if _, err := Copy(t.Context(), s, d, serve(t, nil).at("x")); !errors.Is(err, ErrInvalid) {
		t.Errorf("too deep: %v", err)
	}
}

func TestNoTarFiles(t *testing.T) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range []string{"../../oci-layout", "/index.json", "blobs/sha256/x"} {
		if err := errors.Join(w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: 2}), second(w.Write([]byte("{}")))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	huge := "{" + strings.Repeat(" ", indexBytesMax)
	for what, data := range map[string][]byte{
		"nothing": nil, "text": []byte("hello, this is no tar file at all, and it is long enough"), "gzip": []byte("\x1f\x8b\x08\x00 and so on"),
		"names out of it": buf.Bytes(), "a huge index": []byte(huge),
	} {
		path := filepath.Join(t.TempDir(), "x.tar")
		write(t, path, data)
		if _, err := OpenLayout(path); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), "x.tar") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := OpenLayout(hugeIndex(t)); !errors.Is(err, ErrInvalid) {
		t.Errorf("an endless index: %v", err)
	}
}

func hugeIndex(t *testing.T) string {
	dir := hostileLayout(t, ocispec.Index{}, nil)
	write(t, filepath.Join(dir, ocispec.ImageIndexFile), []byte("{"+strings.Repeat(" ", indexBytesMax)))
	return dir
}

func second(_ int, err error) error { return err }

// A tar file that was not finished is not there.
func TestUnfinishedTarIsDropped(t *testing.T) {
	dir := t.TempDir()
	w, err := CreateLayout(filepath.Join(dir, "x.tar"))
	if err != nil {
		t.Fatal(err)
	}
	d := describe(layerType, []byte("data"))
	if err := w.Put(t.Context(), d, func() (io.ReadCloser, error) { return nil, errCut }); !errors.Is(err, errCut) {
		t.Errorf("it is %v", err)
	}
	w.Discard()
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%d files are left: %v", len(left), err)
	}
}

func TestFoldersOfOthersAreKept(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "thesis.txt"), []byte("years of work"))
	if _, err := CreateLayout(dir); err == nil || !strings.Contains(err.Error(), "neither empty nor a layout") {
		t.Errorf("it is %v", err)
	}
}

// shelf is a Source and keeps blobs in memory.
type shelf map[digests.Digest][]byte

func (s shelf) Open(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	data, ok := s[d.Digest]
	if !ok {
		return nil, ErrNotFound
	}
	return fromMemory(data)()
}

func (s shelf) keep(mediaType string, data []byte) ocispec.Descriptor {
	d := describe(mediaType, data)
	s[d.Digest] = data
	return d
}

// artifact keeps a manifest of one layer as a part of a package.
func (s shelf) artifact(artifactType string, layer ocispec.Descriptor) ocispec.Descriptor {
	s.keep("", ocispec.DescriptorEmptyJSON.Data)
	d := s.keep(ocispec.MediaTypeImageManifest, manifestOf(layer))
	d.ArtifactType = artifactType
	return d
}

func (s shelf) pack(artifactType string, parts ...ocispec.Descriptor) Manifest {
	x := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, ArtifactType: artifactType, Manifests: parts}
	x.SchemaVersion = 2
	return Manifest{s.keep(x.MediaType, encode(x)), encode(x)}
}

func TestWrongPackagesAreRefused(t *testing.T) {
	s := shelf{}
	app := func(text string) ocispec.Descriptor { return s.artifact(AppType, s.keep(AppType, []byte(text))) }
	module := s.keep(layerType, []byte("module"))
	file := s.artifact(FileType, module)
	function := `{"app":"a","components":{"c":{"function":{"module":"` + string(module.Digest) + `"}}}}`
	image := `{"app":"a","components":{"c":{"container":{"image":"%"}}}}`
	machine := `{"app":"a","components":{"c":{"server":{"image":"@` + string(file.Digest) + `"}}}}`
	index := s.artifact(ImageIndexType, s.keep(ImageIndexType, []byte(`{"schemaVersion":1}`)))
	big := s.artifact(AppType, ocispec.Descriptor{MediaType: AppType, Digest: module.Digest, Size: appBytesMax + 1})
	var many []ocispec.Descriptor
	for range partsMax + 1 {
		many = append(many, file)
	}
	cases := map[string]struct {
		m    Manifest
		says string
	}{
		"an image":               {s.pack("", app(function), file), "a package is a"},
		"no app":                 {s.pack(PackageType, file), "no app in it"},
		"a file is missing":      {s.pack(PackageType, app(function)), "components.c.function.module"},
		"an image from without":  {s.pack(PackageType, app(strings.Replace(image, "%", "nginx:1", 1))), "not in the package"},
		"an image that is none":  {s.pack(PackageType, app(strings.Replace(image, "%", "@"+string(file.Digest), 1)), file), "not in the package"},
		"a disk that is a file":  {s.pack(PackageType, app(machine), file), "not in the package"},
		"a path of this machine": {s.pack(PackageType, app(strings.Replace(function, string(module.Digest), "./x", 1))), "not in the package"},
		"no manifest":            {s.pack(PackageType, app("app: [")), "manifest"},
		"unknown fields":         {s.pack(PackageType, app(`{"app":"a","componentz":{}}`)), "components"},
		"too many parts":         {s.pack(PackageType, many...), "at most"},
		"an endless manifest":    {s.pack(PackageType, big), "at most"},
		"an index that is none":  {s.pack(PackageType, app(function), file, index), "schemaVersion"},
	}
	for what, c := range cases {
		if _, err := Read(t.Context(), s, c.m); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: it is %v, and should say %q", what, err, c.says)
		}
	}
	if _, err := Read(t.Context(), s, s.pack(PackageType, app(function), file)); err != nil {
		t.Errorf("a good one: %v", err)
	}
}

// FuzzRead reads whatever a registry may answer.
func FuzzRead(f *testing.F) {
	s := shelf{}
	module := s.keep(layerType, []byte("module"))
	good := s.pack(PackageType, s.artifact(FileType, module), ocispec.Descriptor{ArtifactType: disk.ArtifactType, MediaType: "x", Digest: module.Digest})
	f.Add(good.Data)
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Read(t.Context(), s, Manifest{describe(ocispec.MediaTypeImageIndex, data), data})
		if err == nil && len(p.Apps) == 0 {
			t.Error("a package without an app was read")
		}
	})
}

// Of wrong bytes never as many are handed on as were announced, however they come.
func TestWrongBytesAreKeptBack(t *testing.T) {
	right := []byte("a file")
	want := describe("application/octet-stream", right)
	for _, c := range []struct {
		bytes string
		want  error
	}{{"a file", nil}, {"b file", ErrDigest}, {"a filf", ErrDigest}, {"a f", ErrDigest}, {"a file and more", ErrDigest}} {
		for _, slow := range []bool{false, true} {
			var in io.Reader = strings.NewReader(c.bytes)
			if slow {
				in = iotest.OneByteReader(in)
			}
			got, err := io.ReadAll(&verified{ReadCloser: io.NopCloser(in), sum: want.Digest.Verifier(), want: want, left: want.Size})
			if !errors.Is(err, c.want) {
				t.Errorf("%q, slow %v: %v, want %v", c.bytes, slow, err, c.want)
			}
			if string(got) != string(right) && int64(len(got)) >= want.Size {
				t.Errorf("%q, slow %v: %q was handed on", c.bytes, slow, got)
			}
		}
	}
}
