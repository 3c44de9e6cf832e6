package pack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"cuelabs.dev/go/oci/ociregistry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/image"
)

// How a registry is spoken to.
const (
	uploadPart  = 8 << 20 // bytes of a blob that are sent at a time; what fails is sent again
	triesMax    = 4
	retryPause  = 500 * time.Millisecond // before the first retry; it doubles
	manifestMax = image.ManifestMax
)

// Remote is a repository of a registry.
type Remote struct {
	Registry   ociregistry.Interface
	Repository string
}

// Resolve is the manifest that a name stands for.
func (r Remote) Resolve(ctx context.Context, ref Ref) (Manifest, error) {
	get := func() (ociregistry.BlobReader, error) {
		if ref.Digest != "" {
			return r.Registry.GetManifest(ctx, r.Repository, ref.Digest)
		}
		return r.Registry.GetTag(ctx, r.Repository, ref.Tag)
	}
	reader, err := get()
	if err = kindOf(err); errors.Is(err, ErrNotFound) { // whatever words the registry has for it
		return Manifest{}, fmt.Errorf("%s: %w", ref, ErrNotFound)
	}
	if err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", ref, err)
	}
	defer reader.Close()
	data, err := io.ReadAll(io.LimitReader(reader, manifestMax+1))
	if err != nil {
		return Manifest{}, fmt.Errorf("%s: read its manifest: %w", ref, err)
	}
	if len(data) > manifestMax {
		return Manifest{}, fmt.Errorf("%s: %w: its manifest is larger than %d bytes", ref, ErrInvalid, manifestMax)
	}
	m, err := image.Parse(reader.Descriptor().MediaType, data)
	if err != nil {
		return Manifest{}, fmt.Errorf("%s: %w", ref, err)
	}
	d := describe(m.MediaType, data)
	if ref.Digest != "" { // which may be of another algorithm
		sum := ref.Digest.Verifier()
		_, _ = sum.Write(data) // a hash takes everything
		if !sum.Verified() {
			return Manifest{}, fmt.Errorf("%s: %w", ref, ErrDigest)
		}
		d.Digest = ref.Digest
	}
	return Manifest{d, data}, nil
}

// Open opens a blob, which is read on where a connection broke, or a manifest.
func (r Remote) Open(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if isManifest(d) {
		reader, err := r.Registry.GetManifest(ctx, r.Repository, d.Digest)
		return reader, kindOf(err)
	}
	reader, err := r.Registry.GetBlob(ctx, r.Repository, d.Digest)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", r.Repository, d.Digest, kindOf(err))
	}
	return &resuming{ReadCloser: reader, ctx: ctx, from: r, of: d}, nil
}

// resuming reads a blob, and goes on after a connection broke.
type resuming struct {
	io.ReadCloser
	ctx  context.Context
	from Remote
	of   ocispec.Descriptor
	at   int64
	fail int // tries that brought nothing
}

func (r *resuming) Read(p []byte) (int, error) {
	for {
		n, err := r.ReadCloser.Read(p)
		r.at += int64(n)
		if n > 0 {
			r.fail = 0
		}
		if n > 0 || err == nil || errors.Is(err, io.EOF) && r.at >= r.of.Size {
			return n, nilIfRead(n, err)
		}
		if r.fail++; r.fail >= triesMax || !pause(r.ctx, r.fail) {
			return 0, err
		}
		again, openErr := r.from.Registry.GetBlobRange(r.ctx, r.from.Repository, r.of.Digest, r.at, r.of.Size)
		if openErr != nil {
			return 0, errors.Join(err, kindOf(openErr))
		}
		_ = r.ReadCloser.Close() // it broke
		r.ReadCloser = again
	}
}

// nilIfRead leaves an error for the next read, which meets it again.
func nilIfRead(n int, err error) error {
	if n > 0 {
		return nil
	}
	return err
}

// Has asks for it.
func (r Remote) Has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	var err error
	if isManifest(d) {
		_, err = r.Registry.ResolveManifest(ctx, r.Repository, d.Digest)
	} else {
		_, err = r.Registry.ResolveBlob(ctx, r.Repository, d.Digest)
	}
	if err = kindOf(err); errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Put puts a manifest, or uploads a blob, and tries again what failed on the way.
