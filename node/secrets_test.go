package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/secrets"
	"github.com/hansa-mesh/hansa/placement"
)

// canary is a value that must be found nowhere but in work.
const canary = "cAnArY-7f3e9b1c5d2a8064"

func secretApp(name string, replicas int) placement.App {
	app := serverApp(name, replicas)
	web := app.Components["web"]
	web.Secrets = map[string]placement.SecretUse{"db-password": {Env: "PASSWORD", File: "/run/password"}}
	app.Components["web"] = web
	return app
}

func (m *mesh) deploy(at *testSite, app placement.App) {
	m.t.Helper()
	if _, err := (backend{at.node}).PutApp(m.t.Context(), api.PutRequest{App: app}); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mesh) setSecret(at *testSite, value string) api.SecretResult {
	m.t.Helper()
	r, err := backend{at.node}.PutSecret(m.t.Context(), "default", "db-password", []byte(value))
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

// has says whether these sites read a value, and no others do.
func (m *mesh) has(value string, sites ...string) error {
	var errs []error
	for _, s := range m.sites {
		if s.node == nil {
			continue
		}
		got, err := s.node.vault.Get(m.t.Context(), "default", "db-password")
		switch may := strings.Contains(strings.Join(sites, " "), s.name); {
		case may && string(got) != value:
			errs = append(errs, fmt.Errorf("%s reads %q, %w", s.name, got, err))
		case !may && err == nil:
			errs = append(errs, fmt.Errorf("%s reads it", s.name))
		}
	}
	return errors.Join(errs...)
}

// given says whether all that runs at a site has the value, as a variable and as
// a file.
func (s *testSite) given(value string) error {
	tasks := s.world.Tasks()
	if len(tasks) == 0 {
		return fmt.Errorf("nothing runs at %s", s.name)
	}
	for _, t := range tasks {
		if t.Env["PASSWORD"] != value {
			return fmt.Errorf("%s at %s has %q", t.ID, s.name, t.Env["PASSWORD"])
		}
		if len(t.Files) != 1 || string(t.Files[0].Content) != value || !t.Files[0].Secret || t.Files[0].Mode != 0o400 || t.Files[0].Path != "/run/password" {
			return fmt.Errorf("%s at %s has the files %+v", t.ID, s.name, t.Files)
		}
	}
	return nil
}

// What uses a secret runs at the sites that may hold it, with its value; why it
// runs at no other is told; and the value is in nothing that people, peers or
// disks are given.
func TestSecretsRunWhereTheyMay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 40*time.Millisecond)
		defer m.close()
		logs := &lockedBuffer{}
		m.deps = func(d *Deps) {
			d.Log = slog.New(slog.NewJSONHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
			d.Trace = func(line string) { fmt.Fprintln(logs, line) }
		}
		for _, s := range m.sites {
			m.kill(s, false)
			m.start(s, "")
		}
		for _, s := range m.sites {
			m.sees(s, 3)
		}
		s1, s2, s3 := m.sites[0], m.sites[1], m.sites[2]
		if err := (backend{s2.node}).PutSecretSites(t.Context(), "default", api.SecretSites{Sites: []string{"s1", "s2"}}); err != nil {
			t.Fatal(err)
		}
		m.until("the sites spread", time.Minute, func() error {
			if v, err := (backend{s3.node}).SecretSites(t.Context(), "default"); err != nil || v.All || len(v.Sites) != 2 {
				return fmt.Errorf("%+v, %w", v, err)
			}
			return nil
		})
		if r := m.setSecret(s3, canary); r.Copies != 3 { // by one that may not have it
			t.Errorf("on disk at %d peers: %+v", r.Copies, r.Peers)
		}
		m.until("those that may have it", time.Minute, func() error { return m.has(canary, "s1", "s2") })
		m.deploy(s3, secretApp("shop", 4))
		m.until("it runs", time.Minute, func() error { return m.runOnce(s1, "shop", 4, "s1", "s2") })
		if err := errors.Join(s1.given(canary), s2.given(canary)); err != nil {
			t.Error(err)
		}
		if n := s3.world.Running(); n != 0 {
			t.Errorf("%d run at the site that may not have it", n)
		}
		m.deploy(s1, serverApp("plain", 3)) // what uses none goes everywhere
		m.until("it runs", time.Minute, func() error { return m.runOnce(s1, "plain", 3, "s1", "s2", "s3") })

		const why = "the secrets of namespace default are not for site s3"
		only := secretApp("only", 1)
		web := only.Components["web"]
		web.Place.Where = "site=s3"
		only.Components["web"] = web
		plan, err := backend{s1.node}.Plan(t.Context(), only)
		if text := fmt.Sprintf("%+v", plan); err != nil || plan.Complete || !strings.Contains(text, why) {
			t.Errorf("%s, %v; want that it does not fit, and why", text, err)
		}
		m.deploy(s2, only)
		m.until("it is said why", time.Minute, func() error {
			l, err := backend{s2.node}.Explain(t.Context(), only.Key(), "")
			if text := fmt.Sprintf("%+v", l.Items); err != nil || !strings.Contains(text, why) {
				return fmt.Errorf("%s, %w", text, err)
			}
			return nil
		})
		if _, err := s3.node.vault.Get(t.Context(), "default", "db-password"); err == nil || err.Error() != why {
			t.Errorf("%v; want %s", err, why)
		}
		m.searchEverything(logs)
	})
}

