package api

import (
	"fmt"
	"net/http"
	"strings"
)

// Registry is where the peer's registry answers, and what to ask it through: with
// the client's token, and under the path of its URL.
func (c *Client) Registry() (host string, insecure bool, transport http.RoundTripper) {
	return c.base.Host, c.base.Scheme == "http", registryTransport{c}
}

type registryTransport struct{ client *Client }

// RoundTrip asks the peer as the client does. What leads elsewhere is not shown the
// token.
func (t registryTransport) RoundTrip(rq *http.Request) (*http.Response, error) {
	c := t.client
	rq = rq.Clone(rq.Context()) // a transport changes no request
	rq.Header.Set("User-Agent", c.agent)
	if rq.URL.Host == c.base.Host && rq.URL.Scheme == c.base.Scheme {
		if c.token != "" {
			rq.Header.Set("Authorization", "Bearer "+c.token)
		}
		if c.base.Path != "" && !strings.HasPrefix(rq.URL.Path, c.base.Path+"/") {
			rq.URL.Path = c.base.Path + rq.URL.Path
		}
	}
	next := c.http.Transport
	if next == nil {
		next = http.DefaultTransport
	}
	resp, err := next.RoundTrip(rq)
	if err != nil && rq.Context().Err() == nil {
		return nil, fmt.Errorf("%w at %s: %w", ErrNoAnswer, c.base, err)
	}
	return resp, err
}
