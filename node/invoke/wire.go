package invoke

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/placement"
)

// Kind names the transport stream that carries one call: an HTTP/1.1 request
// and its response, with what is not HTTP in headers of our own.
const Kind = "invoke/1"

const (
	headerTarget = "Hansa-Target" // namespace/app/component
	headerScript = "Hansa-Script-Name"
	headerRemote = "Hansa-Remote-Addr"
	headerScheme = "Hansa-Scheme"
	headerHost   = "Hansa-Host"
	headerProto  = "Hansa-Proto"
	headerCause  = "Hansa-Cause"
	causeNone    = "none" // no instance at that peer

	// headMax bounds the head of a request or a response.
	headMax = 64 << 10
	// headWait is how long the head of a request may take.
	headWait = 10 * time.Second
)

// Stream is one transport stream.
type Stream interface {
	io.ReadWriteCloser
	SetReadDeadline(time.Time) error
	// Context is done when the other end wants no more of what is written.
	Context() context.Context
}

// callPeer sends a request to one peer and waits for the head of its answer.
func (r *Router) callPeer(ctx context.Context, peer string, t Target, request *driver.Request) attempt {
	openCtx, cancel := context.WithTimeout(ctx, openMax)
	stream, err := r.cfg.Open(openCtx, peer)
	cancel()
	if err != nil {
		return attempt{err: fmt.Errorf("peer %s: %w", peer, err)}
	}
	stop := context.AfterFunc(ctx, func() { stream.Close() })
	failed := func(err error) attempt {
		stop()
		stream.Close()
		return attempt{err: fmt.Errorf("peer %s: %w", peer, err), executed: true}
	}
	written := make(chan error, 1)
	go func() { written <- writeRequest(stream, t, request) }()
	response, err := http.ReadResponse(bufio.NewReaderSize(&limited{r: stream, left: headMax}, 4096), &http.Request{Method: request.Method})
	if err == nil && ctx.Err() != nil { // the answer to being given up
		response.Body.Close()
		err = ctx.Err()
	}
	if err != nil {
		if ctx.Err() == nil {
			select {
			case writeErr := <-written:
				err = errors.Join(err, writeErr)
			default:
			}
		}
		return failed(err)
	}
	cause := response.Header.Get(headerCause)
	response.Header.Del(headerCause)
	if cause == causeNone {
		stop()
		stream.Close()
		return attempt{err: fmt.Errorf("peer %s: %w", peer, ErrNone)}
	}
	return attempt{response: &driver.Response{
		Status: response.StatusCode, Header: response.Header, Cause: driver.Cause(cause),
		Body: &body{Reader: response.Body, close: func() { stop(); stream.Close() }},
	}}
}

// body closes the stream with itself.
type body struct {
	io.Reader
	close func()
}

func (b *body) Close() error {
	b.close()
	return nil
}

// limited bounds the head of a request or a response: net/http alone would take
// one of any size. Bodies pass: after the blank line that ends the head the
// reader is unbounded.
type limited struct {
	r    io.Reader
	left int    // bytes that the head may still have
	tail []byte // the last that were read: where endOfHead may have begun
	past bool   // the head has ended
}

var endOfHead = []byte("\r\n\r\n")

func (l *limited) Read(p []byte) (int, error) {
	if l.past {
		return l.r.Read(p)
	}
	if l.left <= 0 {
		return 0, fmt.Errorf("a head of more than %d bytes", headMax)
	}
	n, err := l.r.Read(p[:min(len(p), l.left)])
	l.left -= n
	l.tail = append(l.tail, p[:n]...)
	if bytes.Contains(l.tail, endOfHead) {
		l.past, l.tail = true, nil
	} else if len(l.tail) > len(endOfHead) {
		l.tail = l.tail[len(l.tail)-len(endOfHead):]
	}
	return n, err
}

// hopHeaders concern one connection only (RFC 9110, 7.6.1).
var hopHeaders = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

// endToEnd is a copy of a request's headers without what concerns one
// connection only, and without names of our own, which nobody else may use.
func endToEnd(h http.Header) http.Header {
	out := h.Clone()
	if out == nil {
		out = http.Header{}
	}
	for _, value := range h["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			out.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range hopHeaders {
		out.Del(name)
	}
	for name := range out {
		if strings.HasPrefix(name, "Hansa-") {
			delete(out, name)
		}
	}
	return out
}

