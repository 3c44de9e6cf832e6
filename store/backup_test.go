package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func backupOf(t testing.TB) ([]byte, map[string]string, uint64) {
	t.Helper()
	s := open(t, t.TempDir())
	all := map[string]string{}
	for i := range 300 {
		key, value := fmt.Sprint(i), strings.Repeat(fmt.Sprint(i), 1000)
		commit(t, s, Write{"keep", key, []byte(value)}, Write{"old", key, []byte("of the old life")})
		all[key] = value
	}
	commit(t, s, Write{"keep", "large", bytes.Repeat([]byte("v"), ValueMax)}, Write{"keep", "empty", []byte{}})
	var out bytes.Buffer
	if err := s.Backup(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), all, s.Incarnation()
}

// every table comes back.
func every(string) bool { return true }

func TestRestore(t *testing.T) {
	backup, all, incarnation := backupOf(t)
	cfg := Config{Dir: filepath.Join(t.TempDir(), "new"), Mesh: "mesh", Memory: 8 << 20, Free: plenty, IncarnationFloor: incarnation}
	if err := Restore(t.Context(), cfg, bytes.NewReader(backup), func(table string) bool { return table != "old" }); err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), cfg, bytes.NewReader(backup), every); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("over a store: %v", err)
	}
	s := open(t, cfg.Dir)
	for key, value := range all {
		want(t, s, "keep", key, value)
	}
	if v, ok, err := s.Get("keep", "large"); err != nil || !ok || len(v) != ValueMax {
		t.Errorf("the large value: %d bytes %v", len(v), err)
	}
	want(t, s, "old", "1", "")
	if s.Incarnation() <= incarnation {
		t.Errorf("incarnation %d after %d", s.Incarnation(), incarnation)
	}
}

// A folder that a daemon uses is left alone; a store in one that nobody uses is
// put aside when that is asked for, and the new life is above it.
func TestRestoreOverAStore(t *testing.T) {
	backup, all, _ := backupOf(t)
	dir := t.TempDir()
	cfg := Config{Dir: dir, Mesh: "mesh", Memory: 8 << 20, Free: plenty}
	used, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	aside := cfg
	aside.Quarantine = true
	for _, cfg := range []Config{cfg, aside} {
		if err := Restore(t.Context(), cfg, bytes.NewReader(backup), every); !errors.Is(err, ErrLocked) {
			t.Errorf("a folder in use: %v", err)
		}
	}
	if err := used.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), cfg, bytes.NewReader(backup), every); !errors.Is(err, ErrHeld) {
		t.Errorf("over a store: %v", err)
	}
	if err := Restore(t.Context(), aside, bytes.NewReader(backup), every); err != nil {
		t.Fatal(err)
	}
	if kept, err := filepath.Glob(filepath.Join(dir, "quarantine-*", "db", "MANIFEST")); err != nil || len(kept) != 1 {
		t.Errorf("put aside: %v %v", kept, err)
	}
	s := open(t, dir)
	want(t, s, "keep", "1", all["1"])
	if s.Incarnation() <= used.Incarnation() {
		t.Errorf("incarnation %d after %d", s.Incarnation(), used.Incarnation())
	}
}

func TestRestoreRefusesDamage(t *testing.T) {
	backup, _, _ := backupOf(t)
	flipped := bytes.Clone(backup)
	flipped[len(flipped)/2] ^= 1
	for name, data := range map[string][]byte{
		"nothing": nil, "another file": []byte("#!/bin/sh\n echo this is no backup at all"),
		"cut": backup[:len(backup)/2], "without its end": backup[:len(backup)-36], "changed": flipped,
		"more after the end": append(bytes.Clone(backup), 0), "its first line alone": []byte(backupLine),
	} {
		dir := filepath.Join(t.TempDir(), "new")
		err := Restore(t.Context(), Config{Dir: dir, Mesh: "mesh", Memory: 8 << 20, Free: plenty}, bytes.NewReader(data), every)
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "db")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a part of a store is left: %v", name, err)
		}
	}
}

