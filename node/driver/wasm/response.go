package wasm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
	"sync"
)

const (
	headBytesMax   = 32 << 10 // of a function's response headers
	headFieldsMax  = 100
	responseMaxDef = 256 << 20 // bytes of a response's body
)

var errResponseTooLarge = errors.New("the response is over its limit")

// head is what a function says before the body.
type head struct {
	status int
	header http.Header
	length int64 // of the body, -1 if it did not say
}

// output is the guest's standard output: it takes the headers off and passes
// the body on.
type output struct {
	body  *pipe
	max   int64 // bytes of body
	fail  context.CancelCauseFunc
	ready chan struct{} // closed when head or bad is set

	mu    sync.Mutex // guards what follows
	raw   []byte     // headers, while they come
	head  *head
	bad   error // why this is no response
	total int64
	flood error // errResponseTooLarge once it happened
}

func newOutput(body *pipe, limit int64, fail context.CancelCauseFunc) *output {
	return &output{body: body, max: limit, fail: fail, ready: make(chan struct{})}
}

// Write implements io.Writer for the guest.
func (o *output) Write(b []byte) (int, error) {
	n := len(b)
	o.mu.Lock()
	if o.bad != nil {
		o.mu.Unlock()
		return 0, io.ErrClosedPipe
	}
	if o.head == nil {
		b = o.collect(b)
		if o.bad != nil {
			err := o.bad
			o.mu.Unlock()
			o.fail(err)
			return 0, io.ErrClosedPipe
		}
		if o.head == nil {
			o.mu.Unlock()
			return n, nil
		}
	}
	o.total += int64(len(b))
	limit := o.max
	if o.head.length >= 0 {
		limit = min(limit, o.head.length)
	}
	if over := o.total - limit; over > 0 {
		// More than it announced is cut off there, as any server does; more
		// than is allowed ends the call.
		if o.total > o.max {
			o.flood = errResponseTooLarge
			o.mu.Unlock()
			o.fail(errResponseTooLarge)
			return 0, io.ErrClosedPipe
		}
		b = b[:max(0, int64(len(b))-over)]
	}
	o.mu.Unlock()
	if len(b) > 0 {
		if _, err := o.body.Write(b); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// collect takes header bytes and returns what follows them; called with o.mu.
func (o *output) collect(b []byte) []byte {
	from := max(0, len(o.raw)-3)
	o.raw = append(o.raw, b...)
	end, next := blankLine(o.raw, from)
	if end < 0 {
		if len(o.raw) > headBytesMax {
			o.reject(fmt.Errorf("its headers are over %d bytes, or there is no blank line after them", headBytesMax))
		}
		return nil
	}
	if end > headBytesMax {
		o.reject(fmt.Errorf("its headers are over %d bytes", headBytesMax))
		return nil
	}
	h, err := parseHead(o.raw[:end])
	if err != nil {
		o.reject(err)
		return nil
	}
	rest := o.raw[next:]
	o.raw, o.head = nil, h
	close(o.ready)
	return rest
}

func (o *output) reject(err error) {
	o.bad, o.raw = err, nil
	close(o.ready)
}

// blankLine finds the first empty line at or after from: end is where the
// headers end, next where the body begins.
func blankLine(b []byte, from int) (end, next int) {
	if from == 0 {
		if bytes.HasPrefix(b, []byte("\n")) {
			return 0, 1
		}
		if bytes.HasPrefix(b, []byte("\r\n")) {
			return 0, 2
		}
	}
	for i := from; i < len(b); i++ {
		if b[i] != '\n' {
			continue
		}
		if rest := b[i+1:]; bytes.HasPrefix(rest, []byte("\n")) {
			return i + 1, i + 2
		} else if bytes.HasPrefix(rest, []byte("\r\n")) {
			return i + 1, i + 3
		}
	}
	return -1, 0
}

// dropped are fields that are the server's own business.
var dropped = []string{"Status", "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade"}

func parseHead(b []byte) (*head, error) {
	if len(b) == 0 {
		return nil, errors.New("it has no headers")
	}
	fields, err := textproto.NewReader(bufio.NewReader(io.MultiReader(bytes.NewReader(b), strings.NewReader("\r\n")))).ReadMIMEHeader()
	if err != nil {
		return nil, fmt.Errorf("its headers are malformed: %.200s", err)
	}
	if len(fields) > headFieldsMax {
		return nil, fmt.Errorf("it has %d header fields, over %d", len(fields), headFieldsMax)
	}
	h := &head{status: http.StatusOK, header: http.Header(fields), length: -1}
	for k, values := range fields {
		if !isToken(k) {
			return nil, fmt.Errorf("its header %.60q has a bad name", k)
		}
		for _, v := range values {
			if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
				return nil, fmt.Errorf("its header %.60q has a bad value", k)
			}
		}
	}
	if s := h.header.Get("Status"); s != "" {
		code, _, _ := strings.Cut(s, " ")
		if h.status, err = strconv.Atoi(code); err != nil || h.status < 200 || h.status > 599 {
			return nil, fmt.Errorf("its status %.60q is not one", s)
		}
	} else if h.header.Get("Location") != "" {
		h.status = http.StatusFound
	} else if h.header.Get("Content-Type") == "" {
		return nil, errors.New("it has neither a Content-Type nor a Status nor a Location (RFC 3875, 6.2)")
	}
	if s := h.header.Get("Content-Length"); s != "" {
		n, err := strconv.ParseUint(s, 10, 63)
		if err != nil || len(h.header["Content-Length"]) > 1 {
			return nil, fmt.Errorf("its Content-Length %.60q is not a number", s)
		}
		h.length = int64(n)
	}
	for _, k := range dropped {
		h.header.Del(k)
	}
	return h, nil
}

// result says how the guest's output ended: a complete head or why not, and
// whether the body is as long as was announced.
func (o *output) result() (h *head, bad error, whole bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	whole = o.head != nil && o.flood == nil && (o.head.length < 0 || o.total >= o.head.length)
	return o.head, o.bad, whole
}

// announced reports whether the whole of an announced length was written.
func (o *output) announced() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.head != nil && o.head.length >= 0 && o.total >= o.head.length
}
