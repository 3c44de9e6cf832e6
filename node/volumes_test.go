package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// dbApp is a server whose slots keep something.
func dbApp(replicas int, version string) placement.App {
	app := serverApp("db", replicas)
	c := app.Components["web"]
	c.Env = map[string]string{"V": version}
	c.Volumes = map[string]placement.Volume{"data": {Path: "/data", Size: 1 << 20}}
	app.Components["web"] = c
	return app
}

// where is the folder of each slot that runs at a version, by slot, with its site.
func (m *mesh) where(version string) map[string]string {
	out := map[string]string{}
	for _, s := range m.sites {
		for _, task := range s.world.Tasks() {
			if task.Env["V"] == version && len(task.Volumes) == 1 {
				out[task.Env["HANSA_SLOT"]] = task.Volumes[0].Source
			}
		}
	}
	return out
}

// What a slot wrote it finds again: after it was scaled down and up, updated, and
// after its site was away; and when its app is removed the volumes are parked.
func TestSlotsFindTheirVolumesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 3, 40*time.Millisecond)
		defer m.close()
		ctx, b := t.Context(), func() backend { return backend{m.sites[0].node} }
		put := func(app placement.App) {
			t.Helper()
			if _, err := b().PutApp(ctx, api.PutRequest{App: app}); err != nil {
				t.Fatal(err)
			}
		}
		put(dbApp(3, "1"))
		m.until("deployed", time.Minute, func() error { return m.runOnce(m.sites[0], "db", 3, "s1", "s2", "s3") })
		first := m.where("1")
		for slot, folder := range first {
			if err := os.WriteFile(filepath.Join(folder, "x"), []byte(slot), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		same := func(version string) error {
			now := m.where(version)
			for slot, folder := range first {
				if now[slot] != folder {
					return fmt.Errorf("slot %s has %q, and had %s", slot, now[slot], folder)
				}
				if text, err := os.ReadFile(filepath.Join(folder, "x")); err != nil || string(text) != slot {
					return fmt.Errorf("slot %s finds %q: %w", slot, text, err)
				}
			}
			return nil
		}

		put(dbApp(1, "1"))
		m.until("scaled down", time.Minute, func() error { return m.runOnce(m.sites[0], "db", 1, "s1", "s2", "s3") })
		put(dbApp(3, "1"))
		m.until("scaled up", time.Minute, func() error {
			return errors.Join(same("1"), m.runOnce(m.sites[0], "db", 3, "s1", "s2", "s3"))
		})
		put(dbApp(3, "2"))
		m.until("updated", 3*time.Minute, func() error {
			return errors.Join(same("2"), m.runOnce(m.sites[0], "db", 3, "s1", "s2", "s3"))
		})

		m.kill(m.sites[2], true)
		time.Sleep(10 * time.Minute) // of virtual time: whatever would move has moved
		if err := m.runOnce(m.sites[0], "db", 2, "s1", "s2"); err != nil {
			t.Errorf("a slot did not wait for its volume: %v", err)
		}
		m.start(m.sites[2], "")
		m.until("back", 2*time.Minute, func() error {
			return errors.Join(same("2"), m.runOnce(m.sites[0], "db", 3, "s1", "s2", "s3"))
		})

		list, err := b().Volumes(ctx, api.VolumeQuery{App: "db", Page: api.Page{Limit: 100}})
		if err != nil || len(list.Items) != 3 {
			t.Fatalf("volumes %+v, %v", list.Items, err)
		}
		for _, v := range list.Items {
			if v.State != api.VolumeUsed || v.Bytes == nil || *v.Bytes == 0 || v.Sizes["data"] != 1<<20 {
				t.Errorf("volume %+v", v)
			}
			id, err := placement.ParseVolumeID(v.ID)
			if err != nil {
				t.Fatal(err)
			}
			want := placement.ErrNotFound
			if v.Peer == m.sites[0].node.ID() {
				want = placement.ErrConflict
			}
			if err := b().DeleteVolume(ctx, id); !errors.Is(err, want) {
				t.Errorf("delete of %s at %s: %v", v.ID, v.PeerName, err)
			}
		}

		if _, err := b().DeleteApp(ctx, api.DeleteRequest{Key: placement.AppKey{Namespace: "default", App: "db"}}); err != nil {
			t.Fatal(err)
		}
		m.until("parked", time.Minute, func() error {
			list, err := b().Volumes(ctx, api.VolumeQuery{App: "db", Page: api.Page{Limit: 100}})
			if err != nil || len(list.Items) != 3 {
				return fmt.Errorf("%d volumes: %w", len(list.Items), err)
			}
			for _, v := range list.Items {
				if v.State != api.VolumeParked {
					return fmt.Errorf("%s at %s is %s", v.ID, v.PeerName, v.State)
				}
			}
			return nil
		})
		for _, folder := range first {
			if _, err := os.Stat(filepath.Join(folder, "x")); err != nil {
				t.Errorf("the data of a removed app is gone at once: %v", err)
			}
		}
		// A person deletes what is here before its week is over.
		list, err = b().Volumes(ctx, api.VolumeQuery{Peer: "s1-1", Page: api.Page{Limit: 100}})
		if err != nil || len(list.Items) != 1 {
			t.Fatalf("volumes %+v, %v", list.Items, err)
		}
		id, err := placement.ParseVolumeID(list.Items[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		m.until("nothing holds it", time.Minute, func() error { return b().DeleteVolume(ctx, id) })
		m.until("deleted", time.Minute, func() error {
			if _, err := os.Stat(first[fmt.Sprint(id.Slot)]); !errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("the folder is there: %w", err)
			}
			return nil
		})
	})
}
