package pack

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/signature"
)

// LayoutWriter is an OCI image layout to write.
type LayoutWriter interface {
	Target
	// Close ends it: from then on it is whole.
	Close() error
	// Discard ends it without what was not closed; after Close it does nothing.
	Discard()
}

// CreateLayout begins a layout: a tar file when the name ends so, else a folder,
// which may hold a layout already: then it is added to.
func CreateLayout(name string) (LayoutWriter, error) {
	if strings.HasSuffix(name, ".tar") {
		return createTar(name)
	}
	return createFolder(name)
}

// named is the descriptor of a manifest as a layout lists it.
func named(d ocispec.Descriptor, ref Ref) ocispec.Descriptor {
	d.Annotations = map[string]string{nameAnnotation: ref.String()}
	if ref.Tag != "" {
		d.Annotations[ocispec.AnnotationRefName] = ref.Tag
	}
	return d
}

// with is an index that lists a manifest under its tag, and nothing else. What has no
// tag, and the signatures of one image in two repositories, differ by their whole name.
func with(x ocispec.Index, d ocispec.Descriptor) ocispec.Index {
	tag := d.Annotations[ocispec.AnnotationRefName]
	_, signs := signature.Signs(tag)
	x.Manifests = slices.DeleteFunc(slices.Clone(x.Manifests), func(old ocispec.Descriptor) bool {
		if signs || tag == "" {
			return old.Annotations[nameAnnotation] == d.Annotations[nameAnnotation]
		}
		return old.Annotations[ocispec.AnnotationRefName] == tag
	})
	x.SchemaVersion, x.MediaType = 2, ocispec.MediaTypeImageIndex
	x.Manifests = append(x.Manifests, d)
	return x
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("pack: encode %T: %v", v, err)) // types of the specification always encode
	}
	return data
}

var layoutFile = encode(ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion})

// folderWriter is a layout as a folder. Each blob is whole once it has its name,
// and so what was interrupted goes on.
type folderWriter struct {
	dir string

	mu    sync.Mutex // guards index
	index ocispec.Index
}

func createFolder(dir string) (*folderWriter, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("write %s: %w", dir, err)
	}
	f := &folderWriter{dir: dir}
	if len(entries) > 0 {
		old, err := OpenLayout(dir)
		if err != nil {
			return nil, fmt.Errorf("write %s: it is neither empty nor a layout: %w", dir, err)
		}
		f.index = old.Index
		return f, old.Close()
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("write %s: %w", dir, err)
	}
	// Both files at once, so that what is interrupted is a layout to go on with.
	f.index = ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{}}
	f.index.SchemaVersion = 2
	err = f.write(filepath.Join(dir, ocispec.ImageIndexFile), bytes.NewReader(encode(f.index)))
	return f, errors.Join(err, f.write(filepath.Join(dir, ocispec.ImageLayoutFile), bytes.NewReader(layoutFile)))
}

// write writes a file whole or not at all.
func (f *folderWriter) write(name string, r io.Reader) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(name), ".partial-*")
	if err != nil {
		return err
	}
	_, err = io.Copy(file, r)
	err = errors.Join(err, file.Chmod(0o644), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), name)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	return nil
}

func (f *folderWriter) path(d ocispec.Descriptor) (string, error) {
	name, err := blobPath(d.Digest)
	return filepath.Join(f.dir, filepath.FromSlash(name)), err
}

// Has reads the file: a folder that was carried about may have rotted. Of a
// manifest it does not know whether all is there.
func (f *folderWriter) Has(_ context.Context, d ocispec.Descriptor) (bool, error) {
	name, err := f.path(d)
	if err != nil || isManifest(d) {
		return false, err
	}
	file, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || info.Size() != d.Size {
		return false, err
	}
	sum := d.Digest.Verifier()
	_, err = io.Copy(sum, file)
	return sum.Verified(), err
}

func (f *folderWriter) Put(_ context.Context, d ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	name, err := f.path(d)
	if err != nil {
		return err
	}
	r, err := open()
	if err != nil {
		return err
	}
	return errors.Join(f.write(name, r), r.Close())
}

