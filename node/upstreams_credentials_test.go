package node

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/upstream"
	"github.com/hansa-mesh/hansa/placement"
)

// A namespace has credentials for registries in one secret, as docker login writes
// them: components that name none use those of their registry, and no other.
func TestCredentialsOfANamespace(t *testing.T) {
	m := wallMesh(t, 1)
	s := m.sites[0]
	s.node.upstreams.registries = upstream.New(upstream.Config{})
	o := newOutside(t)
	o.push(t, "shop/api:1")
	o.password.Store("canary of the registry")
	put := func(credentials string) error {
		app := webOf("shop", o.name("shop/api:1"))
		app.Components["web"].Container.Credentials = credentials
		_, err := backend{s.node}.PutApp(t.Context(), api.PutRequest{App: app})
		return err
	}
	set := func(name, host string) {
		t.Helper()
		config := fmt.Sprintf(`{"auths": {%q: {"username": "anna", "password": "canary of the registry"}}}`, host)
		if _, err := (backend{s.node}).PutSecret(t.Context(), "default", name, []byte(config)); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(what, credentials, says string) {
		t.Helper()
		if err := put(credentials); !errors.Is(err, placement.ErrInvalid) || !strings.Contains(err.Error(), says) || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %v, want %q", what, err, says)
		}
	}
	host := strings.TrimSuffix(o.name(""), "/")
	refused("without credentials", "", `in the secret "registries" of namespace default`)
	set(upstream.DefaultSecret, "elsewhere.example")
	refused("with those of another registry", "", `in the secret "registries"`)
	set("other", "elsewhere.example")
	refused("naming those of another registry", "other", "secret other of namespace default holds nothing for the registry "+host)
	set(upstream.DefaultSecret, host)
	if err := put(""); err != nil {
		t.Errorf("with those of the namespace: %v", err)
	}
	for image, want := range map[string]string{o.name("x:1"): "anna", "nginx:1": ""} {
		if user, _, err := s.node.engineCredentials(t.Context(), "default", placement.Container{Image: image}); err != nil || user != want {
			t.Errorf("the engine pulls %s as %q: %v", image, user, err)
		}
	}
	if user, _, err := s.node.engineCredentials(t.Context(), "free", placement.Container{Image: o.name("x:1")}); err != nil || user != "" {
		t.Errorf("in another namespace it is %q: %v", user, err)
	}

	// One that can't be read, or does not say for which registry it is, is nobody's: it
	// goes to no registry, and what needs none is not stopped. A component that names it
	// is told.
	for what, value := range map[string]string{"plain": "anna:canary", "malformed": "{canary", "kept by a helper": fmt.Sprintf(`{"auths": {%q: {}}}`, host)} {
		if _, err := (backend{s.node}).PutSecret(t.Context(), "default", upstream.DefaultSecret, []byte(value)); err != nil {
			t.Fatal(err)
		}
		got, err := s.node.credentialsOf(t.Context(), "default", "", host)
		if err != nil || got != (upstream.Credentials{}) {
			t.Errorf("%s: it is sent as %q: %v", what, got.User, err)
		}
		refused(what, "", `in the secret "registries"`)
		_, err = s.node.credentialsOf(t.Context(), "default", upstream.DefaultSecret, host)
		if plain := what == "plain"; plain != (err == nil) || err != nil && strings.Contains(err.Error(), "canary") {
			t.Errorf("%s, named by a component: %v", what, err)
		}
	}
	for _, c := range []struct {
		err  error
		news bool
	}{{errors.New("sealed"), true}, {errors.New("sealed"), false}, {errors.New("broken"), true}, {nil, false}, {errors.New("broken"), true}} {
		if news := s.node.upstreams.unread("warned", c.err); news != c.news {
			t.Errorf("%v is news: %v", c.err, news)
		}
	}
}
