package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hansa-mesh/hansa/placement"
)

// Kind is the sort of an error, as Problem carries it.
type Kind string

// The kinds.
const (
	KindInvalid     Kind = "invalid"
	KindMalformed   Kind = "malformed"
	KindNotFound    Kind = "not_found"
	KindMethod      Kind = "method_not_allowed"
	KindConflict    Kind = "conflict"
	KindMissing     Kind = "missing_artifact"
	KindTooFew      Kind = "too_few_copies"
	KindFull        Kind = "no_space"
	KindLimit       Kind = "limit"
	KindTooLarge    Kind = "too_large"
	KindMedia       Kind = "unsupported_media_type"
	KindToken       Kind = "unauthorized"
	KindForbidden   Kind = "forbidden"
	KindMisdirected Kind = "misdirected"
	KindUnavailable Kind = "unavailable"
	KindUnreachable Kind = "peer_unreachable"
	KindPulling     Kind = "pulling"
	KindTimeout     Kind = "timeout"
	KindInternal    Kind = "internal"
)

// Errors of this package that a Backend may wrap, beside those of package
// placement.
var (
	// ErrUnreachable: the peer that has the answer can't be reached now.
	ErrUnreachable = errors.New("peer not in reach")
	// ErrUnavailable: this peer can't answer that now.
	ErrUnavailable = errors.New("unavailable")
	// ErrTimeout: the answer did not come in time; what was asked for may
	// still happen.
	ErrTimeout = errors.New("timed out")
	// ErrPulling: an image is on its way into the mesh; the same request, a moment
	// later, goes on.
	ErrPulling = errors.New("images are being pulled")
	// ErrForbidden: known who asks, and not allowed.
	ErrForbidden = errors.New("forbidden")
	// errMalformed: a body that can't be read at all.
	errMalformed = fmt.Errorf("malformed: %w", placement.ErrInvalid)
)

// MissingArtifacts says that an app names digests that the mesh does not know.
type MissingArtifacts struct{ Digests []string }

// Error names them.
func (e *MissingArtifacts) Error() string {
	return "artifacts that the mesh does not hold: " + strings.Join(e.Digests, ", ")
}

// Exit codes of the CLI.
const (
	ExitDone   = 0
	ExitFailed = 1
	ExitUsage  = 2
)

// kinds is the one place that says what a kind is over HTTP and for the exit
// code, and which errors are of it. The first match of an error wins.
var kinds = []struct {
	kind   Kind
	status int
	exit   int
	errs   []error
}{
	{KindMalformed, http.StatusBadRequest, ExitFailed, []error{errMalformed}},
	{KindInvalid, http.StatusUnprocessableEntity, ExitFailed, []error{placement.ErrInvalid}},
	{KindNotFound, http.StatusNotFound, ExitFailed, []error{placement.ErrNotFound}},
	{KindMethod, http.StatusMethodNotAllowed, ExitFailed, nil},
	{KindConflict, http.StatusPreconditionFailed, ExitFailed, []error{placement.ErrConflict}},
	{KindMissing, http.StatusConflict, ExitFailed, nil},
	{KindTooFew, http.StatusServiceUnavailable, ExitFailed, []error{placement.ErrTooFew}},
	{KindFull, http.StatusInsufficientStorage, ExitFailed, []error{placement.ErrFull}},
	{KindLimit, http.StatusTooManyRequests, ExitFailed, []error{placement.ErrLimit}},
	{KindTooLarge, http.StatusRequestEntityTooLarge, ExitFailed, nil},
	{KindMedia, http.StatusUnsupportedMediaType, ExitFailed, nil},
	{KindToken, http.StatusUnauthorized, ExitFailed, nil},
	{KindForbidden, http.StatusForbidden, ExitFailed, []error{ErrForbidden}},
	{KindMisdirected, http.StatusMisdirectedRequest, ExitFailed, nil},
	{KindUnavailable, http.StatusServiceUnavailable, ExitFailed, []error{placement.ErrUnavailable, ErrUnavailable, context.Canceled}},
	{KindPulling, http.StatusServiceUnavailable, ExitFailed, []error{ErrPulling}},
	{KindUnreachable, http.StatusBadGateway, ExitFailed, []error{ErrUnreachable}},
	{KindTimeout, http.StatusGatewayTimeout, ExitFailed, []error{ErrTimeout, context.DeadlineExceeded}},
	{KindInternal, http.StatusInternalServerError, ExitFailed, []error{placement.ErrInternal}},
}

// Status is the HTTP status of a kind; an unknown one is 500.
func (k Kind) Status() int {
	for _, row := range kinds {
		if row.kind == k {
			return row.status
		}
	}
	return http.StatusInternalServerError
}

// kindOf is the kind of an error that a Backend returned.
func kindOf(err error) Kind {
	for _, row := range kinds {
		for _, e := range row.errs {
			if errors.Is(err, e) {
				return row.kind
			}
		}
	}
	return KindInternal
}

// kindOfStatus is the kind for an answer that names none.
func kindOfStatus(status int) Kind {
	for _, row := range kinds {
		if row.status == status {
			return row.kind
		}
	}
	if status >= 400 && status < 500 {
		return KindInvalid
	}
	return KindInternal
}

// Usage marks an error as wrong usage of the command line.
type Usage struct{ Err error }

// Error is that of the wrapped error.
func (u *Usage) Error() string { return u.Err.Error() }

// Unwrap is the wrapped error.
func (u *Usage) Unwrap() error { return u.Err }

// ExitCode is what a command that ends with err exits with.
func ExitCode(err error) int {
	if err == nil {
		return ExitDone
	}
	var usage *Usage
	if errors.As(err, &usage) {
		return ExitUsage
	}
	var p *Problem
	if errors.As(err, &p) {
		for _, row := range kinds {
			if row.kind == p.Kind {
				return row.exit
			}
		}
	}
	return ExitFailed
}
