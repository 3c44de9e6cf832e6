package wasm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"

	"github.com/hansa-mesh/hansa/node/driver"
)

const pageBytes = 64 << 10 // of WebAssembly memory

// modules holds compiled code: one module for each digest, however many
// allocations use it, over one cache on disk.
type modules struct {
	cache cache

	// compiling bounds how many compilations run at one time: they take all
	// of a core, and hundreds of megabytes for large modules.
	compiling chan struct{}

	mu       sync.Mutex // guards what follows
	byDigest map[string]*module
}

// module is compiled code that is in use.
type module struct {
	digest   string
	users    int
	ready    chan struct{} // closed when what follows is set
	err      error
	cache    wazero.CompilationCache // owns the code; nil for none
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	minBytes int64 // of memory that every instance begins with
}

func newModules(dir string) *modules {
	return &modules{cache: cache{dir}, compiling: make(chan struct{}, 1), byDigest: map[string]*module{}}
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

// close frees the code: nothing is to be done about a failure.
func (mod *module) close() {
	ctx := context.Background()
	if mod.compiled != nil {
		_ = mod.compiled.Close(ctx)
	}
	if mod.runtime != nil {
		_ = mod.runtime.Close(ctx)
	}
	if mod.cache != nil {
		_ = mod.cache.Close(ctx)
	}
	mod.compiled, mod.runtime, mod.cache = nil, nil, nil
}

// compile fills mod in.
func (m *modules) compile(mod *module, path string) error {
	binary, err := readModule(path)
	if err != nil {
		return fmt.Errorf("module %s: %w", mod.digest, err)
	}
	// Memory is limited by each call's account and not here, where a refused
	// growth would go unseen, and every size of grant want its own runtime.
	config := wazero.NewRuntimeConfig().WithCloseOnContextDone(true).WithDebugInfoEnabled(false)
	err = m.cache.use(mod.digest, func(c wazero.CompilationCache) error {
		err := mod.load(config.WithCompilationCache(c), binary)
		if err != nil {
			mod.close()
			return err
		}
		mod.cache = c
		return nil
	})
	if err != nil && !errors.Is(err, driver.ErrInvalid) {
		// A disk that is full or broken costs time at the next start.
		err = mod.load(config, binary)
	}
	if err != nil {
		mod.close()
		return fmt.Errorf("module %s: %w", mod.digest, err)
	}
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
		if strings.Contains(err.Error(), "compilationcache") || errors.As(err, new(*fs.PathError)) {
			return err // of the cache, not of the module
		}
		return fmt.Errorf("%w: compile: %.500s", driver.ErrInvalid, err)
	}
	if err := checkImports(mod.compiled, mod.runtime.Module(wasi)); err != nil {
		return err
	}
	mod.minBytes = 0
	for _, d := range mod.compiled.ExportedMemories() {
		mod.minBytes = max(mod.minBytes, int64(d.Min())*pageBytes)
	}
	return nil
}

// serves refuses what would fail at every call: a function that is missing, or
// wants arguments. An empty handler is that of a module that is run anew.
func (mod *module) serves(handler string) error {
	exports := mod.compiled.ExportedFunctions()
	plain := func(name string) bool {
		f := exports[name]
		return f != nil && len(f.ParamTypes()) == 0 && len(f.ResultTypes()) == 0
	}
	switch {
	case handler == "" && !plain("_start"):
		return invalid("its _start is no function without arguments and results; %s", howToBuild)
	case handler == "":
		return nil
	case exports["_start"] != nil:
		return isCommand(handler)
	case !plain(handler):
		return invalid("its handler %.60q is no function without arguments and results; %s", handler, howToBuildHandler)
	case exports["_initialize"] != nil && !plain("_initialize"):
		return invalid("its _initialize is no function without arguments and results; %s", howToBuildHandler)
	}
	return nil
}

// checkImports refuses imports of another type than what is served.
func checkImports(compiled wazero.CompiledModule, served api.Module) error {
	for _, f := range compiled.ImportedFunctions() {
		_, name, _ := f.Import()
		given := served.ExportedFunctionDefinitions()[name]
		if given == nil || !slices.Equal(f.ParamTypes(), given.ParamTypes()) || !slices.Equal(f.ResultTypes(), given.ResultTypes()) {
			return invalid("it imports %.60q with another type than WASI preview 1 has; %s", name, howToBuild)
		}
	}
	return nil
}
