package api_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/api/apitest"
)

func TestGuardOnLoopback(t *testing.T) {
	b := serve(t, func(c *api.Config) { c.AllowedHosts = []string{"Hansa.Example."} })
	for _, c := range []struct {
		name, method string
		header       []string
		status       int
	}{
		{"plain", "GET", nil, 200},
		{"localhost", "GET", []string{"Host", "localhost:7601"}, 200},
		{"ipv6", "GET", []string{"Host", "[::1]:7601"}, 200},
		{"allowed", "GET", []string{"Host", "hansa.example:7601"}, 200},
		{"rebound", "GET", []string{"Host", "evil.example:7601"}, 421},
		{"loopback in a name", "GET", []string{"Host", "127.0.0.1.evil.example"}, 421},
		{"another address", "GET", []string{"Host", "10.0.0.1"}, 421},
		{"reading from elsewhere", "GET", []string{"Origin", "https://evil.example"}, 200},
		{"other origin", "DELETE", []string{"Origin", "https://evil.example"}, 403},
		{"null origin", "DELETE", []string{"Origin", "null"}, 403},
		{"cross site", "DELETE", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"same site is another port", "DELETE", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"own page", "DELETE", []string{"Sec-Fetch-Site", "same-origin"}, 404},
		{"no browser", "DELETE", nil, 404},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := "/v1/mesh"
			if c.method == "DELETE" {
				path = shopPath
			}
			if resp, body := b.do(t, c.method, path, "", c.header...); resp.StatusCode != c.status {
				t.Errorf("got %d, want %d: %s", resp.StatusCode, c.status, body)
			}
		})
	}
	resp, body := b.do(t, "GET", "/v1/functions/default/shop/f/", "", "Sec-Fetch-Site", "cross-site")
	problem(t, resp, body, 403, api.KindForbidden)
	resp, _ = b.do(t, "GET", "/v1/mesh", "", "Origin", "https://evil.example")
	if resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("an answer can be read by another origin")
	}
}

const secret = "a-long-enough-secret"

func TestToken(t *testing.T) {
	b := serve(t, func(c *api.Config) { c.Token = secret })
	resp, body := b.do(t, "GET", "/v1/mesh", "")
	problem(t, resp, body, 401, api.KindToken, "--token")
	if resp.Header.Get("WWW-Authenticate") == "" {
		t.Error("401 without WWW-Authenticate")
	}
	for _, auth := range []string{"Bearer wrong", "Bearer ", "Basic " + secret, secret, "Bearer " + secret + "x"} {
		if resp, _ := b.do(t, "GET", "/v1/mesh", "", "Authorization", auth); resp.StatusCode != 401 {
			t.Errorf("%q: %d", auth, resp.StatusCode)
		}
	}
	for _, path := range []string{"/metrics", "/debug/state", "/debug/pprof/", "/openapi.json", "/"} {
		if resp, _ := b.do(t, "GET", path, ""); resp.StatusCode != 401 {
			t.Errorf("%s without a token: %d", path, resp.StatusCode)
		}
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if resp, _ := b.do(t, "GET", path, ""); resp.StatusCode != 200 {
			t.Errorf("%s: %d", path, resp.StatusCode)
		}
	}
	if _, err := b.client.Mesh(t.Context()); err != nil {
		t.Error(err)
	}
	if strings.Contains(b.log.String(), secret) {
		t.Error("the token is in the log")
	}
}

func TestOpenAddressNeedsTLSAndToken(t *testing.T) {
	cert := &tls.Config{MinVersion: tls.VersionTLS13}
	for _, c := range []struct {
		cfg api.Config
		err string
	}{
		{api.Config{Addr: "0.0.0.0:7601"}, "TLS and a token"},
		{api.Config{Addr: ":7601"}, "TLS and a token"},
		{api.Config{Addr: "10.1.2.3:7601", Token: secret}, "TLS and a token"},
		{api.Config{Addr: "[::]:7601", TLS: cert}, "TLS and a token"},
		{api.Config{Addr: "example.org:7601"}, "TLS and a token"},
		{api.Config{Addr: "0.0.0.0:7601", Token: secret, TLS: cert}, ""},
		{api.Config{Addr: "127.0.0.1:7601"}, ""},
		{api.Config{Addr: "[::1]:7601"}, ""},
		{api.Config{Addr: "[::ffff:127.0.0.1]:7601"}, ""},
		{api.Config{Addr: "localhost:7601"}, ""},
		{api.Config{Addr: "127.0.0.1"}, "want host:port"},
		{api.Config{Token: "short"}, "at least 16"},
	} {
		c.cfg.Backend = apitest.New()
		_, err := api.New(c.cfg)
		if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, want %q", c.cfg.Addr, err, c.err)
		}
	}
}

func TestOverTLS(t *testing.T) {
	certs := httptest.NewUnstartedServer(nil)
	certs.StartTLS() // for its certificate alone
	defer certs.Close()
	backend := apitest.New()
	s, err := api.New(api.Config{Backend: backend, Addr: "127.0.0.1:0", Token: secret, TLS: &tls.Config{Certificates: certs.TLS.Certificates}})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Listen(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	browser := certs.Client()
	browser.Transport.(*http.Transport).ForceAttemptHTTP2 = true
	c, err := api.NewClient("https://"+s.Addr(), secret, api.ClientOptions{HTTP: browser})
	if err != nil {
		t.Fatal(err)
	}
	backend.Happen(api.Event{Type: "first"})
	err = c.WatchEvents(t.Context(), api.EventQuery{Page: api.Page{After: "0"}}, func(e api.Event) error {
		if e.ID == "3" {
			return context.Canceled
		}
		backend.Happen(api.Event{Type: "next"})
		return nil
	}, nil)
	if err != context.Canceled {
		t.Errorf("events over TLS: %v", err)
	}
	resp, err := c.Invoke(t.Context(), shopKey, "f", "GET", "", nil, nil)
	if err != nil || resp.ProtoMajor != 2 || resp.StatusCode != 404 {
		t.Errorf("%v %v", resp, err)
	} else {
		resp.Body.Close()
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRequestsAreBounded(t *testing.T) {
	b := serve(t, func(c *api.Config) { c.RequestsMax = 1 })
	req, err := http.NewRequestWithContext(t.Context(), "GET", b.http.URL+"/v1/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	stream, err := http.DefaultClient.Do(req) // one is open now
	if err != nil {
		t.Fatal(err)
	}
	resp, body := b.do(t, "GET", "/v1/mesh", "")
	problem(t, resp, body, 429, api.KindLimit)
	if resp.Header.Get("Retry-After") == "" {
		t.Error("429 without Retry-After")
	}
	if resp, _ := b.do(t, "GET", "/healthz", ""); resp.StatusCode != 200 {
		t.Errorf("healthz: %d", resp.StatusCode)
	}
	if err := stream.Body.Close(); err != nil {
		t.Fatal(err)
	}
}
