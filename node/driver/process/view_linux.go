package process

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// view is what a program sees in another way than the rest of the machine does:
// the mounts of its own namespace, made by the launcher.
//
//	Stage  a folder in memory: the task's files, each shown where it belongs
//	Tmp    shown as /tmp
//	Hide   a folder of which only what is in Keep is shown
//	Binds  volumes
//
// A path that is not there on the machine can't be mounted on, and the machine's
// folders are not written to. The nearest folder that is there is then replaced
// by one in memory with the same entries, each of them mounted; so what is
// added to that folder later, the program does not see.
type view struct {
	Stage string     `json:"stage,omitempty"`
	Tmp   string     `json:"tmp,omitempty"`
	Hide  string     `json:"hide,omitempty"`
	Keep  []string   `json:"keep,omitempty"`
	Binds []bind     `json:"binds,omitempty"`
	Files []viewFile `json:"files,omitempty"`
	// Own is whose the files are.
	Own *account `json:"own,omitempty"`
}

type bind struct {
	Source string `json:"source"`
	Path   string `json:"path"`
}

type viewFile struct {
	Path    string `json:"path"`
	Content []byte `json:"content"`
	Mode    uint32 `json:"mode"`
}

const (
	// mirrorMax bounds the entries of a folder that is replaced by one in memory.
	mirrorMax = 4096
	// stageSpare is what a program may write to its files beyond what they hold.
	stageSpare = 1 << 20
)

// show makes the view, in a mount namespace of this process.
func (v *view) show() error {
	// What is mounted on the machine still comes through; what is mounted here
	// stays here.
	if err := unix.Mount("none", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return fmt.Errorf("have mounts of its own: %w", err)
	}
	defer unix.Umask(unix.Umask(0)) // modes are as they are written here
	b := builder{view: v, own: append([]string{}, v.Keep...), from: map[string]*os.File{}}
	defer b.close()
	// What the root lacks it must get first: what was opened before can't be
	// mounted after.
	if v.lacksInRoot() {
		if err := b.mirror("/"); err != nil {
			return fmt.Errorf("add to /: %w", err)
		}
		b.own = append(b.own, "/")
	}
	// All is opened before anything covers it.
	sources := append([]string{}, v.Keep...)
	for _, bind := range v.Binds {
		sources = append(sources, bind.Source)
	}
	if v.Tmp != "" {
		sources, b.own = append(sources, v.Tmp), append(b.own, "/tmp")
	}
	for _, path := range sources {
		if err := b.open(path); err != nil {
			return fmt.Errorf("show %s: %w", path, err)
		}
	}
	if err := b.stage(); err != nil {
		return fmt.Errorf("make its files: %w", err)
	}
	if v.Hide != "" {
		if err := b.hide(); err != nil {
			return fmt.Errorf("hide %s: %w", v.Hide, err)
		}
	}
	if v.Tmp != "" {
		if err := b.bind(v.Tmp, "/tmp"); err != nil {
			return fmt.Errorf("have a /tmp of its own: %w", err)
		}
	}
	for _, bind := range v.Binds {
		err := b.point(bind.Path, true)
		if err == nil {
			err = b.bind(bind.Source, bind.Path)
		}
		if err != nil {
			return fmt.Errorf("mount %s: %w", bind.Path, err)
		}
		b.own = append(b.own, filepath.Clean(bind.Path))
	}
	for i, f := range v.Files {
		err := b.point(f.Path, false)
		if err == nil {
			err = b.bind(stageName(i), f.Path)
		}
		if err != nil {
			return fmt.Errorf("place the file %s: %w", f.Path, err)
		}
	}
	return nil
}

// lacksInRoot reports whether something is to be placed in a folder of the root
// that is not there.
func (v *view) lacksInRoot() bool {
	paths := make([]string, 0, len(v.Binds)+len(v.Files))
	for _, b := range v.Binds {
		paths = append(paths, b.Path)
	}
	for _, f := range v.Files {
		paths = append(paths, f.Path)
	}
	return slices.ContainsFunc(paths, func(path string) bool {
		_, err := os.Stat(between("/", filepath.Clean(path))[0])
		return errors.Is(err, fs.ErrNotExist)
	})
}

// builder makes one view.
type builder struct {
	*view
	own  []string            // folders in which mount points may be made
	from map[string]*os.File // what is mounted, by name
}

func (b *builder) close() {
	for _, f := range b.from {
		f.Close()
	}
}

func (b *builder) open(path string) error {
	f, err := os.OpenFile(path, unix.O_PATH, 0)
	if err == nil {
		b.from[path] = f
	}
	return err
}

// bind mounts what was opened by that name.
func (b *builder) bind(name, at string) error {
	return bindFile(b.from[name], at)
}

func bindFile(f *os.File, at string) error {
	return unix.Mount(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), at, "", unix.MS_BIND|unix.MS_REC, "")
}

func stageName(i int) string { return fmt.Sprint("file ", i) }

// stage writes the files into memory, where they are the task's.
func (b *builder) stage() error {
	if len(b.Files) == 0 {
		return nil
	}
	size := 0
	for _, f := range b.Files {
		size += len(f.Content) + os.Getpagesize()
	}
	if err := memoryFolder(b.Stage, size+stageSpare); err != nil {
		return err
	}
	for i, f := range b.Files {
		path := filepath.Join(b.Stage, fmt.Sprint(i))
		if err := os.WriteFile(path, f.Content, 0o600); err != nil {
			return err
		}
		if err := b.Own.give(path); err != nil {
			return err
		}
		if err := os.Chmod(path, fs.FileMode(f.Mode)&0o777); err != nil {
			return err
		}
		file, err := os.OpenFile(path, unix.O_PATH, 0)
		if err != nil {
			return err
		}
		b.from[stageName(i)] = file
	}
	return nil
}