func (r Remote) Put(ctx context.Context, d ocispec.Descriptor, open func() (io.ReadCloser, error)) error {
	if isManifest(d) {
		data, err := readOpened(open)
		if err != nil {
			return err
		}
		_, err = r.Registry.PushManifest(ctx, r.Repository, "", data, d.MediaType)
		return kindOf(err)
	}
	u := upload{to: r, of: d, open: open}
	for try := 1; ; try++ {
		err := u.run(ctx)
		if err == nil || errors.Is(err, ErrDigest) || final(err) || try == triesMax || !pause(ctx, try) {
			return kindOf(err)
		}
	}
}

func readOpened(open func() (io.ReadCloser, error)) ([]byte, error) {
	reader, err := open()
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	return io.ReadAll(io.LimitReader(reader, manifestMax+1))
}

// Tag puts a manifest under a tag, or under its digest where the name has none.
func (r Remote) Tag(ctx context.Context, d ocispec.Descriptor, data []byte, ref Ref) error {
	if _, err := r.Registry.PushManifest(ctx, r.Repository, ref.Tag, data, d.MediaType); err != nil {
		return fmt.Errorf("push %s: %w", ref, kindOf(err))
	}
	return nil
}

// upload is a blob on its way: a short one at once, a long one in parts, going on
// after the last that arrived.
type upload struct {
	to   Remote
	of   ocispec.Descriptor
	open func() (io.ReadCloser, error)
	id   string // of the session at the registry, once there is one
}

func (u *upload) run(ctx context.Context) error {
	reader, err := u.open()
	if err != nil {
		return err
	}
	defer reader.Close()
	if u.of.Size <= uploadPart {
		_, err := u.to.Registry.PushBlob(ctx, u.to.Repository, u.of, reader)
		return err
	}
	w, err := u.session(ctx)
	if err != nil {
		return err
	}
	defer func() { u.id = w.ID() }()
	if _, err := io.CopyN(io.Discard, reader, w.Size()); err != nil { // what is there, verified as it goes
		return err
	}
	if _, err := io.CopyBuffer(onlyWriter{w}, onlyReader{reader}, make([]byte, min(uploadPart, u.of.Size))); err != nil {
		return err
	}
	_, err = w.Commit(u.of.Digest)
	return err
}

// onlyReader and onlyWriter hide what else these can, so that the buffer's size
// counts.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

// session begins one, or goes on with the last.
func (u *upload) session(ctx context.Context) (ociregistry.BlobWriter, error) {
	if u.id != "" {
		w, err := u.to.Registry.PushBlobChunkedResume(ctx, u.to.Repository, u.id, -1, uploadPart)
		if err == nil && w.Size() <= u.of.Size {
			return w, nil
		}
		u.id = "" // the registry has forgotten it
	}
	return u.to.Registry.PushBlobChunked(ctx, u.to.Repository, uploadPart)
}

// pause waits before a retry; false when there is to be none.
func pause(ctx context.Context, try int) bool {
	timer := time.NewTimer(retryPause << (try - 1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// final says whether a registry said no: to ask again is no use.
func final(err error) bool {
	var answer ociregistry.HTTPError
	if !errors.As(err, &answer) {
		return false
	}
	code := answer.StatusCode()
	return code >= 400 && code < 500 && code != http.StatusTooManyRequests && code != http.StatusRequestTimeout && code != http.StatusRequestedRangeNotSatisfiable
}

// kindOf makes the registry's "there is none" ErrNotFound, also of one that does not
// say it in JSON.
func kindOf(err error) error {
	var answer ociregistry.HTTPError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answer) && answer.StatusCode() == http.StatusNotFound,
		errors.Is(err, ociregistry.ErrNameUnknown), errors.Is(err, ociregistry.ErrManifestUnknown), errors.Is(err, ociregistry.ErrBlobUnknown):
		return fmt.Errorf("%w: %w", ErrNotFound, err)
	}
	return err
}
