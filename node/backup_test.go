package node

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/store"
)

// tablesIn are the tables of the store in a data folder that nobody uses, with
// how many keys each has.
func tablesIn(t *testing.T, dir, mesh string) map[string]int {
	t.Helper()
	s, err := store.Open(store.Config{Dir: dir, Mesh: mesh})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	var out bytes.Buffer
	if err := s.Backup(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	tables := map[string]int{}
	if _, err := store.ReadBackup(&out, func(table, _ string, _ []byte) error { tables[table]++; return nil }); err != nil {
		t.Fatal(err)
	}
	return tables
}

// A peer that is restored from an old backup knows the apps that it held then,
// brings none back that was removed since, and none of what it had promised.
func TestRestoredPeerBringsNothingBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 20*time.Millisecond)
		defer m.close()
		first, lost := m.sites[0], m.sites[2]
		all := []string{"s1", "s2", "s3"}
		for _, name := range []string{"kept", "gone"} {
			m.put(first, serverApp(name, 3))
			m.until("deployed", time.Minute, func() error { return errors.Join(m.settled(), m.runOnce(first, name, 3, all...)) })
		}
		var backup bytes.Buffer
		if err := (backend{lost.node}).Backup(t.Context(), &backup); err != nil {
			t.Fatal(err)
		}
		if _, err := (backend{first.node}).DeleteApp(t.Context(), api.DeleteRequest{Key: placement.AppKey{Namespace: "default", App: "gone"}}); err != nil {
			t.Fatal(err)
		}
		m.put(first, serverApp("later", 3))
		listed := func(s *testSite) string {
			l, err := backend{s.node}.ListApps(t.Context(), api.AppQuery{Page: api.Page{Limit: 10}})
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, a := range l.Items {
				names = append(names, a.App)
			}
			return strings.Join(names, " ")
		}
		m.until("one is gone, one is new", time.Minute, func() error {
			for _, s := range m.sites {
				if got := listed(s); got != "kept later" {
					return fmt.Errorf("%s lists %s", s.name, got)
				}
			}
			return errors.Join(m.settled(), m.runOnce(first, "later", 3, all...))
		})
		before := lost.node.self().Incarnation
		m.kill(lost, true)
		r, err := Restore(t.Context(), RestoreConfig{DataDir: lost.dir, PutAside: true}, bytes.NewReader(backup.Bytes()))
		if err != nil || r.Name != "s3-1" || r.Records == 0 || r.Identity {
			t.Fatalf("%+v %v", r, err)
		}
		tables := tablesIn(t, lost.dir, r.Mesh)
		for table := range tables {
			if !strings.HasPrefix(table, replicatedPrefix) {
				t.Errorf("table %s came back", table)
			}
		}
		if tables[replicatedPrefix+placement.TableIntents] == 0 {
			t.Errorf("no intents came back: %v", tables)
		}
		m.start(lost, "")
		if after := lost.node.self().Incarnation; after <= before {
			t.Errorf("incarnation %d after %d", after, before)
		}
		m.until("settled, as before", 2*time.Minute, func() error {
			for _, s := range m.sites {
				if got := listed(s); got != "kept later" {
					return fmt.Errorf("%s lists %s", s.name, got)
				}
			}
			return errors.Join(m.runOnce(first, "kept", 3, all...), m.runOnce(first, "later", 3, all...))
		})
		for range 100 { // and it stays so
			time.Sleep(200 * time.Millisecond) // of virtual time
			if got := listed(first); got != "kept later" {
				t.Fatalf("listed: %s", got)
			}
		}
	})
}

// A folder that is backed up with its key makes that peer anew; without, it
// takes a peer of the mesh. A daemon that runs, another mesh and what is no
// whole backup are refused before anything is written.
func TestBackupOfAFolder(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := Init(InitConfig{DataDir: dir, Name: "fra-1", Site: "fra"}); err != nil {
		t.Fatal(err)
	}
	if err := Backup(t.Context(), BackupConfig{DataDir: dir}, &bytes.Buffer{}); !errors.Is(err, placement.ErrNotFound) {
		t.Errorf("a folder without a store: %v", err)
	}
	n := opened(t, dir)
	if err := n.publishTrust(t.Context(), n.member.Records...); err != nil {
		t.Fatal(err)
	}
	if err := Backup(t.Context(), BackupConfig{DataDir: dir}, &bytes.Buffer{}); !errors.Is(err, store.ErrLocked) {
		t.Errorf("a daemon runs: %v", err)
	}
	if err := n.close(); err != nil {
		t.Fatal(err)
	}
	var bare, whole bytes.Buffer
	for out, key := range map[*bytes.Buffer]bool{&bare: false, &whole: true} {
		if err := Backup(t.Context(), BackupConfig{DataDir: dir, WithKey: key}, out); err != nil {
			t.Fatal(err)
		}
		if has := bytes.Contains(out.Bytes(), []byte("PRIVATE KEY")); has != key {
			t.Errorf("with the key: %t, holds one: %t", key, has)
		}
	}
	restore := func(dir string, backup []byte) (RestoreResult, error) {
		return Restore(t.Context(), RestoreConfig{DataDir: dir}, bytes.NewReader(backup))
	}
	other := filepath.Join(t.TempDir(), "other")
	if _, err := Init(InitConfig{DataDir: other, Name: "x", Site: "x"}); err != nil {
		t.Fatal(err)
	}
	fresh := filepath.Join(t.TempDir(), "fresh")
	for what, c := range map[string]struct {
		dir    string
		backup []byte
		want   error
	}{
		"over a store":             {dir, bare.Bytes(), store.ErrHeld},
		"of another mesh":          {other, bare.Bytes(), store.ErrMesh},
		"without a key":            {fresh, bare.Bytes(), errNotInMesh},
		"cut off":                  {fresh, whole.Bytes()[:whole.Len()-40], store.ErrCorrupt},
		"another file":             {fresh, []byte("PK\x03\x04 an archive of something else"), store.ErrCorrupt},
		"a key over another's key": {other, whole.Bytes(), store.ErrMesh},
	} {
		if _, err := restore(c.dir, c.backup); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(fresh, "*")); err != nil || len(left) > 0 {
		t.Errorf("what was refused left %v %v", left, err)
	}
	r, err := restore(fresh, whole.Bytes())
	if err != nil || !r.Identity || r.Peer != n.ID() || r.Name != "fra-1" {
		t.Fatalf("%+v %v", r, err)
	}
	again := opened(t, fresh)
	if again.ID() != n.ID() || again.store.Incarnation() <= n.store.Incarnation() || again.trust.Admitted(n.ID()) != nil {
		t.Errorf("peer %s in incarnation %d, after %d", again.ID(), again.store.Incarnation(), n.store.Incarnation())
	}
	if again.tables[tableTrust].Counts().Records == 0 {
		t.Error("the records of trust did not come back")
	}
}
