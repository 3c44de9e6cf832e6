package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/image"
	"github.com/hansa-mesh/hansa/store"
)

// Store is where images go.
type Store interface {
	image.Store
	// Create begins a file, or goes on with one that broke off.
	Create(ctx context.Context, digest string, size int64) (Writer, error)
}

// Writer writes one file of a Store, which shows it after Commit alone.
type Writer interface {
	io.Writer
	Offset() int64 // what is there already
	Restart() error
	Commit() error
	Close() error
}

const (
	triesMax   = 4 // of a blob, one after another that bring nothing
	retryPause = 500 * time.Millisecond
	bufferSize = 64 << 10
)

// accepted are the manifests that are asked for.
var accepted = strings.Join([]string{
	ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageManifest,
	"application/vnd.docker.distribution.manifest.list.v2+json", "application/vnd.docker.distribution.manifest.v2+json",
}, ", ")

// Resolve is the digest that the name stands for now.
func (p *Repository) Resolve(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*p.cfg.AnswerMax)
	defer cancel()
	if p.ref.Digest != "" {
		_, err := p.manifest(ctx, p.ref.Digest)
		return p.ref.Digest, err
	}
	answer, err := p.ask(ctx, http.MethodHead, "/manifests/"+p.ref.Tag, "")
	if err != nil && !errors.Is(err, ErrNotFound) { // some answer GET alone
		return "", err
	}
	if err == nil {
		defer answer.Body.Close()
		if d := digests.Digest(answer.Header.Get("Docker-Content-Digest")); d.Validate() == nil {
			return d.String(), nil
		}
	}
	data, err := p.manifest(ctx, p.ref.Tag)
	if err != nil {
		return "", err
	}
	return digests.FromBytes(data).String(), nil
}

// Pull brings an image into a store: of an index that has several what runs on
// these architectures.
func (p *Repository) Pull(ctx context.Context, to Store, digest string, archs []string) error {
	fetch := func(ctx context.Context, part image.Part) error {
		if part.Manifest {
			return p.fetchManifest(ctx, to, part.Digest)
		}
		return p.fetchBlob(ctx, to, part)
	}
	if !to.Has(digest) {
		if err := p.fetchManifest(ctx, to, digest); err != nil {
			return err
		}
	}
	on, err := Architectures(to, digest, archs)
	if err != nil {
		return fmt.Errorf("%s: %w", p.ref.Host, err)
	}
	for _, arch := range on {
		if err := image.Fetch(ctx, to, digest, arch, fetch); err != nil {
			return err
		}
	}
	return nil
}

// Architectures are those of archs that an image has something for: "" for an
// image that is for one alone.
func Architectures(from image.Store, digest string, archs []string) ([]string, error) {
	file, size, err := from.Open(digest)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, min(size, image.ManifestMax)))
	if err != nil {
		return nil, err
	}
	m, err := image.Parse("", data)
	if err != nil || len(m.Manifests) == 0 {
		return []string{""}, err
	}
	has := map[string]bool{}
	for _, d := range m.Manifests {
		if d.Platform == nil || d.Platform.Architecture == "" { // it may run anywhere
			return archs, nil
		}
		if d.Platform.OS == "" || d.Platform.OS == "linux" {
			has[d.Platform.Architecture] = true
		}
	}
	on := slices.DeleteFunc(slices.Clone(archs), func(arch string) bool { return !has[arch] })
	if len(on) == 0 {
		return nil, fmt.Errorf("%s has something for %s, and the hosts of the mesh are %s", digest,
			strings.Join(slices.Sorted(maps.Keys(has)), ", "), strings.Join(archs, ", "))
	}
	return on, nil
}

// manifest reads one, by tag or by digest, which is not verified here.
func (p *Repository) manifest(ctx context.Context, reference string) ([]byte, error) {
	answer, err := p.ask(ctx, http.MethodGet, "/manifests/"+reference, "")
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(io.LimitReader(answer.Body, image.ManifestMax+1))
	if err != nil {
		return nil, p.said(err)
	}
	if len(data) > image.ManifestMax {
		return nil, fmt.Errorf("%s: the manifest %s is larger than %d bytes", p.ref.Host, reference, image.ManifestMax)
	}
	return data, nil
}

func (p *Repository) fetchManifest(ctx context.Context, to Store, digest string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*p.cfg.AnswerMax)
	defer cancel()
	data, err := p.manifest(ctx, digest)
	if err != nil {
		return err
	}
	sum := digests.Digest(digest).Verifier()
	if _, err := sum.Write(data); err != nil || !sum.Verified() {
		return fmt.Errorf("%s: manifest %s: %w", p.ref.Host, digest, ErrLies)
	}
	return Keep(ctx, to, digest, data)
}

