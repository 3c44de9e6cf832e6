package wasm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/hansa-mesh/hansa/node/driver"
)

const pageBytes = 64 << 10 // of WebAssembly memory

// modules holds compiled code: one module for each digest, however many
// allocations use it, over one cache on disk.
type modules struct {
	dir string

	// compiling bounds how many compilations run at one time: they take all
	// of a core, and hundreds of megabytes for large modules.
	compiling chan struct{}

	mu       sync.Mutex // guards what follows
	cache    wazero.CompilationCache
	byDigest map[string]*module
}

// module is compiled code that is in use.
type module struct {
	digest   string
	users    int
	ready    chan struct{} // closed when what follows is set
	err      error
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	minBytes int64 // of memory that every instance begins with
	took     time.Duration
}

func newModules(dir string) *modules {
	return &modules{dir: dir, compiling: make(chan struct{}, 1), byDigest: map[string]*module{}}
}

// get returns the module, compiled; put gives it back.
func (m *modules) get(ctx context.Context, digest, path string) (*module, error) {
	m.mu.Lock()
	mod := m.byDigest[digest]
	first := mod == nil
	if first {
		mod = &module{digest: digest, ready: make(chan struct{})}
		m.byDigest[digest] = mod
	}
	mod.users++
	m.mu.Unlock()
	if first {
		// Apart from ctx: others may be waiting for the same, and a
		// compilation can't be broken off anyway.
		go func() {
			defer close(mod.ready)
			m.compiling <- struct{}{}
			defer func() { <-m.compiling }()
			mod.err = m.compile(mod, path)
		}()
	}
	select {
	case <-mod.ready:
	case <-ctx.Done():
		go func() { <-mod.ready; m.put(mod) }()
		return nil, ctx.Err()
	}
	if mod.err != nil {
		m.put(mod)
		return nil, mod.err
	}
	return mod, nil
}

// put gives a module back; the last one frees its code.
func (m *modules) put(mod *module) {
	m.mu.Lock()
	mod.users--
	last := mod.users == 0
	if last {
		delete(m.byDigest, mod.digest)
	}
	m.mu.Unlock()
	if last {
		mod.close()
	}
}

func (mod *module) close() {
	ctx := context.Background()
	if mod.compiled != nil {
		_ = mod.compiled.Close(ctx) // frees code: nothing to be done about a failure
	}
	if mod.runtime != nil {
		_ = mod.runtime.Close(ctx)
	}
}

func (m *modules) openCache() (wazero.CompilationCache, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cache == nil {
		c, err := wazero.NewCompilationCacheWithDir(m.dir)
		if err != nil {
			return nil, fmt.Errorf("open the compilation cache: %w", err)
		}
		m.cache = c
	}
	return m.cache, nil
}

// compile fills mod in. A cache on disk that is damaged is emptied, and not
// used for this module.
func (m *modules) compile(mod *module, path string) error {
	begin := time.Now()
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open module %s: %w", mod.digest, err)
	}
	defer f.Close()
	if err := CheckModule(f); err != nil {
		return fmt.Errorf("module %s: %w", mod.digest, err)
	}
	binary, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read module %s: %w", mod.digest, err)
	}
	cache, err := m.openCache()
	if err != nil {
		return err
	}
	// Memory is limited by each call's account and not here, where a refused
	// growth would go unseen, and every size of grant want its own runtime.
	config := wazero.NewRuntimeConfig().WithCloseOnContextDone(true).WithDebugInfoEnabled(false)
	err = mod.load(config.WithCompilationCache(cache), binary)
	if err != nil && strings.Contains(err.Error(), "compilationcache") {
		mod.close()
		if err := m.emptyCache(); err != nil {
			return err
		}
		err = mod.load(config, binary)
	}
	if err != nil {
		mod.close()
		mod.runtime, mod.compiled = nil, nil
		return fmt.Errorf("module %s: %w", mod.digest, err)
	}
	mod.took = time.Since(begin)
	return nil
}

func (mod *module) load(config wazero.RuntimeConfig, binary []byte) (err error) {
	defer func() {
		if p := recover(); p != nil { // hostile bytes against a compiler
			err = fmt.Errorf("%w: the compiler failed on it: %v", driver.ErrInvalid, p)
		}
	}()
	ctx := context.Background()
	mod.runtime = wazero.NewRuntimeWithConfig(ctx, config)
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, mod.runtime); err != nil {
		return fmt.Errorf("instantiate wasi: %w", err)
	}
	mod.compiled, err = mod.runtime.CompileModule(ctx, binary)
	if err != nil {
		if strings.Contains(err.Error(), "compilationcache") {
			return err
		}
		return fmt.Errorf("%w: compile: %.500s", driver.ErrInvalid, err)
	}
	mod.minBytes = 0
	for _, d := range mod.compiled.ExportedMemories() {
		mod.minBytes = max(mod.minBytes, int64(d.Min())*pageBytes)
	}
	return nil
}

func (m *modules) emptyCache() error {
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return fmt.Errorf("empty the compilation cache: %w", err)
	}
	for _, e := range entries { // the folders stay: the open cache writes into them
		files, err := os.ReadDir(filepath.Join(m.dir, e.Name()))
		if err != nil {
			return fmt.Errorf("empty the compilation cache: %w", err)
		}
		for _, f := range files {
			if err := os.Remove(filepath.Join(m.dir, e.Name(), f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("empty the compilation cache: %w", err)
			}
		}
	}
	return nil
}

// trim deletes the oldest files in dir until at most sizeMax bytes are left,
// and does not look into the folders in keep. Compiled code that is in use is
// in memory, and only costs a compilation later.
func trim(dir string, sizeMax int64, keep map[string]bool) error {
	type entry struct {
		path string
		size int64
		at   time.Time
	}
	var all []entry
	var total int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && keep[path] {
			return fs.SkipDir
		}
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		all = append(all, entry{path, info.Size(), info.ModTime()})
		total += info.Size()
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("trim %s: %w", dir, err)
	}
	slices.SortFunc(all, func(a, b entry) int { return a.at.Compare(b.at) })
	for _, e := range all {
		if total <= sizeMax {
			break
		}
		if err := os.Remove(e.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("trim %s: %w", dir, err)
		}
		total -= e.size
	}
	return nil
}

// close frees the cache when nothing uses it any more.
func (m *modules) close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cache == nil {
		return nil
	}
	err := m.cache.Close(context.Background())
	m.cache = nil
	if err != nil {
		return fmt.Errorf("close the compilation cache: %w", err)
	}
	return nil
}
