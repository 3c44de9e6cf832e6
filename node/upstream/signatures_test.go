package upstream_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	digests "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/signature"
	"github.com/hansa-mesh/hansa/node/upstream"
)

// send sends something to the registry, which must take it.
func (s *server) send(t *testing.T, method, path, mediaType string, data []byte) {
	t.Helper()
	rq, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	rq.Header.Set("Content-Type", mediaType)
	answer, err := http.DefaultClient.Do(rq)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusCreated {
		t.Fatalf("%s %s: %s", method, path, answer.Status)
	}
}

// sign puts a signature of an image there: under the tag for it, or referring to it.
func (s *server) sign(t *testing.T, repository, digest string, refers bool) crypto.PublicKey {
	t.Helper()
	public, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	none := func(context.Context, ocispec.Descriptor, int64) ([]byte, error) { return nil, io.EOF }
	top, blobs, err := signature.Sign(t.Context(), key, signature.Subject{Repository: repository, Digest: digest}, nil, none)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blobs {
		s.send(t, http.MethodPost, fmt.Sprintf("/v2/%s/blobs/uploads/?digest=%s", repository, b.Descriptor.Digest), "application/octet-stream", b.Data)
	}
	reference, data := signature.Tag(digest), top.Data
	if refers {
		var m ocispec.Manifest
		if err := json.Unmarshal(data, &m); err != nil {
			t.Fatal(err)
		}
		m.Subject = &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digests.Digest(digest), Size: 1}
		if data, err = json.Marshal(m); err != nil {
			t.Fatal(err)
		}
		reference = digests.FromBytes(data).String()
	}
	s.send(t, http.MethodPut, "/v2/"+repository+"/manifests/"+reference, top.Descriptor.MediaType, data)
	return public
}

// Signatures are found under their tag and by what they refer to, and nothing else of
// the image is asked for; a registry that has none, knows no such question or answers
// with something else has none, and one that is silent is told as that.
func TestSignatures(t *testing.T) {
	s, to := newServer(t), newStore(t)
	index := s.push(t, "shop/api:1", "linux/amd64")
	hash, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	digest := hash.String()
	ref, err := upstream.Parse(s.name("shop/api@" + digest))
	if err != nil {
		t.Fatal(err)
	}
	registries := upstream.New(upstream.Config{AnswerMax: time.Second, QuietMax: time.Second})
	defer registries.Close()
	ask := func() ([]upstream.Signatures, *upstream.Repository, error) {
		repo, err := registries.Open(t.Context(), ref, upstream.Credentials{})
		if err != nil {
			t.Fatal(err)
		}
		found, err := repo.Signatures(t.Context(), digest)
		return found, repo, err
	}
	if found, _, err := ask(); err != nil || len(found) != 0 {
		t.Errorf("of none: %d, %v", len(found), err)
	}
	keys := []crypto.PublicKey{s.sign(t, "shop/api", digest, false), s.sign(t, "shop/api", digest, true)}
	found, repo, err := ask()
	if err != nil || len(found) != 2 || found[0].Tag != signature.Tag(digest) || found[1].Tag != "" {
		t.Fatalf("%+v, %v", found, err)
	}
	for i, f := range found {
		if err := repo.PullSignatures(t.Context(), to, f); err != nil {
			t.Fatal(err)
		}
		sigs, err := signature.Read(t.Context(), f.Manifest, func(_ context.Context, d ocispec.Descriptor, most int64) ([]byte, error) {
			file, _, err := to.Open(d.Digest.String())
			if err != nil {
				return nil, err
			}
			defer file.Close()
			return io.ReadAll(io.LimitReader(file, most))
		})
		if err == nil {
			err = signature.Check(sigs, signature.Subject{Repository: "shop/api", Digest: digest}, keys[i:i+1])
		}
		if err != nil || !to.Has(f.Digest()) {
			t.Errorf("signature %d: %v", i+1, err)
		}
	}
	if to.Has(digest) {
		t.Error("the image came with them")
	}

	is := func(r *http.Request, what string) bool { return strings.Contains(r.URL.Path, what) }
	for name, c := range map[string]struct {
		change func(w http.ResponseWriter, r *http.Request) bool
		want   int
		fails  bool
	}{
		"it knows no referrers": {func(w http.ResponseWriter, r *http.Request) bool {
			if is(r, "/referrers/") {
				http.Error(w, "what?", http.StatusMethodNotAllowed)
			}
			return is(r, "/referrers/")
		}, 1, false},
		"it hides the tag": {func(w http.ResponseWriter, r *http.Request) bool {
			if is(r, ".sig") {
				http.Error(w, "{}", http.StatusForbidden)
			}
			return is(r, ".sig")
		}, 1, false},
		"no index": {func(w http.ResponseWriter, r *http.Request) bool {
			if is(r, "/referrers/") {
				_, _ = io.WriteString(w, "<html>")
			}
			return is(r, "/referrers/")
		}, 1, false},
		"no image of signatures": {func(w http.ResponseWriter, r *http.Request) bool {
			if is(r, ".sig") {
				_, _ = io.WriteString(w, `{"schemaVersion":2,"layers":[]}`)
			}
			return is(r, ".sig")
		}, 1, false},
		"it fails": {func(w http.ResponseWriter, r *http.Request) bool {
			if is(r, ".sig") {
				http.Error(w, "{}", http.StatusInternalServerError)
			}
			return is(r, ".sig")
		}, 0, true},
	} {
		s.change(c.change)
		if found, _, err := ask(); len(found) != c.want || (err != nil) != c.fails {
			t.Errorf("%s: %d, %v", name, len(found), err)
		}
	}
}