// writeRequest writes the request with the whole path, of which the script's
// name is the first part.
func writeRequest(w io.Writer, t Target, request *driver.Request) error {
	header := endToEnd(request.Header)
	header.Set(headerTarget, t.Key.Namespace+"/"+t.Key.App+"/"+t.Component)
	for name, value := range map[string]string{
		headerScript: request.ScriptName, headerRemote: request.RemoteAddr, headerScheme: request.Scheme,
		headerHost: request.Host, headerProto: request.Proto,
	} {
		if value != "" {
			header.Set(name, url.PathEscape(value))
		}
	}
	if header.Get("User-Agent") == "" {
		header.Set("User-Agent", "") // or net/http adds its own
	}
	out := &http.Request{
		Method: request.Method, Header: header, Host: "function",
		URL:           &url.URL{Scheme: "http", Host: "function", Path: request.ScriptName + request.Path, RawQuery: request.RawQuery},
		ContentLength: request.ContentLength,
	}
	if request.Body != nil {
		out.Body = io.NopCloser(request.Body)
	}
	return out.Write(w)
}

// readRequest reads what writeRequest wrote.
func readRequest(r io.Reader) (Target, *driver.Request, error) {
	request, err := http.ReadRequest(bufio.NewReader(&limited{r: r, left: headMax}))
	if err != nil {
		return Target{}, nil, err
	}
	names := strings.Split(request.Header.Get(headerTarget), "/")
	if len(names) != 3 {
		return Target{}, nil, fmt.Errorf("target %.200q", request.Header.Get(headerTarget))
	}
	take := func(name string) string {
		value := request.Header.Get(name)
		request.Header.Del(name)
		if plain, err := url.PathUnescape(value); err == nil {
			return plain
		}
		return value
	}
	take(headerTarget)
	in := &driver.Request{
		Method: request.Method, ScriptName: take(headerScript), RawQuery: request.URL.RawQuery,
		Proto: take(headerProto), Host: take(headerHost), Scheme: take(headerScheme), RemoteAddr: take(headerRemote),
		Header: request.Header, ContentLength: request.ContentLength, Body: request.Body,
	}
	in.Path = strings.TrimPrefix(request.URL.Path, in.ScriptName)
	if request.Body == http.NoBody {
		in.Body, in.ContentLength = nil, 0
	}
	return Target{Key: placement.AppKey{Namespace: names[0], App: names[1]}, Component: names[2]}, in, nil
}

// Serve answers one call of another peer from the instances at this one.
func (r *Router) Serve(ctx context.Context, stream Stream) error {
	if err := stream.SetReadDeadline(time.Now().Add(headWait)); err != nil {
		return err
	}
	t, in, err := readRequest(stream)
	if err != nil {
		return fmt.Errorf("invoke: serve: %w", err)
	}
	if err := stream.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	// A caller that went away must not leave a function running for nobody.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(stream.Context(), cancel)()
	response, err := r.callLocal(ctx, t, in, nil, in.Body == nil)
	if errors.Is(err, ErrNone) {
		response, err = driver.Problem(http.StatusServiceUnavailable, driver.Cause(causeNone), "no instance here"), nil
	}
	if err != nil {
		response = driver.Problem(http.StatusBadGateway, driver.CauseCrash, err.Error())
	}
	return writeResponse(stream, in.Method, response)
}

func writeResponse(w io.Writer, method string, response *driver.Response) error {
	defer response.Body.Close()
	header := response.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	header.Set(headerCause, string(response.Cause))
	out := &http.Response{
		StatusCode: response.Status, ProtoMajor: 1, ProtoMinor: 1, Header: header,
		Body: response.Body, ContentLength: -1, Request: &http.Request{Method: method},
	}
	if header.Get("Content-Length") != "" {
		if _, err := fmt.Sscan(header.Get("Content-Length"), &out.ContentLength); err != nil {
			out.ContentLength = -1
		}
		header.Del("Content-Length")
	}
	if out.ContentLength < 0 {
		out.TransferEncoding = []string{"chunked"}
	}
	return out.Write(w)
}
