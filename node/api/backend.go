package api

import (
	"context"
	"io"
	"net/http"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// Backend is what the API needs of a node. All methods are called from many
// goroutines at once. Errors wrap one of the kinds of package placement or of
// this package (kinds.go), or are a *Problem; anything else is a 500. ctx ends
// when the client goes away.
type Backend interface {
	MeshBackend
	AppBackend
	WorkBackend
	VolumeBackend
	ImageBackend
	ArtifactBackend
	EventBackend
	TrustBackend
	SecretBackend
	PolicyBackend
	CareBackend
}

// MeshBackend answers about the mesh as this peer sees it.
type MeshBackend interface {
	// Ready is nil when this peer takes new work, or says why not.
	Ready() error
	Mesh(ctx context.Context) (Mesh, error)
	// Peers, Sites and Hosts are sorted by id, name and id.
	Peers(ctx context.Context, page Page) (Listing[Peer], error)
	Sites(ctx context.Context, page Page) (Listing[Site], error)
	Hosts(ctx context.Context, page Page) (Listing[Host], error)
	// DebugState writes the text that /debug/state shows.
	DebugState(w io.Writer) error
}

// AppBackend takes and shows what people want.
type AppBackend interface {
	// PutApp writes an app. ErrConflict when IfMatch or IfNoneMatch does not
	// hold, *MissingArtifacts when the mesh does not know a digest, ErrTooFew
	// (before any write) when MinCopies can't be had.
	PutApp(ctx context.Context, req PutRequest) (PutResult, error)
	GetApp(ctx context.Context, key placement.AppKey) (AppDetail, error)
	// DeleteApp removes an app. Errors as PutApp.
	DeleteApp(ctx context.Context, req DeleteRequest) (DeleteResult, error)
	// ListApps is sorted by namespace/app.
	ListApps(ctx context.Context, q AppQuery) (Listing[App], error)
	// Plan says what a PUT of app would do; nothing is written or asked.
	Plan(ctx context.Context, app placement.App) (Plan, error)
	Status(ctx context.Context, key placement.AppKey) (Status, error)
	// Explain are the last decisions about an app, newest first; component ""
	// is all of them.
	Explain(ctx context.Context, key placement.AppKey, component string) (Listing[Decision], error)
	// History are the last revisions of an app, newest first.
	History(ctx context.Context, key placement.AppKey) (Listing[Revision], error)
	// Rollback makes an earlier revision the newest. ErrNotFound when it is not
	// kept; otherwise errors as PutApp.
	Rollback(ctx context.Context, req Rollback) (PutResult, error)
	// Conflicts is sorted by id.
	Conflicts(ctx context.Context, page Page) (Listing[Conflict], error)
	// Resolve makes one side of a conflict, or an app made of them, the only
	// one. ErrConflict when its sides are not those that ID, or IfMatch, names;
	// ErrNotFound when there is none any more.
	Resolve(ctx context.Context, req Resolution) (ResolveResult, error)
}

// Resolution is a person's decision about a conflict. App is parsed, validated
// and has its namespace and name set; nil takes a side.
type Resolution struct {
	ID             string
	Take           string // revision of a side
	App            *placement.App
	IfMatch        string // an ETag without quotes, "*" or ""
	IdempotencyKey string
}

// DeleteRequest is a person's wish that an app be gone.
type DeleteRequest struct {
	Key            placement.AppKey
	IfMatch        string // an ETag without quotes, "*" or ""
	IdempotencyKey string
	MinCopies      int // 0 asks for a quorum but accepts fewer
}

// PutRequest is a person's wish for an app. App is parsed, validated, and has
// its namespace and name set.
type PutRequest struct {
	App            placement.App
	IfMatch        string // an ETag without quotes, "*" for "exists", "" for any
	IfNoneMatch    bool   // only if there is no such app
	IdempotencyKey string // "" for none
	MinCopies      int    // 0 asks for a quorum but accepts fewer
}

// AppQuery selects apps.
type AppQuery struct {
	Namespace string // "" is all
	Page
}

// WorkBackend shows and reaches what runs.
type WorkBackend interface {
	// Allocations is sorted by AllocationKey.
	Allocations(ctx context.Context, q AllocationQuery) (Listing[Allocation], error)
	Allocation(ctx context.Context, id string) (Allocation, error)
	// Logs is the output of an allocation wherever it runs, in lines of
	// "TIME STREAM TAG TEXT" (see LogLine).
	Logs(ctx context.Context, id string, o LogOptions) (io.ReadCloser, error)
	// Exec runs a command beside an allocation wherever that runs, or attaches
	// to its console, and returns its exit code. It blocks until the command has
	// ended and all its output was written, and kills it when ctx is done.
	Exec(ctx context.Context, id string, x Exec) (code int, err error)
	// Restart begins an allocation anew where it is, and returns once that is
	// under way. ErrUnavailable says why it can't be.
	Restart(ctx context.Context, id string) (Allocation, error)
	// Invoke passes a request to the nearest instance of a function. The
	// request carries no credentials any more; path begins with "/" or is
	// empty. Whatever goes wrong is answered through w (see WriteProblem).
	Invoke(w http.ResponseWriter, r *http.Request, key placement.AppKey, component, path string)
}

// AllocationQuery selects allocations; an empty field is all.
type AllocationQuery struct {
	Namespace, App, Component string
	Site                      string
	Peer                      string // id or name
	States                    []string
	Page
}

// Matches says whether a passes the query's filters; it looks at no page.
func (q AllocationQuery) Matches(a Allocation) bool {
	same := func(want, have string) bool { return want == "" || want == have }
	if !same(q.Namespace, a.Namespace) || !same(q.App, a.App) || !same(q.Component, a.Component) || !same(q.Site, a.Site) {
		return false
	}
	if q.Peer != "" && q.Peer != a.Peer && q.Peer != a.PeerName {
		return false
	}
	if len(q.States) == 0 {
		return true
	}
	for _, s := range q.States {
		if s == a.State {
			return true
		}
	}
	return false
}

// LogOptions select what Logs reads; the zero value is all that is kept.
type LogOptions struct {
	Follow bool      // go on with what comes
	Tail   int       // only the last so many lines; 0 is all
	Since  time.Time // only lines at or after it
}

// ArtifactBackend keeps files that apps need.
type ArtifactBackend interface {
	// HasArtifact is the size of an artifact that this peer holds, or
	// ErrNotFound.
	HasArtifact(ctx context.Context, digest string) (size int64, err error)
	// PutArtifact stores an artifact. size is -1 when the client did not say.
	// r ends with an error that is not io.EOF when the bytes are not what
	// digest and size say: nothing may be kept then. ErrFull without space.
	// created is false when it was here already (r need not be read then).
	PutArtifact(ctx context.Context, digest string, size int64, r io.Reader) (created bool, err error)
}

// EventBackend tells what happened.
type EventBackend interface {
	// Events is sorted as they happened, oldest first; page.After is an
	// event's id. With Newest the last page.Limit of them are given.
	Events(ctx context.Context, q EventQuery) (Listing[Event], error)
	// WatchEvents calls send for each event after q.After (an empty After is
	// from now on) until ctx is done or send fails; that error is returned.
	WatchEvents(ctx context.Context, q EventQuery, send func(Event) error) error
}

// EventQuery selects events; an empty field is all.
type EventQuery struct {
	Namespace, App, Component string
	Type                      string
	Since                     time.Time
	Newest                    bool // the last page, in the order in which they happened
	Page
}

// Matches says whether e passes the query's filters; it looks at no page.
func (q EventQuery) Matches(e Event) bool {
	same := func(want, have string) bool { return want == "" || want == have }
	return same(q.Namespace, e.Namespace) && same(q.App, e.App) && same(q.Component, e.Component) &&
		same(q.Type, e.Type) && (q.Since.IsZero() || !e.At.Before(q.Since))
}

// TrustBackend lets peers in and shuts them out.
type TrustBackend interface {
	Invite(ctx context.Context, req InviteRequest) (Invite, error)
	// Forget revokes a peer, by id or name.
	Forget(ctx context.Context, peer string, withAdmitted bool) error
	// ForceEpoch goes on without a peer that is gone for good, in the keeper
	// lists that have lost their majority with it: over the head of whoever
	// might still act under them.
	ForceEpoch(ctx context.Context, peer string) (ForceResult, error)
}

// CareBackend keeps a peer's state safe.
type CareBackend interface {
	// Backup writes what the peer's store holds, framed and checksummed as
	// package store documents. A failure after the first byte shows in that the
	// last frame is missing.
	Backup(ctx context.Context, w io.Writer) error
}
