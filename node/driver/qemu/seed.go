package qemu

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// Labels of the seed: the one that cloud-init's NoCloud looks for, and the one
// of a machine that did not ask for cloud-init.
const (
	labelCloudInit = "cidata"
	labelPlain     = "HANSA"
)

// seedFiles are the files of a machine's seed, a small read-only disk:
//
//	env          the environment, NAME='value' a line, for sh and EnvironmentFile
//	files.tar    the files, with whole paths and modes
//	volumes      NAME PATH a line, for the disks that are to be mounted
//	user-data, meta-data, vendor-data   what cloud-init reads, where it was asked for
//
// The vendor's part has cloud-init unpack the rest, early at each boot: it leaves
// the person's own user-data as it is, whatever kind that is.
func seedFiles(t *driver.Task) ([]isoFile, error) {
	packed, err := tarFiles(t.Files)
	if err != nil {
		return nil, err
	}
	files := []isoFile{{"env", []byte(shellEnv(environment(t)))}, {"files.tar", packed}, {"volumes", []byte(mounts(t.Volumes))}}
	ci := t.Machine.CloudInit
	if ci == nil {
		return files, nil
	}
	meta, err := json.Marshal(map[string]any{ // JSON is YAML
		"instance-id": driver.SafeID(t.ID), "local-hostname": ci.Hostname, "public-keys": ci.SSHKeys,
	})
	if err != nil {
		return nil, fmt.Errorf("write the seed: %w", err)
	}
	user := ci.UserData
	if user == "" {
		user = "#cloud-config\n{}\n"
	}
	return append(files, isoFile{"meta-data", meta}, isoFile{"user-data", []byte(user)}, isoFile{"vendor-data", []byte(unpack)}), nil
}

// unpack is run by cloud-init, early at each boot.
const unpack = `#cloud-boothook
#!/bin/sh
# Puts what the mesh gives this machine where it belongs.
seed=$(mktemp -d) && mount -o ro -L cidata "$seed" || exit 0
mkdir -p /etc/hansa && ( umask 077; cat "$seed/env" > /etc/hansa/env )
tar -xpf "$seed/files.tar" -C / --no-same-owner
while read -r name path; do
  disk=/dev/disk/by-id/virtio-$name
  mountpoint -q "$path" && continue
  blkid "$disk" > /dev/null || mkfs.ext4 -q "$disk"
  mkdir -p "$path" && mount "$disk" "$path"
done < "$seed/volumes"
umount "$seed" && rmdir "$seed"
`

// environment is what a machine finds of its surroundings. Ports are those
// inside: unlike a program it has a network of its own.
func environment(t *driver.Task) map[string]string {
	inside := *t
	inside.Ports = make(map[string]driver.Port, len(t.Ports))
	for name, p := range t.Ports {
		inside.Ports[name] = driver.Port{Inside: p.Inside}
	}
	return inside.Environment()
}

// shellEnv writes variables as sh reads them.
func shellEnv(env map[string]string) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(env)) {
		fmt.Fprintf(&b, "%s='%s'\n", name, strings.ReplaceAll(env[name], "'", `'\''`))
	}
	return b.String()
}

func mounts(volumes []driver.Volume) string {
	var b strings.Builder
	for _, v := range volumes {
		if v.Path != "" {
			fmt.Fprintf(&b, "%s %s\n", serial(v.Name), v.Path)
		}
	}
	return b.String()
}

func tarFiles(files []driver.File) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := tar.Header{Name: strings.TrimPrefix(f.Path, "/"), Mode: int64(f.Mode), Size: int64(len(f.Content)), Typeflag: tar.TypeReg}
		if err := w.WriteHeader(&h); err != nil {
			return nil, fmt.Errorf("write the seed: file %s: %w", f.Path, err)
		}
		if _, err := w.Write(f.Content); err != nil {
			return nil, fmt.Errorf("write the seed: file %s: %w", f.Path, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("write the seed: %w", err)
	}
	return b.Bytes(), nil
}

// memoryDir is a folder in memory, for a moment, where the machine has one.
const memoryDir = "/dev/shm"

// makeSeed writes the seed and returns where. It is deleted once qemu has it
// open, which keeps it over the guest's own reboots: what is secret in it is on
// no disk, where there is a folder in memory.
func (d *Driver) makeSeed(t *driver.Task) (path string, err error) {
	files, err := seedFiles(t)
	if err != nil {
		return "", err
	}
	label := labelPlain
	if t.Machine.CloudInit != nil {
		label = labelCloudInit
	}
	path = filepath.Join(d.folder(t.ID), seedFile)
	if info, err := os.Stat(memoryDir); err == nil && info.IsDir() {
		path = filepath.Join(memoryDir, d.seedPrefix()+driver.SafeID(t.ID))
	}
	_ = os.Remove(path) // of a start that was cut short
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("write the seed: %w", err)
	}
	err = writeISO(f, label, files, time.Now())
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		d.dropSeed(path)
		return "", err
	}
	return path, nil
}

// seedPrefix marks this driver's seeds in a folder that it shares.
func (d *Driver) seedPrefix() string { return "hansa-seed-" + d.mark + "-" }

// dropSeeds deletes the seeds of starts that were cut short.
func (d *Driver) dropSeeds() {
	left, _ := filepath.Glob(filepath.Join(memoryDir, d.seedPrefix()+"*")) // the pattern is good
	for _, path := range left {
		d.dropSeed(path)
	}
}

func (d *Driver) dropSeed(path string) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.c.Log.Error("a seed, in which secrets may be, is not deleted", "seed", path, "error", err)
	}
}
