package api_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/node/api"
)

const secretPath = "/v1/namespaces/default/secrets/db-password"

// Values go in and never come out: not in answers, problems or logs.
func TestSecrets(t *testing.T) {
	b := serve(t, nil)
	const canary = "canary-value"
	binary := "application/octet-stream"
	var seen strings.Builder
	try := func(method, path, body string, status int, kind api.Kind, what ...string) {
		t.Helper()
		resp, got := b.do(t, method, path, body, "Content-Type", binary)
		seen.WriteString(got)
		if kind != "" {
			problem(t, resp, got, status, kind, what...)
			return
		}
		if resp.StatusCode != status {
			t.Errorf("%s %s: %d, want %d: %s", method, path, resp.StatusCode, status, got)
		}
	}
	try("PUT", secretPath, canary, http.StatusOK, "")
	try("PUT", secretPath, strings.Repeat("x", api.SecretBytesMax), http.StatusOK, "")
	try("PUT", secretPath, canary+strings.Repeat("x", api.SecretBytesMax), http.StatusRequestEntityTooLarge, api.KindTooLarge)
	try("PUT", secretPath, "", http.StatusBadRequest, "")
	try("PUT", "/v1/namespaces/default/secrets/UPPER", canary, http.StatusUnprocessableEntity, api.KindInvalid, "UPPER", api.NameRule)
	try("PUT", "/v1/namespaces/-x/secrets/a", canary, http.StatusUnprocessableEntity, api.KindInvalid, "-x")
	try("PUT", "/v1/namespaces/default/secrets/"+strings.Repeat("a", 64), canary, http.StatusUnprocessableEntity, api.KindInvalid)
	try("GET", "/v1/namespaces/default/secrets", "", http.StatusOK, "")
	try("GET", secretPath, "", http.StatusMethodNotAllowed, "") // there is no way to read one
	try("DELETE", secretPath, "", http.StatusNoContent, "")
	try("DELETE", secretPath, "", http.StatusNotFound, api.KindNotFound, "db-password")
	resp, got := b.do(t, "PUT", "/v1/namespaces/default/secret-sites", `{"sites":["fra"],"value":"`+canary+`x"}`, "Content-Type", "application/json")
	if resp.StatusCode != http.StatusOK || got != `{"sites":["fra"]}`+"\n" {
		t.Errorf("%d: %s", resp.StatusCode, got)
	}
	for what, text := range map[string]string{"an answer": seen.String(), "the log": b.log.String()} {
		if strings.Contains(text, canary) {
			t.Errorf("%s holds the value: %s", what, text)
		}
	}
	if !strings.Contains(b.log.String(), secretPath) {
		t.Error("the log does not hold the requests at all")
	}
}

func TestSecretsClient(t *testing.T) {
	b := serve(t, nil)
	for i := range 3 {
		r, err := b.client.PutSecret(t.Context(), "shop", fmt.Sprintf("s%d", i), []byte("v"))
		if err != nil || r.Copies != 2 || r.Name != fmt.Sprintf("s%d", i) {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	l, err := b.client.Secrets(t.Context(), "shop", api.Page{Limit: 2})
	if err != nil || len(l.Items) != 2 || l.Cursor == "" {
		t.Errorf("a page of %d, %v", len(l.Items), err)
	}
	if err := b.client.DeleteSecret(t.Context(), "shop", "s1"); err != nil {
		t.Error(err)
	}
	if l, err = b.client.Secrets(t.Context(), "shop", api.Page{}); err != nil || len(l.Items) != 2 || l.Items[1].Name != "s2" {
		t.Errorf("%+v, %v", l.Items, err)
	}
	if l, err = b.client.Secrets(t.Context(), "default", api.Page{}); err != nil || len(l.Items) != 0 {
		t.Errorf("those of another namespace: %+v, %v", l.Items, err)
	}
	s, err := b.client.PutSecretSites(t.Context(), "shop", api.SecretSites{Sites: []string{"fra"}})
	if err != nil || s.All || len(s.Sites) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err = b.client.SecretSites(t.Context(), "shop"); err != nil || len(s.Sites) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	var p *api.Problem
	if _, err = b.client.PutSecretSites(t.Context(), "shop", api.SecretSites{Sites: []string{"atlantis"}}); !errors.As(err, &p) || p.Kind != api.KindInvalid {
		t.Errorf("%v", err)
	}
}
