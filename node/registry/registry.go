package registry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// Errors that Blobs, Names and Mesh say, wrapped or not. Any other error is the
// peer's own, and its text is not shown to clients.
var (
	ErrNotFound = errors.New("not found")
	ErrDigest   = errors.New("the bytes are not those of the digest")
	ErrTooMany  = errors.New("too many")          // uploads, for now
	ErrOffset   = errors.New("not where it ends") // bytes of an upload
	ErrTooLarge = errors.New("too large")         // for a blob
	ErrNoRoom   = errors.New("no room")           // on the disk
	ErrCopies   = errors.New("too few copies")    // the mesh could not keep as many as it should
	ErrConflict = errors.New("conflicting edits") // someone else moved the name meanwhile
	ErrDenied   = errors.New("denied")            // by a policy
)

// Blobs is the local store of files by digest, sha256 or sha512.
type Blobs interface {
	// Size is the length of a blob, or ErrNotFound. It may be asked often.
	Size(digest string) (int64, error)
	// Open opens a blob whose bytes are those of its digest.
	Open(digest string) (io.ReadSeekCloser, int64, error)
	// Touch says that a blob is needed soon: it is not collected for a while.
	Touch(digest string)
	// Begin begins an upload, of which the digest is known at its end alone.
	Begin() (id string, err error)
	// Uploaded is how many bytes of an upload are there, or ErrNotFound.
	Uploaded(id string) (int64, error)
	// Append adds bytes to an upload that has offset bytes, or any number when
	// that is AtEnd. It says how many are there then, also with an error: ErrOffset
	// when they are others than offset, ErrTooMany while another request is at it.
	Append(ctx context.Context, id string, offset int64, r io.Reader) (int64, error)
	// Commit makes an upload the blob of a digest, verified and durable. After
	// ErrDigest there is no upload any more.
	Commit(id, digest string) error
	Cancel(id string) error
}

// AtEnd is the offset of bytes that go on wherever an upload ends.
const AtEnd = -1

// Mesh is the other peers, as far as blobs go.
type Mesh interface {
	// Find says how long a blob is that some peer in reach holds, or ErrNotFound,
	// within a second or so.
	Find(ctx context.Context, digest string) (int64, error)
	// Ensure brings a blob here, or ErrNotFound.
	Ensure(ctx context.Context, digest string) error
	// Read brings a blob here too, and gives it out from its beginning while it
	// comes, or ErrNotFound. An error at its end says that the bytes before were
	// not all, or not those of the digest. ctx ends it.
	Read(ctx context.Context, digest string) (io.ReadCloser, int64, error)
	// Forget drops a blob that nothing needs, here and at the peers in reach.
	// User names what needs it, when it is not dropped therefore.
	Forget(ctx context.Context, digest string) (user string, err error)
}

// Names are the names that the mesh knows.
type Names interface {
	// Get is what a name stands for: reference is a tag or a digest.
	Get(ctx context.Context, repository, reference string) (placement.Image, error)
	// List are the names of a repository, sorted by reference.
	List(ctx context.Context, repository string) ([]placement.Image, error)
	// Repositories are those that have a name, sorted.
	Repositories(ctx context.Context) ([]string, error)
	// Put makes or moves a name. It answers once as many peers as it should hold
	// the manifest and all under it, tree bytes together, and says how many.
	Put(ctx context.Context, image placement.Image, tree int64) (copies int, err error)
	// Delete removes a name, or ErrNotFound.
	Delete(ctx context.Context, repository, reference string) error
}

// Config is what a Registry is made with; the first three are needed.
type Config struct {
	Blobs    Blobs
	Mesh     Mesh
	Names    Names
	BlobMax  int64         // bytes of one blob; default 64 GiB
	PutTime  time.Duration // for a manifest to be on its copies; default 5 minutes
	Log      *slog.Logger  // nil discards
	Observer Observer      // of what was pushed and pulled; nil is none
}

// Observer counts what happens, for metrics.
type Observer interface {
	Served(action string, status int, bytes int64) // one request: "blob-get", "manifest-put", …
}

