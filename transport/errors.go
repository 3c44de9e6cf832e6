package transport

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/fxamacker/cbor/v2"
	"github.com/quic-go/quic-go"
)

// Kind is the sort of an error, as it crosses the wire.
type Kind string

// The kinds.
const (
	KindInvalid     Kind = "invalid"     // the request is wrong
	KindNotFound    Kind = "not_found"   // no such method, stream kind or thing
	KindConflict    Kind = "conflict"    // something else was first
	KindRefused     Kind = "refused"     // by policy
	KindForbidden   Kind = "forbidden"   // the caller is not admitted, or shut out
	KindUnavailable Kind = "unavailable" // the peer can't be reached, or not now
	KindExhausted   Kind = "exhausted"   // too much at once: later
	KindTimeout     Kind = "timeout"     // no answer in time; it may have been done
	KindTooLarge    Kind = "too_large"   // over a limit
	KindFull        Kind = "full"        // no space
	KindExpired     Kind = "expired"     // too late
	KindInternal    Kind = "internal"    // a fault at the peer
)

// Error is what went wrong between two peers.
type Error struct {
	Kind Kind   `json:"kind"`
	Msg  string `json:"msg"`
	Peer string `json:"-"` // the other end

	cause error // at this end; does not cross the wire
}

// Error names the peer, the message and the kind.
func (e *Error) Error() string {
	if e.Peer == "" {
		return fmt.Sprintf("%s (%s)", e.Msg, e.Kind)
	}
	return fmt.Sprintf("peer %s: %s (%s)", e.Peer, e.Msg, e.Kind)
}

// Unwrap is the cause at this end, such as context.Canceled; nil for an error
// of the other end.
func (e *Error) Unwrap() error { return e.cause }

// known are the kinds that may cross the wire.
var known = map[Kind]bool{
	KindInvalid: true, KindNotFound: true, KindConflict: true, KindRefused: true, KindForbidden: true, KindUnavailable: true,
	KindExhausted: true, KindTimeout: true, KindTooLarge: true, KindFull: true, KindExpired: true, KindInternal: true,
}

// encodeError is an error as it crosses the wire, within errorMax bytes.
func encodeError(err error) ([]byte, error) {
	e := &Error{Kind: KindOf(err), Msg: err.Error()}
	var own *Error
	if errors.As(err, &own) && own.Peer == "" {
		e.Msg = own.Msg
	}
	// What was cut within a character, and what a handler put there, must
	// still be text: CBOR refuses anything else.
	e.Msg = strings.ToValidUTF8(e.Msg[:min(len(e.Msg), errorMax/2)], "\uFFFD")
	return cbor.Marshal(e)
}

// decodeError reads what a peer sent as an error.
func decodeError(peer string, body []byte) *Error {
	e := &Error{}
	if err := cbor.Unmarshal(body, e); err != nil {
		return &Error{Kind: KindInternal, Msg: "an error that can't be read", Peer: peer}
	}
	if !known[e.Kind] {
		e.Kind = KindInternal
	}
	e.Peer = peer
	return e
}

// KindOf is the kind of an error; "" for nil.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case err == nil:
		return ""
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.DeadlineExceeded):
		return KindTimeout
	case errors.Is(err, context.Canceled):
		return KindUnavailable
	}
	return KindInternal
}

// Codes of closed connections.
const (
	codeClosing   quic.ApplicationErrorCode = 1 // the peer stops, or the connection was idle
	codeForbidden quic.ApplicationErrorCode = 2 // not admitted, or shut out
	codeProtocol  quic.ApplicationErrorCode = 3
	codeRefused   quic.ApplicationErrorCode = 4 // too many
	codeQuiet     quic.ApplicationErrorCode = 5 // not used for long; see conn.begin
)

// Codes of ended streams.
const (
	streamCancelled quic.StreamErrorCode = 1
	streamBroken    quic.StreamErrorCode = 2
)

// fromNetwork gives an error of QUIC its kind.
func fromNetwork(peer, doing string, err error) error {
	var already *Error
	if errors.As(err, &already) {
		return err
	}
	kind := KindUnavailable
	var app *quic.ApplicationError
	msg := err.Error()
	switch {
	case errors.As(err, &app) && app.Remote:
		msg = app.ErrorMessage
		switch app.ErrorCode {
		case codeForbidden:
			kind = KindForbidden
		case codeRefused:
			kind = KindExhausted
		}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		kind = KindTimeout
	}
	return &Error{Kind: kind, Msg: doing + ": " + msg, Peer: peer, cause: err}
}
