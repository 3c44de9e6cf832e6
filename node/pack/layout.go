package pack

import (
	"archive/tar"
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"

	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// nameAnnotation is the whole name of what a layout holds, where the tag alone is
// ocispec.AnnotationRefName.
const nameAnnotation = "io.containerd.image.name"

// Limits of a layout.
const (
	indexBytesMax = 4 << 20
	entriesMax    = 500_000 // of a tar file
)

// Layout is an OCI image layout to read: a folder, or a tar file of one.
type Layout struct {
	Index  ocispec.Index
	name   string
	files  files
	closer func() error

	signed func() (signed, error)
}

// files are those of a layout, by their path in it.
type files interface {
	open(name string) (io.ReadCloser, error)
}

// IsLayout says whether a path looks like a layout, and not like the name of a
// package: a folder or a file that is there, or what can't be a name.
func IsLayout(path string) bool {
	if strings.HasPrefix(path, ".") || strings.HasPrefix(path, "/") || strings.HasSuffix(path, ".tar") {
		return true
	}
	_, err := os.Stat(path)
	return err == nil
}

// OpenLayout opens a layout to read.
func OpenLayout(name string) (*Layout, error) {
	l, err := openLayout(name)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return l, nil
}

func openLayout(name string) (*Layout, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	l := &Layout{name: name}
	l.signed = sync.OnceValues(l.readSignatures)
	if info.IsDir() {
		root, err := os.OpenRoot(name) // a link in it leads nowhere outside
		if err != nil {
			return nil, err
		}
		l.files, l.closer = folder{root}, root.Close
	} else {
		archive, err := openTar(name)
		if err != nil {
			return nil, err
		}
		l.files, l.closer = archive, archive.file.Close
	}
	if err := l.readIndex(); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

func (l *Layout) readIndex() error {
	for file, into := range map[string]any{ocispec.ImageLayoutFile: &ocispec.ImageLayout{}, ocispec.ImageIndexFile: &l.Index} {
		r, err := l.files.open(file)
		if errors.Is(err, ErrNotFound) {
			return fmt.Errorf("%w: it has no %s, as an OCI image layout has", ErrInvalid, file)
		}
		if err != nil {
			return err
		}
		data, err := io.ReadAll(io.LimitReader(r, indexBytesMax+1))
		_ = r.Close() // only read
		switch {
		case err != nil:
			return err
		case len(data) > indexBytesMax:
			return fmt.Errorf("%w: its %s is larger than %d bytes", ErrInvalid, file, indexBytesMax)
		}
		if err := json.Unmarshal(data, into); err != nil {
			return fmt.Errorf("%w: its %s: %w", ErrInvalid, file, err)
		}
	}
	return nil
}

// Close ends the reading.
func (l *Layout) Close() error { return l.closer() }

// Open opens a blob or manifest.
func (l *Layout) Open(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	name, err := blobPath(d.Digest)
	if err != nil {
		return nil, err
	}
	r, err := l.files.open(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", l.name, d.Digest, err)
	}
	return r, nil
}

// Root is the manifest of a tag, or where tag is "" the only one that is not the
// signatures of others, and the name that the layout has for it, if any.
func (l *Layout) Root(tag string) (ocispec.Descriptor, string, error) {
	var found []ocispec.Descriptor
	for _, d := range l.Index.Manifests {
		if tag == "" && l.signs(d) {
			continue
		}
		if tag == "" || d.Annotations[ocispec.AnnotationRefName] == tag || d.Annotations[nameAnnotation] == tag {
			found = append(found, d)
		}
	}
	switch {
	case len(found) == 0:
		return ocispec.Descriptor{}, "", fmt.Errorf("%s: no %q: %w: it holds %s", l.name, tag, ErrNotFound, l.tags())
	case len(found) > 1:
		return ocispec.Descriptor{}, "", fmt.Errorf("%s holds several: name one of %s", l.name, l.tags())
	}
	d := found[0]
	name := d.Annotations[nameAnnotation]
	d.Annotations = nil // they are the layout's
	return d, name, nil
}

func (l *Layout) tags() string {
	var tags []string
	for _, d := range l.Index.Manifests {
		if name := cmp.Or(d.Annotations[ocispec.AnnotationRefName], d.Annotations[nameAnnotation]); name != "" && len(tags) < 16 && !l.signs(d) {
			tags = append(tags, fmt.Sprintf("%.300q", name))
		}
	}
	if len(tags) == 0 {
		return "nothing with a tag"
	}
	return strings.Join(tags, ", ")
}

// blobPath is where a blob lies in a layout.
func blobPath(d digests.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("digest %.80q: %w: %w", d, ErrInvalid, err)
	}
	return path.Join(ocispec.ImageBlobsDir, string(d.Algorithm()), d.Encoded()), nil
}

// folder is a layout as a folder.
type folder struct{ root *os.Root }

func (f folder) open(name string) (io.ReadCloser, error) {
	file, err := f.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, err
	}
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%w: %s is no file", ErrInvalid, name), err, file.Close())
	}
	return file, nil
}

// archive is a tar file, and where the files in it begin.
type archive struct {
	file  *os.File
	parts map[string]part
}

type part struct{ offset, size int64 }

// openTar looks once at what is where.
func openTar(name string) (*archive, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	a := &archive{file: file, parts: map[string]part{}}
	if err := a.list(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return a, nil
}

func (a *archive) list() error {
	var magic [4]byte
	if _, err := a.file.ReadAt(magic[:], 0); err == nil && (magic[0] == 0x1f && magic[1] == 0x8b || string(magic[:]) == "\x28\xb5\x2f\xfd") {
		return fmt.Errorf("%w: it is compressed: unpack it first", ErrInvalid)
	}
	counting := &counter{r: a.file}
	r := tar.NewReader(counting)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: no tar file: %w", ErrInvalid, err)
		}
		if len(a.parts) == entriesMax {
			return fmt.Errorf("%w: it holds more than %d files", ErrInvalid, entriesMax)
		}
		name := strings.TrimPrefix(h.Name, "./")
		if _, twice := a.parts[name]; h.Typeflag == tar.TypeReg && !twice {
			a.parts[name] = part{counting.at, h.Size}
		}
	}
}

func (a *archive) open(name string) (io.ReadCloser, error) {
	p, ok := a.parts[name]
	if !ok {
		return nil, ErrNotFound
	}
	return io.NopCloser(bufio.NewReaderSize(io.NewSectionReader(a.file, p.offset, p.size), 64<<10)), nil
}

// counter knows how far a file was read, or passed over.
type counter struct {
	r  *os.File
	at int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.at += int64(n)
	return n, err
}

// Seek lets the reader of the tar file pass over what is in it.
func (c *counter) Seek(offset int64, whence int) (int64, error) {
	at, err := c.r.Seek(offset, whence)
	c.at = at
	return at, err
}