// Defaults and limits of requests.
const (
	blobMaxDefault = 64 << 30
	putTimeDefault = 5 * time.Minute
	pageMax        = 1000 // names in an answer
	checksMax      = 8    // blobs of one manifest that are looked for at once
)

// Registry answers everything under /v2/.
type Registry struct {
	cfg Config
}

// New wires a registry; it starts nothing.
func New(cfg Config) *Registry {
	if cfg.BlobMax == 0 {
		cfg.BlobMax = blobMaxDefault
	}
	if cfg.PutTime == 0 {
		cfg.PutTime = putTimeDefault
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Registry{cfg: cfg}
}

// handlers by what is asked for and the method.
var handlers = map[kind]map[string]func(*Registry, http.ResponseWriter, *http.Request, target) error{
	kindBase:      {http.MethodGet: (*Registry).base},
	kindCatalog:   {http.MethodGet: (*Registry).catalog},
	kindTags:      {http.MethodGet: (*Registry).tags},
	kindReferrers: {http.MethodGet: (*Registry).referrers},
	kindBlob:      {http.MethodGet: (*Registry).getBlob, http.MethodDelete: (*Registry).deleteBlob},
	kindManifest: {http.MethodGet: (*Registry).getManifest, http.MethodPut: (*Registry).putManifest,
		http.MethodDelete: (*Registry).deleteManifest},
	kindUploads: {http.MethodPost: (*Registry).beginUpload},
	kindUpload: {http.MethodGet: (*Registry).uploadStatus, http.MethodPatch: (*Registry).appendUpload,
		http.MethodPut: (*Registry).endUpload, http.MethodDelete: (*Registry).cancelUpload},
}

// ServeHTTP answers one request.
func (g *Registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &counter{ResponseWriter: w}
	r.Body = c.counted(r.Body)
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	t, err := parseTarget(r.URL.Path)
	if err == nil {
		err = g.handle(c, r, t)
	}
	if err != nil {
		g.writeError(c, r, err)
	}
	if g.cfg.Observer != nil {
		g.cfg.Observer.Served(action(t.kind, r.Method), c.status, c.bytes)
	}
}

func (g *Registry) handle(w http.ResponseWriter, r *http.Request, t target) error {
	method := r.Method
	if method == http.MethodHead { // net/http writes no body for it
		method = http.MethodGet
	}
	handler := handlers[t.kind][method]
	if handler == nil {
		return problem(http.StatusMethodNotAllowed, codeUnsupported,
			"%s is not understood here: the OCI distribution specification says which methods are", short(r.Method))
	}
	return handler(g, w, r, t)
}

// base is how a client finds that this is a registry.
func (g *Registry) base(w http.ResponseWriter, _ *http.Request, _ target) error {
	w.Header().Set("Content-Type", "application/json")
	_, _ = io.WriteString(w, "{}\n")
	return nil
}

// action names a request for metrics.
func action(k kind, method string) string {
	if k == "" {
		k = "none" // no endpoint
	}
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		return string(k) + " " + method
	}
	return string(k) + " other"
}

// counter remembers what was answered and how many bytes of bodies passed.
type counter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (c *counter) WriteHeader(status int) {
	if c.status == 0 {
		c.status = status
	}
	c.ResponseWriter.WriteHeader(status)
}

func (c *counter) Write(p []byte) (int, error) {
	if c.status == 0 {
		c.status = http.StatusOK
	}
	n, err := c.ResponseWriter.Write(p)
	c.bytes += int64(n)
	return n, err
}

// buffers are for bodies: what a client pulls is sent in large pieces.
var buffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// ReadFrom is what net/http sends a file with.
func (c *counter) ReadFrom(r io.Reader) (int64, error) {
	buffer := buffers.Get().(*[256 << 10]byte)
	defer buffers.Put(buffer)
	return io.CopyBuffer(struct{ io.Writer }{c}, struct{ io.Reader }{r}, buffer[:])
}

// Unwrap lets http.ResponseController reach the connection.
func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func (c *counter) counted(body io.ReadCloser) io.ReadCloser {
	if body == nil {
		return nil
	}
	return countedBody{body, c}
}

type countedBody struct {
	io.ReadCloser
	c *counter
}

func (b countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.c.bytes += int64(n)
	return n, err
}
