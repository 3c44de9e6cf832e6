package placement

import "errors"

// The kinds of refusal that a person's request can meet. Errors wrap one of
// them; the node maps each to an HTTP status and an exit code in one place.
var (
	ErrInvalid  = errors.New("invalid")   // the request is wrong; 422
	ErrNotFound = errors.New("not found") // 404
	ErrConflict = errors.New("conflict")  // another edit was first; 412
	ErrTooFew   = errors.New("too few copies")
	ErrFull     = errors.New("no space") // 507
	ErrLimit    = errors.New("limit reached")
	ErrInternal = errors.New("internal error")
)

// ErrUnavailable says that whoever has to decide cannot be reached: the
// outcome is unknown, and repeating with the same Idempotency-Key is safe; 503.
var ErrUnavailable = errors.New("unavailable")

// errorKinds are the kinds that cross the wire, by their text.
var errorKinds = []error{ErrInvalid, ErrNotFound, ErrConflict, ErrTooFew, ErrFull, ErrLimit, ErrUnavailable, ErrInternal}

// kindOf is the text of an error's kind.
func kindOf(err error) string {
	for _, k := range errorKinds {
		if errors.Is(err, k) {
			return k.Error()
		}
	}
	return ErrInternal.Error()
}

// remoteError is an error that another peer met, with its kind.
func remoteError(kind, text string) error {
	for _, k := range errorKinds {
		if k.Error() == kind {
			return wireError{k, text}
		}
	}
	return wireError{ErrInternal, text}
}

type wireError struct {
	kind error
	text string
}

func (e wireError) Error() string { return e.text }
func (e wireError) Unwrap() error { return e.kind }
