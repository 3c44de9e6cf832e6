package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// Limits of the client.
const (
	answerBytesMax  = 64 << 20 // of one answer that is not a stream
	problemBytesMax = 256 << 10
	dialTimeMax     = 5 * time.Second
	callTimeMax     = 60 * time.Second // of one call that is no stream or upload
	itemsMax        = 1_000_000        // of one list over all its pages
)

// Client asks one peer's admin API. It may be used from many goroutines.
type Client struct {
	base  *url.URL
	token string
	http  *http.Client
	agent string
}

// ClientOptions are for NewClient; the zero value is good.
type ClientOptions struct {
	HTTP  *http.Client // default: one with a dial timeout and no proxy for loopback
	Agent string       // User-Agent; default "hansa"
}

// ErrNoAnswer says that the peer could not be asked at all.
var ErrNoAnswer = errors.New("the peer's admin API does not answer")

// NewClient is a client of the peer at addr: "host:port", ":port" or a URL. An
// empty addr is AddrDefault; an empty token is none.
func NewClient(addr, token string, o ClientOptions) (*Client, error) {
	base, err := parseAddr(addr)
	if err != nil {
		return nil, err
	}
	if o.HTTP == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.DialContext = (&net.Dialer{Timeout: dialTimeMax}).DialContext
		o.HTTP = &http.Client{Transport: transport}
	}
	if o.Agent == "" {
		o.Agent = "hansa"
	}
	return &Client{base: base, token: token, http: o.HTTP, agent: o.Agent}, nil
}

func parseAddr(addr string) (*url.URL, error) {
	if addr == "" {
		addr = AddrDefault
	}
	text := addr
	if !strings.Contains(text, "://") {
		if strings.HasPrefix(text, ":") {
			text = "127.0.0.1" + text
		}
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("API address %q: want host:port or a URL, for instance %s", addr, AddrDefault)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	u.RawQuery, u.Fragment = "", ""
	return u, nil
}

// URL is where the client asks.
func (c *Client) URL() string { return c.base.String() }

// call is one request.
type call struct {
	method string
	path   string // with segments escaped
	query  url.Values
	header http.Header
	body   io.Reader
	length int64 // of body, -1 unknown
}

// pathOf is a path of escaped segments.
func pathOf(segments ...string) string {
	var b strings.Builder
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}

// do sends a call; the caller closes the answer's body. Statuses from 400 are
// a *Problem.
func (c *Client) do(ctx context.Context, rq call) (*http.Response, error) {
	target := c.base.String() + rq.path
	if len(rq.query) > 0 {
		target += "?" + rq.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, rq.method, target, rq.body)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", c.base.Host, err)
	}
	if rq.body != nil && rq.length != 0 {
		req.ContentLength = rq.length
	}
	for name, values := range rq.header {
		req.Header[name] = values
	}
	req.Header.Set("User-Agent", c.agent)
	if c.token != "" && req.Header.Get("Authorization") == "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var uerr *url.Error
		if errors.As(err, &uerr) {
			err = uerr.Err // its text repeats the address
		}
		return nil, fmt.Errorf("%w at %s: %w", ErrNoAnswer, c.base, err)
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		return nil, readProblem(resp)
	}
	return resp, nil
}

// readProblem makes a *Problem of an answer, whoever gave it.
func readProblem(resp *http.Response) error {
	data, _ := io.ReadAll(io.LimitReader(resp.Body, problemBytesMax))
	var p Problem
	if json.Unmarshal(data, &p) != nil || p.Status == 0 {
		text := strings.TrimSpace(string(data))
		if text == "" || strings.HasPrefix(resp.Header.Get("Content-Type"), "text/html") {
			text = "the answer was " + resp.Status
		}
		p = Problem{Detail: short(text)}
	}
	p.Status = resp.StatusCode
	if p.Kind == "" {
		p.Kind = kindOfStatus(resp.StatusCode)
	}
	p.fill()
	return &p
}

// json sends a call and decodes the answer into out, unless that is nil.
func (c *Client) json(ctx context.Context, rq call, out any) (http.Header, int, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeMax, fmt.Errorf("%w within %v", ErrNoAnswer, callTimeMax))
	defer cancel()
	resp, err := c.do(ctx, rq)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && errors.Is(err, context.DeadlineExceeded) {
			return nil, 0, cause
		}
		return nil, 0, err
	}
	defer resp.Body.Close()
	if out == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, problemBytesMax)) // so that the connection is used again
		return resp.Header, resp.StatusCode, nil
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, answerBytesMax+1))
	if err != nil {
		return nil, 0, fmt.Errorf("%s %s: read the answer: %w", rq.method, rq.path, err)
	}
	if len(data) > answerBytesMax {
		return nil, 0, fmt.Errorf("%s %s: the answer is larger than %d bytes", rq.method, rq.path, answerBytesMax)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return nil, 0, fmt.Errorf("%s %s: is that a Hansa peer at %s? its answer can't be read: %w", rq.method, rq.path, c.base, err)
	}
	return resp.Header, resp.StatusCode, nil
}

func getJSON[T any](ctx context.Context, c *Client, path string, query url.Values) (T, error) {
	var out T
	_, _, err := c.json(ctx, call{method: http.MethodGet, path: path, query: query}, &out)
	return out, err
}

