package api_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/api/apitest"
)

// withImages is a server whose registry answers with what it was asked.
func withImages(t *testing.T, token string) *api.Server {
	t.Helper()
	s, err := api.New(api.Config{Backend: apitest.New(), Token: token, OCI: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.Method+" "+r.URL.Path)
	})})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func askImages(s *api.Server, method, path string, edit func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://127.0.0.1"+path, nil)
	if edit != nil {
		edit(r)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w
}

func TestImagesAreServed(t *testing.T) {
	s := withImages(t, "")
	for _, c := range []struct{ method, path string }{
		{"GET", "/v2/"}, {"HEAD", "/v2/a/b/manifests/1"}, {"PATCH", "/v2/a/blobs/uploads/x"}, {"DELETE", "/v2/a/blobs/sha256:x"},
	} {
		w := askImages(s, c.method, c.path, nil)
		if w.Code != 200 || w.Body.String() != c.method+" "+c.path {
			t.Errorf("%s %s: %d %s", c.method, c.path, w.Code, w.Body)
		}
	}
	if w := askImages(s, "POST", "/v2/a/blobs/uploads/", func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }); w.Code != 403 {
		t.Errorf("a web page pushed: %d", w.Code)
	}
}

// Clients of registries log in with a name and a password, and read errors of
// their own protocol.
func TestImagesTakeTheTokenAsPassword(t *testing.T) {
	const token = "0123456789abcdef"
	s := withImages(t, token)
	w := askImages(s, "GET", "/v2/", nil)
	var e struct {
		Errors []struct{ Code, Message string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || w.Code != 401 || len(e.Errors) != 1 || e.Errors[0].Code != "UNAUTHORIZED" {
		t.Errorf("without a token: %d %s", w.Code, w.Body)
	}
	if got := w.Header().Get("WWW-Authenticate"); !strings.HasPrefix(got, "Basic ") {
		t.Errorf("the challenge is %q", got)
	}
	for password, want := range map[string]int{token: 200, "wrong": 401, "": 401} {
		if w := askImages(s, "GET", "/v2/", func(r *http.Request) { r.SetBasicAuth("anyone", password) }); w.Code != want {
			t.Errorf("password %q: %d", password, w.Code)
		}
	}
	if w := askImages(s, "GET", "/v2/", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }); w.Code != 200 {
		t.Errorf("as a bearer: %d", w.Code)
	}
	// Elsewhere passwords, which browsers keep and send by themselves, are none.
	if w := askImages(s, "GET", "/v1/apps", func(r *http.Request) { r.SetBasicAuth("anyone", token) }); w.Code != 401 {
		t.Errorf("a password opened the rest of the API: %d", w.Code)
	}
}
