package docker

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/mount"

	"github.com/hansa-mesh/hansa/node/driver"
)

// idFile is in a folder of secret files, and says whose they are.
const idFile = "id"

// mounts writes the task's files and returns how they and its volumes appear
// inside. user is the one that the container runs as.
func (d *Driver) mounts(job driver.Task, user string) ([]mount.Mount, error) {
	var all []mount.Mount
	for _, v := range job.Volumes {
		if !path.IsAbs(v.Path) {
			return nil, fmt.Errorf("%w %q: volume %q: the path %q is not absolute", driver.ErrInvalid, job.ID, v.Name, v.Path)
		}
		if err := own(v.Source, user); err != nil {
			return nil, fmt.Errorf("volume %q: %w", v.Name, err)
		}
		all = append(all, mount.Mount{Type: mount.TypeBind, Source: v.Source, Target: path.Clean(v.Path)})
	}
	plain, secret := filepath.Join(d.taskDir(job.ID), filesDir), d.secretsOf(job.ID)
	for _, dir := range []string{plain, secret} { // anew at each start
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
	}
	if slices.ContainsFunc(job.Files, func(f driver.File) bool { return f.Secret }) {
		if err := os.MkdirAll(secret, 0o700); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(secret, idFile), []byte(job.ID), 0o600); err != nil {
			return nil, err
		}
	}
	for i, f := range job.Files {
		if !path.IsAbs(f.Path) {
			return nil, fmt.Errorf("%w %q: the path %q of a file is not absolute", driver.ErrInvalid, job.ID, f.Path)
		}
		dir := plain
		if f.Secret {
			dir = secret
		}
		at := filepath.Join(dir, strconv.Itoa(i))
		if err := write(at, f, user); err != nil {
			return nil, fmt.Errorf("file %s: %w", f.Path, err)
		}
		all = append(all, mount.Mount{Type: mount.TypeBind, Source: at, Target: path.Clean(f.Path), ReadOnly: true})
	}
	return all, nil
}

// write makes a file whose mode holds inside. Whose it is there can be said only
// of a user with a number; with a name, whoever runs inside may read it. On the
// host nobody can: the folders above are closed to others.
func write(at string, f driver.File, user string) error {
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		return err
	}
	mode := fs.FileMode(f.Mode) & 0o777
	if mode == 0 {
		mode = 0o444
	}
	if err := os.WriteFile(at, f.Content, 0o600); err != nil {
		return err
	}
	uid, gid, ok := numbers(user)
	if !ok || os.Chown(at, uid, gid) != nil {
		mode |= mode >> 3 & 0o070 // keep what the group has
		mode |= mode >> 6 & 0o007
	}
	return os.Chmod(at, mode)
}

// own gives an empty folder to the user that a container runs as, so that it can
// write there at all. What holds something already is left as it is.
func own(dir, user string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	uid, gid, ok := numbers(user)
	if len(entries) > 0 || !ok || uid == 0 {
		return nil
	}
	if err := os.Chown(dir, uid, gid); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

// numbers reads "uid" or "uid:gid"; empty is root.
func numbers(user string) (uid, gid int, ok bool) {
	if user == "" {
		return 0, 0, true
	}
	first, second, both := strings.Cut(user, ":")
	uid, err := strconv.Atoi(first)
	if err != nil {
		return 0, 0, false
	}
	if both {
		if gid, err = strconv.Atoi(second); err != nil {
			return 0, 0, false
		}
	}
	return uid, gid, true
}

func (d *Driver) secretsOf(id string) string {
	return filepath.Join(d.c.SecretsDir, driver.SafeID(id))
}

// dropSecrets deletes the secret files of a task that runs no more.
func (d *Driver) dropSecrets(id string) {
	if err := os.RemoveAll(d.secretsOf(id)); err != nil {
		d.c.Log.Warn("secret files of a task are not deleted", "task", id, "error", err)
	}
}