// searchEverything looks for the canary in all that leaves a peer.
func (m *mesh) searchEverything(logs *lockedBuffer) {
	m.t.Helper()
	ctx := m.t.Context()
	look := func(what string, data []byte) {
		if len(data) == 0 {
			m.t.Errorf("%s: there is nothing to look through", what)
		}
		if bytes.Contains(data, []byte(canary)) {
			m.t.Errorf("%s holds the secret", what)
		}
	}
	answer := func(what string, v any, err error) {
		data, jerr := json.Marshal(v)
		if err := errors.Join(err, jerr); err != nil {
			m.t.Errorf("%s: %v", what, err)
		}
		look(what, data)
	}
	for _, s := range m.sites {
		b := backend{s.node}
		page := api.Page{Limit: 1000}
		list, err := b.Secrets(ctx, "default", page)
		answer("the list", list, err)
		work, err := b.Allocations(ctx, api.AllocationQuery{Page: page})
		answer("allocations", work, err)
		events, err := b.Events(ctx, api.EventQuery{Page: page})
		answer("events", events, err)
		for _, app := range []string{"shop", "only"} {
			key := placement.AppKey{Namespace: "default", App: app}
			status, err := b.Status(ctx, key)
			answer("status", status, err)
			detail, err := b.GetApp(ctx, key)
			answer("the app", detail, err)
			why, err := b.Explain(ctx, key, "")
			answer("decisions", why, err)
		}
		var state, backup bytes.Buffer
		if err := errors.Join(b.DebugState(&state), b.Backup(ctx, &backup)); err != nil {
			m.t.Error(err)
		}
		look("/debug/state", state.Bytes())
		look("a backup", backup.Bytes())
		for _, t := range s.world.Tasks() {
			answer("labels", t.Labels, nil)
		}
	}
	look("logs and traces", logs.Bytes())
	if !bytes.Contains(logs.Bytes(), []byte(`"a namespace has a new key for its secrets"`)) {
		m.t.Error("the logs do not hold what they should, either")
	}
	files := 0
	for _, s := range m.sites {
		m.kill(s, false) // so that all is on disk
		err := filepath.WalkDir(s.dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			if files++; bytes.Contains(data, []byte(canary)) {
				m.t.Errorf("%s holds the secret", path)
			}
			return err
		})
		if err != nil {
			m.t.Error(err)
		}
	}
	if files < 3*4 {
		m.t.Errorf("only %d files were looked through", files)
	}
}

type lockedBuffer struct {
	mu sync.Mutex // guards b
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) Bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.b.Bytes())
}

