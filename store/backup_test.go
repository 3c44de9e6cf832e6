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

func TestRestore(t *testing.T) {
	backup, all, incarnation := backupOf(t)
	cfg := Config{Dir: filepath.Join(t.TempDir(), "new"), Mesh: "mesh", Memory: 8 << 20, Free: plenty, IncarnationFloor: incarnation}
	if err := Restore(t.Context(), cfg, bytes.NewReader(backup), "old"); err != nil {
		t.Fatal(err)
	}
	if err := Restore(t.Context(), cfg, bytes.NewReader(backup)); err == nil || !strings.Contains(err.Error(), "already") {
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

func TestRestoreRefusesDamage(t *testing.T) {
	backup, _, _ := backupOf(t)
	flipped := bytes.Clone(backup)
	flipped[len(flipped)/2] ^= 1
	for name, data := range map[string][]byte{
		"nothing": nil, "another file": []byte("#!/bin/sh\n echo this is no backup at all"),
		"cut": backup[:len(backup)/2], "without its end": backup[:len(backup)-36], "changed": flipped,
		"more after the end": append(bytes.Clone(backup), 0),
	} {
		dir := filepath.Join(t.TempDir(), "new")
		err := Restore(t.Context(), Config{Dir: dir, Mesh: "mesh", Memory: 8 << 20, Free: plenty}, bytes.NewReader(data))
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "db")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: a part of a store is left: %v", name, err)
		}
	}
}

func FuzzReadBackup(f *testing.F) {
	backup, _, _ := backupOf(f)
	f.Add(backup[:1000])
	f.Add([]byte(backupLine))
	f.Fuzz(func(t *testing.T, data []byte) {
		n := 0
		err := readBackup(bytes.NewReader(data), func(records []backupRecord) error { n += len(records); return nil })
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
