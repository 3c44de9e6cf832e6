package registry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	digests "github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/image"
	"github.com/hansa-mesh/hansa/node/registry"
)

// peer is a registry over memory, and a client of it.
type peer struct {
	t *testing.T
	m *memory
	h http.Handler
}

func newPeer(t *testing.T, cfg registry.Config) *peer {
	m := newMemory()
	cfg.Blobs, cfg.Mesh, cfg.Names = m, m, m
	return &peer{t, m, registry.New(cfg)}
}

// do sends a request; headers are pairs.
func (p *peer) do(method, path string, body []byte, headers ...string) *http.Response {
	p.t.Helper()
	r := httptest.NewRequest(method, "http://peer/", bytes.NewReader(body))
	r.URL.Path, r.URL.RawQuery, _ = strings.Cut(path, "?")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	p.h.ServeHTTP(w, r)
	return w.Result()
}

// want checks a status and the code of an error, and that it says what to do or
// what is wrong in the specification's form.
func (p *peer) want(resp *http.Response, status int, code string) string {
	p.t.Helper()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	if resp.StatusCode != status {
		p.t.Fatalf("status %d, want %d: %s", resp.StatusCode, status, data)
	}
	if code == "" {
		return string(data)
	}
	var e struct {
		Errors []struct{ Code, Message, Detail string }
	}
	if err := json.Unmarshal(data, &e); err != nil || len(e.Errors) != 1 {
		p.t.Fatalf("no error of the specification's form: %v: %s", err, data)
	}
	if e.Errors[0].Code != code || e.Errors[0].Message == "" {
		p.t.Fatalf("%+v, want code %s and a message", e.Errors[0], code)
	}
	return e.Errors[0].Message + "\n" + e.Errors[0].Detail
}

// blob pushes a blob, and is what describes it.
func (p *peer) blob(data string) ocispec.Descriptor {
	p.t.Helper()
	d := describe("application/octet-stream", data)
	p.want(p.do("POST", "/v2/app/blobs/uploads/?digest="+d.Digest.String(), []byte(data)), 201, "")
	return d
}

func describe(mediaType, data string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digests.FromString(data), Size: int64(len(data))}
}

