package invoke

import (
	"bufio"
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

// limited bounds what is read before lift is called; http.ReadResponse alone
// would take a head of any size. Bodies pass: once the head has been read the
// reader is unbounded.
type limited struct {
	r    io.Reader
	left int
	tail []byte
	past bool
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
	if strings.Contains(string(l.tail), string(endOfHead)) {
		l.past, l.tail = true, nil
	} else if len(l.tail) > len(endOfHead) {
		l.tail = l.tail[len(l.tail)-len(endOfHead):]
	}
	return n, err
}

func writeRequest(w io.Writer, t Target, request *driver.Request) error {
	header := request.Header.Clone()
	if header == nil {
		header = http.Header{}
	}
	for name := range header {
		if strings.HasPrefix(name, "Hansa-") {
			header.Del(name)
		}
	}
	header.Set(headerTarget, t.Key.Namespace+"/"+t.Key.App+"/"+t.Component)
	header.Set(headerScript, request.ScriptName)
	header.Set(headerRemote, request.RemoteAddr)
	header.Set(headerScheme, request.Scheme)
	header.Set(headerHost, request.Host)
	out := &http.Request{
		Method: request.Method, Header: header, Host: "function",
		URL:           &url.URL{Scheme: "http", Host: "function", Path: request.Path, RawQuery: request.RawQuery},
		ContentLength: request.ContentLength,
	}
	if out.URL.Path == "" {
		out.URL.Path = "/"
	}
	if request.Body != nil {
		out.Body = io.NopCloser(request.Body)
	}
	return out.Write(w)
}

// Serve answers one call of another peer from the instances at this one.
func (r *Router) Serve(ctx context.Context, stream Stream) error {
	if err := stream.SetReadDeadline(time.Now().Add(headWait)); err != nil {
		return err
	}
	request, err := http.ReadRequest(bufio.NewReader(&limited{r: stream, left: headMax}))
	if err != nil {
		return fmt.Errorf("invoke: serve: %w", err)
	}
	if err := stream.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	target := strings.Split(request.Header.Get(headerTarget), "/")
	if len(target) != 3 {
		return fmt.Errorf("invoke: serve: target %q", request.Header.Get(headerTarget))
	}
	in := &driver.Request{
		Method: request.Method, ScriptName: request.Header.Get(headerScript), Path: request.URL.Path,
		RawQuery: request.URL.RawQuery, Proto: "HTTP/1.1", Host: request.Header.Get(headerHost),
		Scheme: request.Header.Get(headerScheme), RemoteAddr: request.Header.Get(headerRemote),
		ContentLength: request.ContentLength, Body: request.Body,
	}
	if request.Body == http.NoBody {
		in.Body, in.ContentLength = nil, 0
	}
	for _, name := range []string{headerTarget, headerScript, headerRemote, headerScheme, headerHost} {
		request.Header.Del(name)
	}
	in.Header = request.Header
	t := Target{Key: placement.AppKey{Namespace: target[0], App: target[1]}, Component: target[2]}
	response, err := r.callLocal(ctx, t, in)
	if errors.Is(err, ErrNone) {
		response, err = driver.Problem(http.StatusServiceUnavailable, driver.Cause(causeNone), "no instance here"), nil
	}
	if err != nil {
		response = driver.Problem(http.StatusBadGateway, driver.CauseCrash, err.Error())
	}
	return writeResponse(stream, request.Method, response)
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