// Keep puts a short file into a store.
func Keep(ctx context.Context, to Store, digest string, data []byte) error {
	w, err := to.Create(ctx, digest, int64(len(data)))
	if err != nil {
		return err
	}
	defer w.Close()
	if err := w.Restart(); err != nil {
		return err
	}
	if _, err := io.Copy(w, bytes.NewReader(data)); err != nil {
		return err
	}
	return w.Commit()
}

// fetchBlob brings a blob, and goes on where a connection broke.
func (p *Repository) fetchBlob(ctx context.Context, to Store, part image.Part) error {
	for try := 1; ; try++ {
		came, err := p.tryBlob(ctx, to, part)
		var broke brokenError
		if err == nil || !errors.As(err, &broke) {
			return err
		}
		if came > 0 {
			try = 1
		}
		if try >= triesMax || !pause(ctx, try) {
			return broke.error
		}
	}
}

// brokenError is one after which it may be tried again.
type brokenError struct{ error }

// tryBlob reads what is missing of a blob, and says how much came.
func (p *Repository) tryBlob(ctx context.Context, to Store, part image.Part) (came int64, err error) {
	w, err := to.Create(ctx, part.Digest, part.Size)
	if err != nil {
		return 0, err
	}
	defer w.Close() // keeps what came
	if w.Offset() < part.Size || part.Size == 0 {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		quiet := time.AfterFunc(p.cfg.AnswerMax+p.cfg.QuietMax, func() {
			cancel(fmt.Errorf("%s: it says nothing for %v", p.ref.Host, p.cfg.QuietMax))
		})
		defer quiet.Stop()
		answer, err := p.ask(ctx, http.MethodGet, "/blobs/"+part.Digest, rangeOf(w.Offset(), part.Size))
		if err != nil {
			return 0, retried(err)
		}
		defer answer.Body.Close()
		if answer.StatusCode == http.StatusOK && w.Offset() > 0 { // it gives no parts
			if err := w.Restart(); err != nil {
				return 0, err
			}
		}
		came, err = p.copy(w, answer.Body, func() { quiet.Reset(p.cfg.QuietMax) }, part)
		if cause := context.Cause(ctx); err != nil && cause != nil {
			return came, brokenError{cause}
		}
		if err != nil {
			return came, err
		}
	}
	if err := w.Commit(); err != nil {
		switch {
		case errors.Is(err, store.ErrDigest):
			return came, fmt.Errorf("%s: %s: %w", p.ref.Host, part.Digest, ErrLies)
		case errors.Is(err, io.ErrUnexpectedEOF):
			return came, brokenError{fmt.Errorf("%s: %s broke off after %d of %d bytes", p.ref.Host, part.Digest, w.Offset(), part.Size)}
		}
		return came, err
	}
	return came, nil
}

// copy copies a body: what goes wrong with reading it may be tried again, what
// goes wrong with writing may not.
func (p *Repository) copy(w Writer, body io.Reader, alive func(), part image.Part) (came int64, err error) {
	buffer := make([]byte, bufferSize)
	for {
		n, err := body.Read(buffer)
		alive()
		if over := w.Offset() + int64(n) - part.Size; over > 0 {
			return came, fmt.Errorf("%s: %s: %w: more than its %d bytes", p.ref.Host, part.Digest, ErrLies, part.Size)
		}
		if _, err := w.Write(buffer[:n]); err != nil {
			return came, err
		}
		came += int64(n)
		switch {
		case errors.Is(err, io.EOF):
			return came, nil
		case err != nil:
			return came, brokenError{p.said(err)}
		}
	}
}

// retried says of an answer whether it may be another next time.
func retried(err error) error {
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrDenied) || errors.Is(err, context.Canceled) {
		return err
	}
	return brokenError{err}
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

// rangeOf asks for the rest of a blob; "" for all of it.
func rangeOf(from, size int64) string {
	if from == 0 {
		return ""
	}
	return fmt.Sprintf("bytes=%d-%d", from, size-1)
}

// ask sends one request, for a part of what is there if bytes says which.
func (p *Repository) ask(ctx context.Context, method, path, bytes string) (*http.Response, error) {
	q, err := http.NewRequestWithContext(ctx, method, p.base+path, nil)
	if err != nil {
		return nil, p.said(err)
	}
	switch {
	case strings.HasPrefix(path, "/manifests/"):
		q.Header.Set("Accept", accepted)
	case strings.HasPrefix(path, "/referrers/"):
		q.Header.Set("Accept", ocispec.MediaTypeImageIndex)
	}
	if bytes != "" {
		q.Header.Set("Range", bytes)
	}
	answer, err := p.client.Do(q)
	if err != nil {
		return nil, p.said(err)
	}
	if err := transport.CheckError(answer, http.StatusOK, http.StatusPartialContent); err != nil {
		answer.Body.Close()
		return nil, p.said(err)
	}
	return answer, nil
}
