package wasm

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/prune"
)

// Limits of the compiled code on disk.
const (
	cacheBytesMax   = 1 << 30
	cacheFoldersMax = 4096
)

// sumFile holds the hash of all else in its folder.
const sumFile = "sum"

// cache keeps compiled code on disk: a folder for each module and version of
// the compiler, sealed by a hash over all that is in it. wazero itself checks
// the code but not where its functions begin, and a wrong beginning would take
// the daemon down with it. So code is compiled into a folder of its own, which
// is sealed and then moved into place; a folder whose seal does not hold is
// deleted, never read. Several drivers may share one cache.
type cache struct{ dir string }

// wazeroVersion is part of the folders' names: other versions' code is not
// looked at, and goes with the oldest.
var wazeroVersion = sync.OnceValue(func() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "github.com/tetratelabs/wazero" {
				return m.Version
			}
		}
	}
	return "unknown" // in a test of wazero itself
})

func (c cache) folder(digest string) string {
	return filepath.Join(c.dir, driver.SafeID(digest)+"-"+wazeroVersion()+"-"+runtime.GOARCH)
}

// use calls load with what is on disk of the module, or with an empty cache
// that is kept if load succeeds.
func (c cache) use(digest string, load func(wazero.CompilationCache) error) error {
	dir := c.folder(digest)
	if sealed(dir) {
		now := time.Now()
		_ = os.Chtimes(dir, now, now) // so that the longest unused goes first
		if err := c.with(dir, load); err == nil || errors.Is(err, driver.ErrInvalid) {
			return err
		}
		// Not what wazero takes, though it is what was written.
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("clear compiled code away: %w", err)
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of compiled code: %w", err)
	}
	fresh, err := os.MkdirTemp(c.dir, ".new-*")
	if err != nil {
		return fmt.Errorf("make the folder of compiled code: %w", err)
	}
	defer os.RemoveAll(fresh) // what is left of it, if it is not in place
	if err := c.with(fresh, load); err != nil {
		return err
	}
	// From here on the module runs; that it is not kept costs time later.
	if seal(fresh) == nil {
		_ = os.Rename(fresh, dir) // fails where another driver was first
	}
	return nil
}

func (c cache) with(dir string, load func(wazero.CompilationCache) error) error {
	cache, err := wazero.NewCompilationCacheWithDir(dir)
	if err != nil {
		return fmt.Errorf("open compiled code: %w", err)
	}
	if err := load(cache); err != nil {
		_ = cache.Close(context.Background()) // of nothing that is in use
		return err
	}
	return nil
}

// trim deletes what was longest not used beyond the limits.
func (c cache) trim() error { return prune.Folders(c.dir, cacheBytesMax, cacheFoldersMax, nil) }

// seal writes the folder's hash into it.
func seal(dir string) error {
	sum, err := sumOf(dir)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(dir, sumFile), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.WriteString(sum); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// sealed reports whether the folder holds exactly what was sealed.
func sealed(dir string) bool {
	want, err := os.ReadFile(filepath.Join(dir, sumFile))
	if err != nil {
		return false
	}
	got, err := sumOf(dir)
	return err == nil && got == string(want)
}

// castagnoli is computed by the processor, at a tenth of what a cryptographic
// hash costs a start: the seal is against damage, not against forgers, who
// could write here as well.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sumOf is the hash over the names, sizes and contents of all files in dir but
// the seal.
func sumOf(dir string) (string, error) {
	sum := crc32.New(castagnoli)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == sumFile {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		fmt.Fprintf(sum, "%s %d\n", strings.TrimPrefix(path, dir), info.Size())
		_, err = io.Copy(sum, f)
		return err
	})
	return hex.EncodeToString(sum.Sum(nil)), err
}