// all reads every page of a list, from page.After on, or one page when
// page.Limit is set.
func all[T any](ctx context.Context, c *Client, path string, query url.Values, page Page) (List[T], error) {
	if query == nil {
		query = url.Values{}
	}
	query.Set("limit", strconv.Itoa(pageLimitMax))
	if page.Limit > 0 {
		query.Set("limit", strconv.Itoa(page.Limit))
	}
	whole := List[T]{Items: []T{}, AsOf: map[string]time.Time{}}
	next := encodeCursor(page.After)
	for {
		if next != "" {
			query.Set("cursor", next)
		}
		l, err := getJSON[List[T]](ctx, c, path, query)
		if err != nil {
			return whole, err
		}
		whole.Items = append(whole.Items, l.Items...)
		for peer, at := range l.AsOf {
			// Of several pages, the oldest is what may be said of the whole.
			if have, ok := whole.AsOf[peer]; !ok || at.Before(have) {
				whole.AsOf[peer] = at
			}
		}
		if page.Limit > 0 {
			whole.Cursor = l.Cursor
			return whole, nil
		}
		if l.Cursor == "" || l.Cursor == next {
			return whole, nil
		}
		if len(whole.Items) > itemsMax {
			return whole, fmt.Errorf("GET %s: more than %d items: ask for less", path, itemsMax)
		}
		next = l.Cursor
	}
}

// Version says what build answers.
func (c *Client) Version(ctx context.Context) (VersionInfo, error) {
	return getJSON[VersionInfo](ctx, c, "/v1/version", nil)
}

// Mesh is the mesh as the peer sees it.
func (c *Client) Mesh(ctx context.Context) (Mesh, error) {
	return getJSON[Mesh](ctx, c, "/v1/mesh", nil)
}

// Peers are all peers.
func (c *Client) Peers(ctx context.Context, page Page) (List[Peer], error) {
	return all[Peer](ctx, c, "/v1/peers", nil, page)
}

// Sites are all sites.
func (c *Client) Sites(ctx context.Context, page Page) (List[Site], error) {
	return all[Site](ctx, c, "/v1/sites", nil, page)
}

// Hosts are all hosts.
func (c *Client) Hosts(ctx context.Context, page Page) (List[Host], error) {
	return all[Host](ctx, c, "/v1/hosts", nil, page)
}

// Conflicts are the apps of which more than one version stands.
func (c *Client) Conflicts(ctx context.Context, page Page) (List[Conflict], error) {
	return all[Conflict](ctx, c, "/v1/conflicts", nil, page)
}

// Apps are the apps that q selects.
func (c *Client) Apps(ctx context.Context, q AppQuery) (List[App], error) {
	return all[App](ctx, c, "/v1/apps", values("namespace", q.Namespace), q.Page)
}

// Allocations is what runs where, of what q selects.
func (c *Client) Allocations(ctx context.Context, q AllocationQuery) (List[Allocation], error) {
	v := values("namespace", q.Namespace, "app", q.App, "component", q.Component, "site", q.Site, "peer", q.Peer,
		"state", strings.Join(q.States, ","))
	return all[Allocation](ctx, c, "/v1/allocations", v, q.Page)
}

// Allocation is one allocation.
func (c *Client) Allocation(ctx context.Context, id string) (Allocation, error) {
	return getJSON[Allocation](ctx, c, pathOf("v1", "allocations", id), nil)
}

// Restart begins an allocation anew where it is. It returns the allocation as it
// was found right after.
func (c *Client) Restart(ctx context.Context, id string) (Allocation, error) {
	var out Allocation
	_, _, err := c.json(ctx, call{method: http.MethodPost, path: pathOf("v1", "allocations", id, "restart"), header: http.Header{}}, &out)
	return out, err
}

// values makes a query of pairs, without the empty ones.
func values(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	return v
}

func appURL(key placement.AppKey, more ...string) string {
	return pathOf(append([]string{"v1", "namespaces", key.Namespace, "apps", key.App}, more...)...)
}

// Invite makes a token that lets one newcomer in.
func (c *Client) Invite(ctx context.Context, req InviteRequest) (Invite, error) {
	var out Invite
	_, _, err := c.json(ctx, jsonCall(http.MethodPost, "/v1/invites", req), &out)
	return out, err
}

// Forget revokes a peer.
func (c *Client) Forget(ctx context.Context, peer string, withAdmitted bool) error {
	query := url.Values{}
	if withAdmitted {
		query.Set("with_admitted", "true")
	}
	_, _, err := c.json(ctx, call{method: http.MethodDelete, path: pathOf("v1", "peers", peer), query: query}, nil)
	return err
}

// ForgetForced is Forget, and goes on without the peer in the keeper lists that
// have lost their majority with it.
func (c *Client) ForgetForced(ctx context.Context, peer string, withAdmitted bool) (ForceResult, error) {
	query := url.Values{"force_epoch": {"true"}}
	if withAdmitted {
		query.Set("with_admitted", "true")
	}
	var out ForceResult
	_, _, err := c.json(ctx, call{method: http.MethodDelete, path: pathOf("v1", "peers", peer), query: query}, &out)
	return out, err
}

func jsonCall(method, path string, body any) call {
	data, err := json.Marshal(body)
	if err != nil { // types of this package and placement always encode
		panic(fmt.Sprintf("api: encode %T: %v", body, err))
	}
	return call{method: method, path: path, body: bytes.NewReader(data), length: int64(len(data)),
		header: http.Header{"Content-Type": {"application/json"}}}
}
