package volume

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

var (
	anID    = placement.VolumeID{UID: "abc", Component: "db", Slot: 3}
	aKey    = placement.AppKey{Namespace: "default", App: "shop"}
	volumes = map[string]placement.Volume{"data": {Path: "/data", Size: 1 << 20}, "log": {Path: "/log", Size: 1 << 10}}
)

func folders(t *testing.T, d *Dir, id placement.VolumeID) map[string]string {
	t.Helper()
	paths, err := d.Folder(id, aKey, volumes, time.UnixMilli(1000))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// A slot finds its files again, whoever starts it, and anyone may write them.
func TestFoldersStay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "volumes")
	paths := folders(t, New(dir), anID)
	if len(paths) != 2 {
		t.Fatalf("folders %v", paths)
	}
	for _, p := range paths {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != folderMode {
			t.Errorf("%s: %v, %v", p, info.Mode(), err)
		}
	}
	file := filepath.Join(paths["data"], "x")
	if err := os.WriteFile(file, bytes.Repeat([]byte{1}, 100<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(paths["data"], 0o700); err != nil { // as a database does
		t.Fatal(err)
	}
	again := folders(t, New(dir), anID)
	if _, err := os.Stat(filepath.Join(again["data"], "x")); err != nil {
		t.Error(err)
	}
	if info, err := os.Stat(again["data"]); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the mode that the work chose is %v now, %v", info.Mode(), err)
	}
	if used, err := New(dir).Used(t.Context(), anID); err != nil || used < 100<<10 {
		t.Errorf("used %d, %v", used, err)
	}
}

// After a restart all that lies here is found, and what is dropped is not.
func TestFoundAndDropped(t *testing.T) {
	dir := t.TempDir()
	d := New(dir)
	other := placement.VolumeID{UID: "abc", Component: "db", Slot: 4}
	evil := placement.VolumeID{UID: "../../etc", Component: "db", Slot: 0}
	for _, id := range []placement.VolumeID{anID, other, evil} {
		folders(t, d, id)
	}
	if err := os.MkdirAll(filepath.Join(dir, "abc", "stray.1"), 0o755); err != nil {
		t.Fatal(err)
	}
	found, err := New(dir).Found()
	if err == nil {
		t.Error("a folder that says nothing was taken for one that does")
	}
	ids := map[placement.VolumeID]placement.FoundVolume{}
	for _, f := range found {
		ids[f.ID] = f
	}
	if len(ids) != 3 || ids[anID].Key != aKey || ids[anID].Sizes["data"] != 1<<20 || ids[anID].Created != 1000 {
		t.Fatalf("found %+v", found)
	}
	for range 2 { // it is asked for again until it is done
		if err := d.Drop(anID); err != nil {
			t.Fatal(err)
		}
	}
	// A crash in the midst of another.
	if err := os.Rename(d.at(other), filepath.Join(dir, "abc", dropPrefix+filepath.Base(d.at(other)))); err != nil {
		t.Fatal(err)
	}
	if found, _ = New(dir).Found(); len(found) != 1 || found[0].ID != evil {
		t.Fatalf("found %+v after the others were dropped", found)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "abc")); err != nil || len(left) != 1 {
		t.Errorf("left over: %v, %v", left, err)
	}
	folders(t, d, anID) // and it can be made anew
}

// What says that it is another's is nobody's.
func TestImpostor(t *testing.T) {
	dir := t.TempDir()
	d := New(dir)
	folders(t, d, anID)
	if err := os.Rename(d.at(anID), filepath.Join(dir, "abc", "db.9")); err != nil {
		t.Fatal(err)
	}
	if found, err := d.Found(); len(found) != 0 || err == nil {
		t.Errorf("found %v, %v", found, err)
	}
}