// One flipped bit at any place, and a cut at any place, are found.
func TestBackupDamagedAnywhere(t *testing.T) {
	s := open(t, t.TempDir())
	for i := range 20 {
		commit(t, s, Write{"t", fmt.Sprint(i), []byte("value")})
	}
	var out bytes.Buffer
	if err := s.Backup(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	read := func(data []byte) error {
		frames, _, err := readHead(bytes.NewReader(data))
		if err == nil {
			err = frames.records(func([]backupRecord) error { return nil })
		}
		return err
	}
	if err := read(out.Bytes()); err != nil {
		t.Fatal(err)
	}
	for i := range out.Len() {
		if err := read(out.Bytes()[:i]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut at %d: %v", i, err)
		}
		for bit := range 8 {
			data := bytes.Clone(out.Bytes())
			data[i] ^= 1 << bit
			if err := read(data); !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrVersion) {
				t.Errorf("byte %d bit %d: %v", i, bit, err)
			}
		}
	}
}

func TestRestoreRefuses(t *testing.T) {
	backup, _, incarnation := backupOf(t)
	cfg := Config{Dir: filepath.Join(t.TempDir(), "new"), Mesh: "another", Memory: 8 << 20, Free: plenty}
	if err := Restore(t.Context(), cfg, bytes.NewReader(backup), every); !errors.Is(err, ErrMesh) {
		t.Errorf("of another mesh: %v", err)
	}
	newer := bytes.Replace(backup, []byte(backupLine), []byte(backupName+"2\n"), 1)
	cfg.Mesh = "mesh"
	if err := Restore(t.Context(), cfg, bytes.NewReader(newer), every); !errors.Is(err, ErrVersion) || !strings.Contains(err.Error(), `"2"`) {
		t.Errorf("of another version: %v", err)
	}

	// A crash in the middle: what it leaves is a part, and is not taken for a store.
	f := format{Version: formatVersion, Mesh: "mesh", Incarnation: incarnation + 1<<40, Restoring: true}
	if err := f.save(cfg.Dir); err == nil {
		t.Fatal("a folder was made by what was refused")
	}
	s := open(t, cfg.Dir)
	commit(t, s, Write{"t", "of the part", []byte("v")})
	closeStore(t, s)
	if err := f.save(cfg.Dir); err != nil {
		t.Fatal(err)
	}
	if _, err := tryOpen(cfg.Dir, func(c *Config) { c.Quarantine = true }); !errors.Is(err, ErrPartial) || !strings.Contains(err.Error(), "restore again") {
		t.Errorf("a part of a restore: %v", err)
	}
	if err := Restore(t.Context(), cfg, bytes.NewReader(backup), every); err != nil {
		t.Fatal(err)
	}
	s = open(t, cfg.Dir)
	want(t, s, "t", "of the part", "")
	want(t, s, "old", "1", "of the old life")
	if s.Incarnation() <= f.Incarnation {
		t.Errorf("incarnation %d after %d", s.Incarnation(), f.Incarnation)
	}
}

func FuzzReadBackup(f *testing.F) {
	backup, _, _ := backupOf(f)
	f.Add(backup[:1000])
	f.Add([]byte(backupLine))
	f.Fuzz(func(t *testing.T, data []byte) {
		frames, _, err := readHead(bytes.NewReader(data))
		if err != nil {
			return
		}
		n := 0
		err = frames.records(func(records []backupRecord) error { n += len(records); return nil })
		if err == nil && !bytes.HasPrefix(data, []byte(backupLine)) {
			t.Errorf("%d records of no backup", n)
		}
	})
}

func FuzzUnseal(f *testing.F) {
	f.Add([]byte("key"), seal([]byte("key"), []byte("value")))
	f.Fuzz(func(t *testing.T, key, sealed []byte) {
		if value, err := unseal(key, sealed); err == nil && !bytes.Equal(seal(key, value), sealed) {
			t.Error("a value that was never sealed")
		}
	})
}