func (f *folderWriter) Tag(ctx context.Context, d ocispec.Descriptor, data []byte, ref Ref) error {
	if err := f.Put(ctx, d, fromMemory(data)); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.index = with(f.index, named(d, ref))
	return f.write(filepath.Join(f.dir, ocispec.ImageIndexFile), bytes.NewReader(encode(f.index)))
}

// Resolve is what the layout lists by its whole name.
func (f *folderWriter) Resolve(ctx context.Context, ref Ref) (Manifest, error) {
	f.mu.Lock()
	index := f.index
	f.mu.Unlock()
	for _, d := range index.Manifests {
		if d.Annotations[nameAnnotation] == ref.String() {
			d.Annotations = nil
			data, _, err := readManifest(ctx, f, d)
			return Manifest{d, data}, err
		}
	}
	return Manifest{}, fmt.Errorf("%s: %w", ref, ErrNotFound)
}

// Open opens a blob or manifest.
func (f *folderWriter) Open(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	name, err := f.path(d)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s: %w", name, ErrNotFound)
	}
	return file, err
}

func (f *folderWriter) Close() error { return nil }

func (f *folderWriter) Discard() {}

// tarWriter is a layout as a tar file, which has its name once it is whole.
type tarWriter struct {
	name string
	file *os.File

	mu      sync.Mutex // guards what follows
	w       *tar.Writer
	written map[string]bool
	named   map[string]Manifest // by their whole names
	index   ocispec.Index
	done    bool
}

func createTar(name string) (*tarWriter, error) {
	file, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".partial-*")
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", name, err)
	}
	t := &tarWriter{name: name, file: file, w: tar.NewWriter(file), written: map[string]bool{}, named: map[string]Manifest{}}
	if err := t.entry(ocispec.ImageLayoutFile, int64(len(layoutFile)), bytes.NewReader(layoutFile)); err != nil {
		t.Discard()
		return nil, err
	}
	return t, nil
}

// entry writes a file of the archive. Its time is none, so that one package is
// one file, whenever it was written.
func (t *tarWriter) entry(name string, size int64, r io.Reader) error {
	if err := t.w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: size}); err != nil {
		return fmt.Errorf("write %s: %w", t.name, err)
	}
	n, err := io.Copy(t.w, r)
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("write %s: %d of %d bytes of %s: %w", t.name, n, size, name, err)
	}
	t.written[name] = true
	return nil
}

func (t *tarWriter) Has(_ context.Context, d ocispec.Descriptor) (bool, error) {
	name, err := blobPath(d.Digest)
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.written[name], err
}

// Put writes one after the other, as a tar file is.
func (t *tarWriter) Put(_ context.Context, d ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	name, err := blobPath(d.Digest)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.written[name] {
		return nil
	}
	r, err := open()
	if err != nil {
		return err
	}
	return errors.Join(t.entry(name, d.Size, r), r.Close())
}

func (t *tarWriter) Tag(ctx context.Context, d ocispec.Descriptor, data []byte, ref Ref) error {
	if err := t.Put(ctx, d, fromMemory(data)); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.index = with(t.index, named(d, ref))
	t.named[ref.String()] = Manifest{d, data}
	return nil
}

// Resolve is what was given a name.
func (t *tarWriter) Resolve(_ context.Context, ref Ref) (Manifest, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m, ok := t.named[ref.String()]
	if !ok {
		return m, fmt.Errorf("%s: %w", ref, ErrNotFound)
	}
	return m, nil
}

func (t *tarWriter) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done {
		return nil
	}
	index := encode(t.index)
	err := t.entry(ocispec.ImageIndexFile, int64(len(index)), bytes.NewReader(index))
	err = errors.Join(err, t.w.Close(), t.file.Chmod(0o644), t.file.Sync(), t.file.Close())
	if err == nil {
		err = os.Rename(t.file.Name(), t.name)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", t.name, err), os.Remove(t.file.Name()))
	}
	t.done = true
	return nil
}

func (t *tarWriter) Discard() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.done {
		return
	}
	t.done = true
	_ = t.file.Close() // it is not kept
	_ = os.Remove(t.file.Name())
}
