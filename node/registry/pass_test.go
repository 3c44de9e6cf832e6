package registry_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/hansa-mesh/hansa/node/registry"
)

// What another peer holds is passed on while it comes; a part of it, or what the
// client may have already, is brought here first.
func TestBlobsArePassedOn(t *testing.T) {
	for name, c := range map[string]struct {
		headers []string
		status  int
		body    string
		passed  int
	}{
		"all":    {nil, 200, "far away", 1},
		"a part": {[]string{"Range", "bytes=4-"}, 206, "away", 0},
		"known":  {[]string{"If-None-Match", `"` + describe("", "far away").Digest.String() + `"`}, 304, "", 0},
	} {
		p := newPeer(t, registry.Config{})
		d := describe("application/octet-stream", "far away").Digest.String()
		p.m.elsewhere[d] = []byte("far away")
		resp := p.do("GET", "/v2/app/blobs/"+d, nil, c.headers...)
		if got := p.want(resp, c.status, ""); got != c.body || p.m.passed != c.passed {
			t.Errorf("%s: %q, passed on %d times", name, got, p.m.passed)
		}
		if got := resp.Header.Get("Docker-Content-Digest"); got != d {
			t.Errorf("%s: the digest is %q", name, got)
		}
		if _, here := p.m.blobs[d]; !here {
			t.Errorf("%s: it is not here afterwards", name)
		}
	}
	p := newPeer(t, registry.Config{})
	p.want(p.do("GET", "/v2/app/blobs/"+describe("", "nowhere").Digest.String(), nil), 404, "BLOB_UNKNOWN")
}

// A client sees that what is passed on broke off, over HTTP/1 and HTTP/2.
func TestPassedOnAndBrokenOff(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		p := newPeer(t, registry.Config{})
		data := bytes.Repeat([]byte("x"), 1<<20)
		d := describe("", string(data)).Digest.String()
		p.m.elsewhere[d], p.m.breaks = data, 700_000
		server := httptest.NewUnstartedServer(p.h)
		server.EnableHTTP2 = http2
		server.StartTLS()
		defer server.Close()
		r, err := http.NewRequestWithContext(t.Context(), "GET", server.URL+"/v2/app/blobs/"+d, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err == nil || resp.StatusCode != http.StatusOK || resp.ContentLength != int64(len(data)) || len(got) >= len(data) {
			t.Errorf("HTTP/%d: %s, %d of %d bytes, %v", resp.ProtoMajor, resp.Status, len(got), resp.ContentLength, err)
		}
	}
}
