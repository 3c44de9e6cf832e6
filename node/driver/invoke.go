package driver

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

// Invoker is implemented by drivers of functions.
type Invoker interface {
	// Invoke calls the function that runs as task id. The error is for what
	// the caller must deal with: ErrUnknownTask (the function is not here:
	// try another instance), or a ctx that ended before there was an answer.
	// Everything that the function's own caller should see is a Response,
	// the refusals of this driver included.
	//
	// The request's body is read, and the response's body may be read, after
	// Invoke has returned; the call ends when the response's body was read to
	// its end or closed, or with ctx.
	Invoke(ctx context.Context, id string, r *Request) (*Response, error)
}

// Request is an HTTP request to a function.
type Request struct {
	Method     string
	ScriptName string // the part of the path that led to the function, "" or "/v1/functions/shop/api"
	Path       string // the rest, unescaped, beginning with "/" (or empty)
	RawQuery   string
	Proto      string // "HTTP/1.1" if empty
	Host       string // as the client asked, with the port if it had one
	Scheme     string // "http" if empty
	RemoteAddr string // "addr:port" or an address
	Header     http.Header
	// ContentLength is -1 if unknown; 0 with a nil Body.
	ContentLength int64
	Body          io.Reader
}

// Cause says who made a response, for metrics, for retries elsewhere and for
// the log.
type Cause string

// The causes.
const (
	CauseFunction Cause = ""        // the function's own answer
	CauseBusy     Cause = "busy"    // refused before the function saw it: another instance may do
	CauseStopped  Cause = "stopped" // ended midway because the task was stopped
	CauseTimeout  Cause = "timeout" // killed at its timeout
	CauseMemory   Cause = "memory"  // ended after it was refused more memory
	CauseCrash    Cause = "crash"   // trapped or exited with a code, with no answer
	CauseBad      Cause = "bad"     // answered with something that is no HTTP response
	CauseLimit    Cause = "limit"   // the request or the response is over a limit
)

// Response is the answer to a Request.
type Response struct {
	Status int
	Header http.Header
	// Body is never nil. If the function fails midway Read returns an error,
	// and the one who relays it should break its connection off.
	Body  io.ReadCloser
	Cause Cause
}

// Problem returns a response in the form of RFC 9457.
func Problem(status int, cause Cause, detail string) *Response {
	body, _ := json.Marshal(map[string]any{ // strings and an int: can't fail
		"title": http.StatusText(status), "status": status, "detail": detail,
	})
	return &Response{
		Status: status, Cause: cause, Body: io.NopCloser(&readOnce{body}),
		Header: http.Header{
			"Content-Type":   {"application/problem+json"},
			"Content-Length": {strconv.Itoa(len(body))},
		},
	}
}

// readOnce is a bytes.Reader without its other methods.
type readOnce struct{ b []byte }

func (r *readOnce) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}

// Busy is the refusal of a call for want of room.
func Busy(detail string, retryAfter time.Duration) *Response {
	resp := Problem(http.StatusServiceUnavailable, CauseBusy, detail)
	seconds := max(1, int((retryAfter+time.Second-1)/time.Second))
	resp.Header.Set("Retry-After", strconv.Itoa(seconds))
	return resp
}

// RequestFromHTTP turns a server's request into one for a function.
// scriptName is the prefix of r.URL.Path that led here.
func RequestFromHTTP(r *http.Request, scriptName string) *Request {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	path := r.URL.Path
	if len(path) >= len(scriptName) && path[:len(scriptName)] == scriptName {
		path = path[len(scriptName):]
	}
	req := &Request{
		Method: r.Method, ScriptName: scriptName, Path: path, RawQuery: r.URL.RawQuery,
		Proto: r.Proto, Host: r.Host, Scheme: scheme, RemoteAddr: r.RemoteAddr,
		Header: r.Header, ContentLength: r.ContentLength, Body: r.Body,
	}
	if r.Body == http.NoBody || r.ContentLength == 0 { // it may be wrapped
		req.Body, req.ContentLength = nil, 0
	}
	return req
}

// WriteHTTP relays a response to a server's client, flushing as it comes, and
// closes it. If the body breaks off midway it panics with
// http.ErrAbortHandler, which is how net/http breaks off a connection, so
// that the client does not take a part for the whole.
func (r *Response) WriteHTTP(w http.ResponseWriter) {
	defer r.Body.Close()
	for k, v := range r.Header {
		w.Header()[k] = v
	}
	if r.Header.Get("Content-Type") == "" {
		w.Header()["Content-Type"] = nil // net/http must not guess one (RFC 3875, 6.3.1)
	}
	conn := http.NewResponseController(w)
	// The function may answer while it still reads; without this the server
	// would take the rest of the request's body away from it. Best effort: a
	// writer may not support it, nor need it.
	_ = conn.EnableFullDuplex()
	w.WriteHeader(r.Status)
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Body.Read(buf)
		if n > 0 {
			if _, werr := w.Write(buf[:n]); werr != nil {
				return // the client went away
			}
			if err == nil {
				_ = conn.Flush() // best effort, too
			}
		}
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
}