// memoryFolder mounts a folder in memory that is not swapped out, where the
// kernel can have that (since 6.3).
func memoryFolder(at string, size int) error {
	options := fmt.Sprintf("mode=0711,size=%d", size)
	const flags = unix.MS_NOSUID | unix.MS_NODEV
	if unix.Mount("tmpfs", at, "tmpfs", flags, options+",noswap") == nil {
		return nil
	}
	return unix.Mount("tmpfs", at, "tmpfs", flags, options)
}

// hide covers a folder, and shows in it what is kept.
func (b *builder) hide() error {
	if err := unix.Mount("tmpfs", b.Hide, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0711,size=1m"); err != nil {
		return err
	}
	for _, path := range b.Keep {
		if err := os.MkdirAll(path, 0o711); err != nil {
			return err
		}
		if err := b.bind(path, path); err != nil {
			return err
		}
	}
	return nil
}

// point makes a mount point, if there is none.
func (b *builder) point(path string, folder bool) error {
	path = filepath.Clean(path)
	info, err := os.Stat(path)
	if err == nil && info.IsDir() != folder {
		return fmt.Errorf("there is something else at this place: %w", fs.ErrExist)
	}
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	at := filepath.Dir(path)
	for ; ; at = filepath.Dir(at) {
		if info, err := os.Stat(at); err == nil {
			if !info.IsDir() {
				return fmt.Errorf("%s is no folder: %w", at, unix.ENOTDIR)
			}
			break
		} else if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	// A program may have left links in a folder of its own: what they lead to is
	// not its own by that.
	rest := strings.TrimPrefix(path, at)
	if at, err = filepath.EvalSymlinks(at); err != nil {
		return err
	}
	path = filepath.Join(at, rest)
	mine := b.isOwn(at)
	if !mine {
		if err := b.mirror(at); err != nil {
			return fmt.Errorf("add to %s: %w", at, err)
		}
		b.own = append(b.own, at)
	}
	for _, dir := range between(at, filepath.Dir(path)) {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		if mine {
			if err := b.Own.give(dir); err != nil {
				return err
			}
		}
	}
	if folder {
		return os.Mkdir(path, 0o755)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) // through no link
	if err != nil {
		return err
	}
	return f.Close()
}

// between are the folders below at down to and with path.
func between(at, path string) (dirs []string) {
	for ; path != at; path = filepath.Dir(path) {
		dirs = append([]string{path}, dirs...)
	}
	return dirs
}

// isOwn reports whether what is written to that folder stays with the task. A
// mirrored folder is its own, but not what is mounted in it.
func (b *builder) isOwn(dir string) bool {
	for _, own := range b.own {
		if dir == own {
			return true
		}
		if below(dir, own) && sameDevice(dir, own) {
			return true
		}
	}
	return false
}

func below(path, dir string) bool {
	return dir == "/" && path != "/" || strings.HasPrefix(path, dir+"/")
}

func sameDevice(a, b string) bool {
	var x, y unix.Stat_t
	return unix.Stat(a, &x) == nil && unix.Stat(b, &y) == nil && x.Dev == y.Dev
}

// mirror replaces a folder by one in memory with the same entries.
func (b *builder) mirror(dir string) error {
	old, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer old.Close()
	info, err := old.Stat()
	if err != nil {
		return err
	}
	names, err := old.Readdirnames(mirrorMax + 1)
	if len(names) > mirrorMax {
		return fmt.Errorf("it has over %d entries: use a folder of its own", mirrorMax)
	}
	if err != nil && len(names) == 0 && !errors.Is(err, io.EOF) {
		return err
	}
	at := dir
	if dir == "/" { // can't be covered: it is made elsewhere and takes its place
		at = b.Stage
		if err := os.MkdirAll(at, 0o711); err != nil {
			return err
		}
	}
	options := fmt.Sprintf("mode=%04o,size=1m,nr_inodes=%d", info.Mode().Perm(), mirrorMax*4)
	if err := unix.Mount("tmpfs", at, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return err
	}
	for _, name := range names {
		if err := mirrorEntry(old, name, filepath.Join(at, name)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	if dir != "/" {
		return nil
	}
	if err := os.Chdir(at); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil { // the old root
		return err
	}
	_ = unix.Unmount(b.Stage, unix.MNT_DETACH) // the new root, mounted within itself
	return os.Chdir("/")
}

// mirrorEntry shows an entry of the old folder at another place.
func mirrorEntry(old *os.File, name, to string) error {
	at := int(old.Fd())
	var st unix.Stat_t
	if err := unix.Fstatat(at, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it went meanwhile
		}
		return err
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFLNK:
		buf := make([]byte, unix.PathMax)
		n, err := unix.Readlinkat(at, name, buf)
		if err != nil {
			return err
		}
		return os.Symlink(string(buf[:n]), to)
	case unix.S_IFDIR:
		if err := os.Mkdir(to, 0o755); err != nil {
			return err
		}
	default:
		if err := os.WriteFile(to, nil, 0o600); err != nil {
			return err
		}
	}
	fd, err := unix.Openat(at, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	return bindFile(f, to)
}
