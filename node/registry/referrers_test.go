package registry_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/registry"
)

// Whoever may push has no list of referrers grow without a bound: what is long goes on
// pages, and what is too long for a list is left out of it.
func TestReferrersAreBounded(t *testing.T) {
	p := newPeer(t, registry.Config{})
	subject := describe(asManifest, string(p.image("app", "1", "layer")))
	put := func(annotation string, tag int) digests.Digest {
		t.Helper()
		data := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"artifactType":"application/test","config":{"mediaType":"x","digest":%q,"size":2},"layers":[],`+
			`"subject":{"mediaType":%q,"digest":%q,"size":%d},"annotations":{"a":%q,"n":"%d"}}`,
			asManifest, p.blob("{}").Digest, asManifest, subject.Digest, subject.Size, annotation, tag)
		p.want(p.do(http.MethodPut, fmt.Sprintf("/v2/app/manifests/r%d", tag), data, "Content-Type", asManifest), 201, "")
		return digests.FromBytes(data)
	}
	text := strings.Repeat("<", 60<<10)
	want := map[digests.Digest]string{}
	for i := range 100 {
		want[put(text, i)] = text
	}
	want[put(strings.Repeat("x", 1<<20), 100)] = ""
	got, pages := map[digests.Digest]string{}, 0
	for at := "/v2/app/referrers/" + subject.Digest.String(); at != ""; pages++ {
		resp := p.do(http.MethodGet, at, nil)
		body := p.want(resp, 200, "")
		if len(body) > 4<<20+128<<10 {
			t.Errorf("an answer of %d bytes", len(body))
		}
		var list ocispec.Index
		if err := json.Unmarshal([]byte(body), &list); err != nil {
			t.Fatal(err)
		}
		for _, d := range list.Manifests {
			got[d.Digest] = d.Annotations["a"]
		}
		at, _, _ = strings.Cut(strings.TrimPrefix(resp.Header.Get("Link"), "<"), ">")
	}
	if !maps.Equal(got, want) || pages < 2 {
		t.Errorf("%d of %d on %d pages, or not what they say of themselves: lost %v", len(got), len(want), pages,
			slices.DeleteFunc(slices.Collect(maps.Keys(want)), func(d digests.Digest) bool { return got[d] == want[d] }))
	}
}