// A secret that is not there is told as the reason of what waits for it; once it
// is set the work starts, and one that runs keeps what it has until it is started
// again.
func TestMissingSecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 2, 20*time.Millisecond)
		defer m.close()
		s1, s2 := m.sites[0], m.sites[1]
		const note = "web waits: secret db-password of namespace default does not exist: hansa secret set db-password"
		r, err := backend{s1.node}.PutApp(t.Context(), api.PutRequest{App: secretApp("shop", 2)})
		if err != nil || !slices.Contains(r.Warnings, note) {
			t.Fatalf("the answer warns %q, %v", r.Warnings, err)
		}
		if p, err := (backend{s1.node}).Plan(t.Context(), secretApp("shop", 2)); err != nil || !slices.Equal(p.Warnings, []string{note}) {
			t.Errorf("a plan warns %q, %v", p.Warnings, err)
		}
		const why = "waits: secret db-password of namespace default does not exist: hansa secret set db-password"
		reason := func() error {
			list, err := backend{s2.node}.Allocations(t.Context(), api.AllocationQuery{App: "shop", Page: api.Page{Limit: 10}})
			if err != nil || len(list.Items) != 2 {
				return fmt.Errorf("%d allocations, %w", len(list.Items), err)
			}
			for _, a := range list.Items {
				if a.State == string(placement.AllocRunning) || a.Reason != why {
					return fmt.Errorf("%s: %s", a.State, a.Reason)
				}
			}
			return nil
		}
		m.until("it waits", time.Minute, reason)
		m.setSecret(s2, "one")
		took := m.until("it runs", time.Minute, func() error { return m.runOnce(s1, "shop", 2, "s1", "s2") })
		if took > secretNoticed {
			t.Errorf("it runs only %v after the secret was set", took)
		}
		m.setSecret(s1, "two")
		m.until("it is there", time.Minute, func() error { return m.has("two", "s1", "s2") })
		if err := s1.given("one"); err != nil {
			t.Error(err)
		}
		for _, task := range s1.world.Tasks() {
			s1.world.Exit(task.ID, 1)
		}
		m.until("it runs with the new value", time.Minute, func() error { return s1.given("two") })

		if p, err := (backend{s1.node}).Plan(t.Context(), secretApp("shop", 2)); err != nil || len(p.Warnings) != 0 {
			t.Errorf("of what is there a plan warns %q, %v", p.Warnings, err)
		}

		// Gone for good: tried and told again and again, within bounds.
		if err := (backend{s1.node}).DeleteSecret(t.Context(), "default", "db-password"); err != nil {
			t.Fatal(err)
		}
		m.until("it is gone", time.Minute, func() error { return m.has("") })
		starts := s1.world.Starts()
		for _, task := range s1.world.Tasks() {
			s1.world.Exit(task.ID, 1)
		}
		m.until("it fails for want of it", 10*time.Minute, func() error {
			l, err := backend{s1.node}.Events(t.Context(), api.EventQuery{App: "shop", Page: api.Page{Limit: 1000}})
			for _, e := range l.Items {
				if strings.Contains(e.Message, "db-password of namespace default does not exist") && e.Type == "failed" {
					return nil
				}
			}
			return fmt.Errorf("it did not yet, %w", err)
		})
		if s1.world.Starts() != starts {
			t.Error("it was started without its secret")
		}
	})
}

// secretNoticed is how soon work that waits for a secret starts once that is set:
// the exchange of tables, and no back-off.
const secretNoticed = 3 * time.Second

// A site is taken off: what runs there goes on, and once it has ended it is placed
// where it may be.
func TestSiteIsTakenOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 20*time.Millisecond)
		defer m.close()
		s1, s2, s3 := m.sites[0], m.sites[1], m.sites[2]
		m.setSecret(s1, "one")
		m.deploy(s1, secretApp("shop", 3))
		m.until("it runs", time.Minute, func() error {
			return errors.Join(m.runOnce(s1, "shop", 3, "s1", "s2", "s3"), s3.given("one"))
		})
		if err := (backend{s2.node}).PutSecretSites(t.Context(), "default", api.SecretSites{Sites: []string{"s1", "s2"}}); err != nil {
			t.Fatal(err)
		}
		m.until("another key", time.Minute, func() error { return m.has("one", "s1", "s2") })
		time.Sleep(time.Minute) // of virtual time
		if err := errors.Join(m.runOnce(s1, "shop", 3, "s1", "s2", "s3"), s3.given("one")); err != nil {
			t.Errorf("what runs does not go on: %v", err)
		}
		for _, task := range s3.world.Tasks() {
			s3.world.Exit(task.ID, 1)
		}
		m.until("it runs elsewhere", 5*time.Minute, func() error { return m.runOnce(s1, "shop", 3, "s1", "s2") })
		if n := s3.world.Running(); n != 0 {
			t.Errorf("%d run at the site that was taken off", n)
		}
	})
}