func manifest(t *testing.T, config ocispec.Descriptor, subject *ocispec.Descriptor, layers ...ocispec.Descriptor) []byte {
	t.Helper()
	data, err := json.Marshal(ocispec.Manifest{Versioned: ocispecs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		ArtifactType: "application/test", Config: config, Layers: layers, Subject: subject})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func index(t *testing.T, children ...ocispec.Descriptor) []byte {
	t.Helper()
	data, err := json.Marshal(ocispec.Index{Versioned: ocispecs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: children})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

const asManifest, asIndex = ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex

// image pushes an image of one layer under a tag.
func (p *peer) image(repository, tag, layer string) []byte {
	p.t.Helper()
	data := manifest(p.t, p.blob("{}"), nil, p.blob(layer))
	p.want(p.do("PUT", "/v2/"+repository+"/manifests/"+tag, data, "Content-Type", asManifest), 201, "")
	return data
}

func TestPathGames(t *testing.T) {
	p := newPeer(t, registry.Config{})
	hex := strings.Repeat("a", 64)
	for path, want := range map[string]string{
		"/v2/../../etc/passwd":    "404 UNSUPPORTED",
		"/v2x/":                   "404 UNSUPPORTED",
		"/v2/app":                 "404 UNSUPPORTED",
		"/v2//manifests/x":        "400 NAME_INVALID",
		"/v2/../manifests/x":      "400 NAME_INVALID",
		"/v2/a/../b/manifests/x":  "400 NAME_INVALID",
		"/v2/App/manifests/x":     "400 NAME_INVALID",
		"/v2/a__b..c/manifests/x": "400 NAME_INVALID",
		"/v2/a b/manifests/x":     "400 NAME_INVALID",
		"/v2/a\x00b/manifests/x":  "400 NAME_INVALID",
		"/v2/" + strings.Repeat("a/", 200) + "a/manifests/x":  "400 NAME_INVALID",
		"/v2/app/manifests/..":                                "400 TAG_INVALID",
		"/v2/app/manifests/-x":                                "400 TAG_INVALID",
		"/v2/app/manifests/" + strings.Repeat("x", 129):       "400 TAG_INVALID",
		"/v2/app/manifests/":                                  "400 TAG_INVALID",
		"/v2/app/manifests/x/../y":                            "404 UNSUPPORTED",
		"/v2/app/manifests/sha256:" + hex[1:]:                 "400 DIGEST_INVALID",
		"/v2/app/manifests/md5:" + hex[:32]:                   "400 DIGEST_INVALID",
		"/v2/app/manifests/sha256:../../x":                    "404 UNSUPPORTED",
		"/v2/app/blobs/sha256:" + strings.ToUpper(hex):        "400 DIGEST_INVALID",
		"/v2/app/blobs/..":                                    "400 DIGEST_INVALID",
		"/v2/app/blobs/sha512:" + hex:                         "400 DIGEST_INVALID",
		"/v2/app/referrers/latest":                            "400 DIGEST_INVALID",
		"/v2/app/blobs/uploads/..":                            "404 BLOB_UPLOAD_UNKNOWN",
		"/v2/app/blobs/uploads/nobody":                        "404 BLOB_UPLOAD_UNKNOWN",
		"/v2/app/blobs/uploads/" + strings.Repeat("x", 10000): "404 BLOB_UPLOAD_UNKNOWN",
		"/v2/app/blobs/sha256:" + hex:                         "404 BLOB_UNKNOWN",
		"/v2/app/manifests/sha256:" + hex:                     "404 MANIFEST_UNKNOWN",
		"/v2/app/manifests/1.0":                               "404 MANIFEST_UNKNOWN",
		"/v2/app/tags/list":                                   "404 NAME_UNKNOWN",
	} {
		status, code, _ := strings.Cut(want, " ")
		n, _ := strconv.Atoi(status)
		text := p.want(p.do("GET", path, nil), n, code)
		if len(text) > 600 {
			t.Errorf("%.60s: the error repeats %d characters", path, len(text))
		}
	}
	p.want(p.do("POST", "/v2/app/manifests/x", nil), 405, "UNSUPPORTED")
	p.want(p.do("BREW", "/v2/", nil), 405, "UNSUPPORTED")
}

// A repository may have parts that are called like parts of the protocol.
func TestRepositoriesCalledLikeThePathsOfTheProtocol(t *testing.T) {
	p := newPeer(t, registry.Config{})
	for _, repository := range []string{"blobs/manifests", "v2/blobs/uploads/x", "tags/list/a", "referrers"} {
		data := p.image(repository, "tags", "of "+repository)
		if got := p.want(p.do("GET", "/v2/"+repository+"/manifests/tags", nil), 200, ""); got != string(data) {
			t.Errorf("%s: got %q", repository, got)
		}
		if got := p.want(p.do("GET", "/v2/"+repository+"/tags/list", nil), 200, ""); !strings.Contains(got, `["tags"]`) {
			t.Errorf("%s: %s", repository, got)
		}
	}
	if got := p.want(p.do("GET", "/v2/_catalog?n=2", nil), 200, ""); !strings.Contains(got, `["blobs/manifests","referrers"]`) {
		t.Errorf("catalog: %s", got)
	}
}

func TestUploadsAreBounded(t *testing.T) {
	p := newPeer(t, registry.Config{BlobMax: 1000})
	big := bytes.Repeat([]byte("x"), 1001)
	digest := digests.FromBytes(big).String()
	p.want(p.do("POST", "/v2/app/blobs/uploads/?digest="+digest, big), 413, "SIZE_INVALID")

	// One that does not say how long it is, and does not end.
	start := p.do("POST", "/v2/app/blobs/uploads/", nil)
	p.want(start, 202, "")
	r := httptest.NewRequest("PATCH", start.Header.Get("Location"), endless{})
	r.ContentLength = -1
	w := httptest.NewRecorder()
	p.h.ServeHTTP(w, r)
	p.want(w.Result(), 413, "SIZE_INVALID")
	p.want(p.do("GET", start.Header.Get("Location"), nil), 404, "BLOB_UPLOAD_UNKNOWN")

	for range uploadsMax {
		p.want(p.do("POST", "/v2/app/blobs/uploads/", nil), 202, "")
	}
	resp := p.do("POST", "/v2/app/blobs/uploads/", nil)
	p.want(resp, 429, "TOOMANYREQUESTS")
	if resp.Header.Get("Retry-After") == "" {
		t.Error("nothing says when to try again")
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestWrongDigestsAndRanges(t *testing.T) {
	p := newPeer(t, registry.Config{})
	other := digests.FromString("other").String()
	p.want(p.do("POST", "/v2/app/blobs/uploads/?digest="+other, []byte("bytes")), 400, "DIGEST_INVALID")
	p.want(p.do("POST", "/v2/app/blobs/uploads/?digest=sha256:x", []byte("bytes")), 400, "DIGEST_INVALID")
	p.want(p.do("POST", "/v2/app/blobs/uploads/?mount=x&from=y", nil), 400, "DIGEST_INVALID")
	p.want(p.do("POST", "/v2/app/blobs/uploads/?from=..&mount="+other, nil), 400, "NAME_INVALID")
	p.want(p.do("GET", "/v2/app/blobs/"+other, nil), 404, "BLOB_UNKNOWN")

	at := p.do("POST", "/v2/app/blobs/uploads/", nil).Header.Get("Location")
	p.want(p.do("PATCH", at, []byte("01234"), "Content-Range", "0-4"), 202, "")
	for header, want := range map[string]string{
		"5": "400 BLOB_UPLOAD_INVALID", "x-y": "400 BLOB_UPLOAD_INVALID", "9-5": "400 BLOB_UPLOAD_INVALID",
		"-5-9": "400 BLOB_UPLOAD_INVALID", "5-99999999999999999999": "400 BLOB_UPLOAD_INVALID",
		"5-6": "400 SIZE_INVALID", "7-11": "416 BLOB_UPLOAD_INVALID", "0-4": "416 BLOB_UPLOAD_INVALID",
	} {
		status, code, _ := strings.Cut(want, " ")
		n, _ := strconv.Atoi(status)
		resp := p.do("PATCH", at, []byte("56789"), "Content-Range", header)
		p.want(resp, n, code)
		if n == 416 && resp.Header.Get("Range") != "0-4" {
			t.Errorf("%s: the answer does not say where to go on: %v", header, resp.Header)
		}
	}
	p.want(p.do("PUT", at+"?digest="+digests.FromString("0123456789").String(), []byte("56789"), "Content-Range", "5-9"), 201, "")
	p.want(p.do("PUT", at+"?digest="+other, nil), 404, "BLOB_UPLOAD_UNKNOWN")
}

func TestManifestsAreChecked(t *testing.T) {
	p := newPeer(t, registry.Config{})
	put := func(data []byte, mediaType string) *http.Response {
		return p.do("PUT", "/v2/app/manifests/latest", data, "Content-Type", mediaType)
	}
	config, layer := p.blob("{}"), p.blob("layer")
	absent := describe("application/octet-stream", "nobody has this")
	short := layer
	short.Size--
	p.want(put([]byte("{"), asManifest), 400, "MANIFEST_INVALID")
	p.want(put([]byte(`{"schemaVersion":1}`), asManifest), 400, "MANIFEST_INVALID")
	p.want(put(manifest(t, config, nil, layer), asIndex), 400, "MANIFEST_INVALID")
	p.want(put(manifest(t, config, nil, short), asManifest), 400, "MANIFEST_INVALID")
	p.want(put([]byte(`{"schemaVersion":2,"config":{"digest":"sha256:../x"}}`), asManifest), 400, "MANIFEST_INVALID")
	if text := p.want(put(manifest(t, config, nil, layer, absent), asManifest), 404, "MANIFEST_BLOB_UNKNOWN"); !strings.Contains(text, absent.Digest.String()) {
		t.Errorf("the error does not name the blob: %s", text)
	}
	p.want(put(bytes.Repeat([]byte(" "), image.ManifestMax+1), asManifest), 413, "SIZE_INVALID")

	// An index is refused for what is missing under its children, too.
	hollow := string(manifest(t, config, nil, absent))
	p.m.blobs[digests.FromString(hollow).String()] = []byte(hollow)
	p.want(put(index(t, describe(asManifest, hollow)), asIndex), 404, "MANIFEST_BLOB_UNKNOWN")

	// Indexes within indexes without an end.
	inner := string(manifest(t, config, nil, layer))
	mediaType := asManifest
	for range image.DepthMax + 1 {
		p.m.blobs[digests.FromString(inner).String()] = []byte(inner)
		inner, mediaType = string(index(t, describe(mediaType, inner))), asIndex
	}
	p.want(put([]byte(inner), asIndex), 400, "MANIFEST_INVALID")

	if len(p.m.names) > 0 {
		t.Errorf("names were made: %v", p.m.names)
	}
	p.want(p.do("PUT", "/v2/app/manifests/"+digests.FromString("x").String(), manifest(t, config, nil, layer)), 400, "DIGEST_INVALID")
	many := "?tag=a" + strings.Repeat("&tag=b", 40)
	data := manifest(t, config, nil, layer)
	p.want(p.do("PUT", "/v2/app/manifests/"+digests.FromBytes(data).String()+many, data), 414, "TAG_INVALID")
	p.want(p.do("PUT", "/v2/app/manifests/"+digests.FromBytes(data).String()+"?tag=..", data), 400, "TAG_INVALID")
}

// What a mesh says when it can't take a push, and that nothing is there then.
func TestPushThatTheMeshRefuses(t *testing.T) {
	p := newPeer(t, registry.Config{})
	data := manifest(t, p.blob("{}"), nil, p.blob("layer"))
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{fmt.Errorf("%w: 1 of 2", registry.ErrCopies), 503, "DENIED"},
		{fmt.Errorf("%w: by a policy", registry.ErrDenied), 403, "DENIED"},
		{registry.ErrConflict, 409, "DENIED"},
		{fmt.Errorf("/var/lib/secret: broken"), 500, "UNKNOWN"},
	} {
		p.m.putErr = c.err
		text := p.want(p.do("PUT", "/v2/app/manifests/1", data, "Content-Type", asManifest), c.status, c.code)
		if strings.Contains(text, "secret") {
			t.Errorf("the client is told of the peer's own: %s", text)
		}
		p.want(p.do("GET", "/v2/app/manifests/1", nil), 404, "MANIFEST_UNKNOWN")
	}
	p.m.putErr, p.m.commitErr = nil, fmt.Errorf("%w on the disk", registry.ErrNoRoom)
	p.want(p.do("POST", "/v2/app/blobs/uploads/?digest="+digests.FromString("x").String(), []byte("x")), 507, "DENIED")
}

func TestWhatIsUsedIsNotDeleted(t *testing.T) {
	p := newPeer(t, registry.Config{})
	data := p.image("app", "1", "layer")
	layer := digests.FromString("layer").String()
	if text := p.want(p.do("DELETE", "/v2/app/blobs/"+layer, nil), 405, "UNSUPPORTED"); !strings.Contains(text, "app:1") {
		t.Errorf("the error does not say what uses it: %s", text)
	}
	p.want(p.do("GET", "/v2/app/blobs/"+layer, nil), 200, "")
	p.want(p.do("PUT", "/v2/app/manifests/2", data), 201, "")
	p.want(p.do("PUT", "/v2/other/manifests/1", data), 201, "")
	p.want(p.do("DELETE", "/v2/app/manifests/"+digests.FromBytes(data).String(), nil), 202, "")
	p.want(p.do("GET", "/v2/app/tags/list", nil), 404, "NAME_UNKNOWN")
	if got := p.want(p.do("GET", "/v2/other/manifests/1", nil), 200, ""); got != string(data) {
		t.Errorf("other:1 is %q", got)
	}
	p.want(p.do("DELETE", "/v2/other/manifests/"+digests.FromBytes(data).String(), nil), 202, "")
	p.want(p.do("DELETE", "/v2/app/blobs/"+layer, nil), 202, "")
	p.want(p.do("GET", "/v2/app/blobs/"+layer, nil), 404, "BLOB_UNKNOWN")
}

// What other peers hold is served here, and is not pushed again.
func TestBlobsOfOtherPeers(t *testing.T) {
	p := newPeer(t, registry.Config{})
	d := describe("application/octet-stream", "far")
	p.m.elsewhere[d.Digest.String()] = []byte("far")
	head := p.do("HEAD", "/v2/app/blobs/"+d.Digest.String(), nil)
	p.want(head, 200, "")
	if head.ContentLength != 3 && head.Header.Get("Content-Length") != "3" {
		t.Errorf("HEAD says %v", head.Header)
	}
	if len(p.m.blobs) > 0 {
		t.Error("a HEAD brought the blob here")
	}
	p.want(p.do("POST", "/v2/app/blobs/uploads/?mount="+d.Digest.String(), nil), 201, "")
	p.want(p.do("PUT", "/v2/app/manifests/1", manifest(t, p.blob("{}"), nil, d)), 201, "")
	if _, here := p.m.blobs[d.Digest.String()]; !here {
		t.Error("a name was put before all under it was here")
	}
	if got := p.want(p.do("GET", "/v2/app/blobs/"+d.Digest.String(), nil, "Range", "bytes=1-"), 206, ""); got != "ar" {
		t.Errorf("got %q", got)
	}
}

func TestTagPages(t *testing.T) {
	p := newPeer(t, registry.Config{})
	data := p.image("app", "t0", "layer")
	for i := 1; i < 7; i++ {
		p.want(p.do("PUT", fmt.Sprintf("/v2/app/manifests/t%d", i), data), 201, "")
	}
	p.want(p.do("PUT", "/v2/app/manifests/"+digests.FromBytes(data).String(), data), 201, "")
	var got []string
	for at := "/v2/app/tags/list?n=3"; at != ""; {
		resp := p.do("GET", at, nil)
		var list struct{ Tags []string }
		if err := json.Unmarshal([]byte(p.want(resp, 200, "")), &list); err != nil || len(list.Tags) > 3 {
			t.Fatalf("%v: %v", err, list)
		}
		got = append(got, list.Tags...)
		at, _, _ = strings.Cut(strings.TrimPrefix(resp.Header.Get("Link"), "<"), ">")
	}
	if want := []string{"t0", "t1", "t2", "t3", "t4", "t5", "t6"}; !slices.Equal(got, want) {
		t.Errorf("pages: %v", got)
	}
	if resp := p.do("GET", "/v2/app/tags/list?n=0", nil); p.want(resp, 200, "") != `{"name":"app","tags":[]}`+"\n" || resp.Header.Get("Link") != "" {
		t.Errorf("n=0: %v", resp.Header)
	}
	p.want(p.do("GET", "/v2/app/tags/list?n=-1", nil), 400, "UNSUPPORTED")
	p.want(p.do("GET", "/v2/app/tags/list?n=x", nil), 400, "UNSUPPORTED")
}

// A signature is found from what it signs, also when its tag moved on, and comes
// in pages.
func TestReferrers(t *testing.T) {
	p := newPeer(t, registry.Config{})
	subject := describe(asManifest, string(p.image("app", "1", "layer")))
	const n = 205
	for i := range n {
		signature := manifest(t, p.blob("{}"), &subject, p.blob(fmt.Sprint("signature ", i)))
		p.want(p.do("PUT", "/v2/app/manifests/sig", signature, "Content-Type", asManifest), 201, "")
	}
	found := map[digests.Digest]bool{}
	for at := "/v2/app/referrers/" + subject.Digest.String() + "?artifactType=application/test"; at != ""; {
		resp := p.do("GET", at, nil)
		var list ocispec.Index
		if err := json.Unmarshal([]byte(p.want(resp, 200, "")), &list); err != nil {
			t.Fatal(err)
		}
		for _, d := range list.Manifests {
			if d.ArtifactType != "application/test" || d.MediaType != asManifest || d.Size == 0 {
				t.Fatalf("%+v", d)
			}
			found[d.Digest] = true
		}
		if resp.Header.Get("OCI-Filters-Applied") != "artifactType" {
			t.Errorf("the filter is not told: %v", resp.Header)
		}
		at, _, _ = strings.Cut(strings.TrimPrefix(resp.Header.Get("Link"), "<"), ">")
	}
	if len(found) != n {
		t.Errorf("found %d of %d", len(found), n)
	}
	if got := p.want(p.do("GET", "/v2/app/referrers/"+subject.Digest.String()+"?artifactType=other", nil), 200, ""); !strings.Contains(got, `"manifests":[]`) {
		t.Errorf("of another type: %s", got)
	}
}
