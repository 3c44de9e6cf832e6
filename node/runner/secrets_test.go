package runner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/fake"
	"github.com/hansa-mesh/hansa/placement"
)

// store is secrets that a test changes.
type store struct {
	mu      sync.Mutex // guards what follows
	values  map[string]string
	changed chan struct{}
}

func newStore(pairs ...string) *store {
	s := &store{values: map[string]string{}, changed: make(chan struct{})}
	for i := 0; i < len(pairs); i += 2 {
		s.values[pairs[i]] = pairs[i+1]
	}
	return s
}

func (s *store) set(name, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[name] = value
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *store) get(_ context.Context, namespace, name string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.values[namespace+"/"+name]
	if !ok {
		return nil, errors.New("secret " + name + " is not there")
	}
	return []byte(v), nil
}

func (s *store) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changed
}

func (s *store) serve(g *rig) { g.runner.cfg.Secret, g.runner.cfg.SecretsChanged = s.get, s.next }

func withSecrets(uses map[string]placement.SecretUse) placement.WorkSpec {
	w := spec("run")
	w.Spec.Secrets = uses
	return w
}

func TestSecretsAreGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, fake.NewWorld())
		defer g.close()
		newStore("default/a", "one", "default/b", "two\x00binary").serve(g)
		g.runner.Start(anID, withSecrets(map[string]placement.SecretUse{"a": {Env: "A", File: "/run/a"}, "b": {File: "/run/b", Mode: "0440"}}))
		if got := g.states(); got != "running" {
			t.Fatalf("reported %s: %s", got, g.last().Reason)
		}
		task := g.world.Tasks()[0]
		want := []driver.File{{Path: "/run/a", Content: []byte("one"), Mode: 0o400, Secret: true}, {Path: "/run/b", Content: []byte("two\x00binary"), Mode: 0o440, Secret: true}}
		if task.Env["A"] != "one" || len(task.Files) != 2 {
			t.Fatalf("it has %v and %+v", task.Env, task.Files)
		}
		for i, f := range task.Files {
			if f.Path != want[i].Path || string(f.Content) != string(want[i].Content) || f.Mode != want[i].Mode || !f.Secret {
				t.Errorf("file %+v, want %+v", f, want[i])
			}
		}
	})
}

// What waits for a secret says so, starts when it comes, and ends when it is
// stopped; the wait has an end.
func TestSecretsAreWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, fake.NewWorld())
		defer g.close()
		s := newStore()
		s.serve(g)
		uses := withSecrets(map[string]placement.SecretUse{"a": {Env: "A"}})
		g.runner.Start(anID, uses)
		if last := g.last(); last.State != placement.AllocStarting || last.Reason != "waits: secret a is not there" {
			t.Fatalf("it reported %+v", last)
		}
		s.set("default/other", "x") // no reason to go on
		s.set("default/a", "one")
		if last := g.last(); last.State != placement.AllocRunning || g.world.Starts() != 1 {
			t.Fatalf("it reported %+v", last)
		}
		g.world.Exit(DriverID(anID), 1)
		g.states()
		s.mu.Lock()
		delete(s.values, "default/a")
		s.mu.Unlock()
		g.runner.Start(anID, uses)
		g.states()
		g.runner.Stop(anID)
		if last := g.last(); last.State != placement.AllocStopped {
			t.Fatalf("stopped while it waits it reported %+v", last)
		}
		g.runner.Start(anID, uses)
		g.states()
		time.Sleep(secretWait)
		if last := g.last(); last.State != placement.AllocFailed || last.Reason != "secret a is not there" {
			t.Fatalf("after the wait it reported %+v", last)
		}
		if got := g.states(); strings.Contains(got, "failed stopped") || g.world.Starts() != 1 {
			t.Errorf("%d starts; reported %s", g.world.Starts(), got)
		}
	})
}

// What may not be here is not waited for: it is to be placed elsewhere soon.
func TestSecretsOfOtherSites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, fake.NewWorld())
		defer g.close()
		g.runner.cfg.Secret = func(context.Context, string, string) ([]byte, error) {
			return nil, fmt.Errorf("not for this site: %w", placement.ErrConflict)
		}
		g.runner.Start(anID, withSecrets(map[string]placement.SecretUse{"a": {Env: "A"}}))
		if last := g.last(); last.State != placement.AllocFailed || !strings.HasPrefix(last.Reason, "not for this site") {
			t.Errorf("it reported %+v", last)
		}
	})
}

func TestSecretsThatDoNotFit(t *testing.T) {
	const value = "canary"
	for name, c := range map[string]struct {
		value string
		comp  placement.Component
		want  string
	}{
		"a NUL":    {value + "\x00", placement.Component{Secrets: map[string]placement.SecretUse{"r": {Env: "A"}}}, "secret r holds a NUL byte"},
		"too much": {value + strings.Repeat("x", driver.EnvBytesMax), placement.Component{Secrets: map[string]placement.SecretUse{"r": {Env: "A"}}}, "secret r: with it the environment has more than"},
	} {
		built := driver.Task{Env: map[string]string{}}
		err := give(c.comp, map[string][]byte{"r": []byte(c.value)}, &built)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), value) {
			t.Errorf("%s: %v; want %s…", name, err, c.want)
		}
	}
}

// A container's task gets the credentials for its image, or the start fails with what
// is wrong with them.
func TestCredentials(t *testing.T) {
	spec := placement.WorkSpec{Key: placement.AppKey{Namespace: "prod", App: "shop"}, Spec: placement.Component{Container: &placement.Container{Image: "registry.example/x", Credentials: "r"}}}
	r := &Runner{cfg: Config{Credentials: func(_ context.Context, namespace string, c placement.Container) (string, string, error) {
		if namespace != "prod" || c.Image != "registry.example/x" {
			return "", "", fmt.Errorf("asked for %s in %s", c.Image, namespace)
		}
		return "anna", "p:w", nil
	}}}
	built := driver.Task{Container: &driver.Container{}}
	if err := r.authorize(t.Context(), spec, &built); err != nil || built.Container.Username != "anna" || built.Container.Password != "p:w" {
		t.Errorf("%v, %+v", err, built.Container)
	}
	spec.Key.Namespace = "other"
	if err := r.authorize(t.Context(), spec, &built); err == nil {
		t.Error("what is wrong with them was not told")
	}
	for name, task := range map[string]driver.Task{"no container": {}, "one of the mesh": {Container: &driver.Container{Digest: "sha256:00"}}} {
		if err := r.authorize(t.Context(), spec, &task); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