// A forgotten peer gets no key that is made after, and the others seal all to
// such a one; a peer that lost its store reads on; both sides of a cut set
// secrets.
func TestSecretsOutliveForgettingLossAndCuts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 4, 20*time.Millisecond)
		defer m.close()
		s1, s2, s3, s4 := m.sites[0], m.sites[1], m.sites[2], m.sites[3]
		m.setSecret(s2, "one")
		m.until("all have it", time.Minute, func() error { return m.has("one", "s1", "s2", "s3", "s4") })

		if err := (backend{s1.node}).Forget(t.Context(), "s4-1", false); err != nil {
			t.Fatal(err)
		}
		m.until("another key", time.Minute, func() error {
			for _, s := range []*testSite{s1, s2, s3} {
				if l := s.node.vault.List("default"); len(l) != 1 || l[0].Key != 2 || !l[0].Current {
					return fmt.Errorf("%s has %+v", s.name, l)
				}
			}
			return nil
		})
		m.kill(s4, true)
		m.until("they read on", time.Minute, func() error { return m.has("one", "s1", "s2", "s3") })

		m.kill(s3, true)
		for _, part := range []string{"db"} {
			if err := os.RemoveAll(filepath.Join(s3.dir, part)); err != nil {
				t.Fatal(err)
			}
		}
		m.start(s3, "")
		m.until("it reads on without its store", 2*time.Minute, func() error { return m.has("one", "s1", "s2", "s3") })

		m.net.Partition([]string{s3.addr}, []string{s1.addr, s2.addr})
		m.sees(s3, 1)
		m.setSecret(s1, "left")
		time.Sleep(time.Second) // of virtual time
		if r := m.setSecret(s3, "right, later"); r.Copies != 1 {
			t.Errorf("cut off, it is on disk at %d", r.Copies)
		}
		m.net.Heal()
		m.until("the later one counts everywhere", 2*time.Minute, func() error {
			for _, s := range m.sites[:3] {
				if l := s.node.vault.List("default"); len(l) != 1 || l[0].Sides != 1 {
					return fmt.Errorf("%s has %+v", s.name, l)
				}
			}
			return m.has("right, later", "s1", "s2", "s3")
		})
	})
}

// A backup with the key brings secrets back, to the peer that they were for.
func TestSecretsComeBackFromABackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 1, 0)
		defer m.close()
		only := m.sites[0]
		m.setSecret(only, canary)
		m.kill(only, true)
		var backup, without bytes.Buffer
		if err := errors.Join(Backup(t.Context(), BackupConfig{DataDir: only.dir, WithKey: true}, &backup),
			Backup(t.Context(), BackupConfig{DataDir: only.dir}, &without)); err != nil {
			t.Fatal(err)
		}
		for _, b := range []*bytes.Buffer{&backup, &without} {
			if bytes.Contains(b.Bytes(), []byte(canary)) {
				t.Error("the backup holds the secret")
			}
		}
		only.dir = filepath.Join(t.TempDir(), "restored")
		if _, err := Restore(t.Context(), RestoreConfig{DataDir: only.dir}, bytes.NewReader(backup.Bytes())); err != nil {
			t.Fatal(err)
		}
		m.start(only, "")
		m.until("it reads on", time.Minute, func() error { return m.has(canary, "s1") })
	})
}

func TestSecretLimitsAgree(t *testing.T) {
	if api.SecretBytesMax != secrets.ValueBytesMax {
		t.Errorf("the API takes %d bytes, the vault %d", api.SecretBytesMax, secrets.ValueBytesMax)
	}
}
