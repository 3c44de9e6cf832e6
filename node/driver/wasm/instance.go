package wasm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/hansa-mesh/hansa/node/driver/logs"
)

const (
	// beginMax bounds the start of an instance that stays in memory. It is
	// apart from the timeout of calls: such a guest may take its time.
	beginMax = 30 * time.Second
	// callsMax is how many calls an instance answers before it is replaced, so
	// that what a guest leaks is bounded.
	callsMax = 10_000
)

// stdio is what a guest has for standard input, output and error, and how it
// sleeps.
type stdio struct {
	in       io.Reader
	out, err io.Writer
	sleep    func(ns int64)
}

// config is how every instance of a function is made: with nothing but the
// task's variables and standard input and output.
func (f *function) config(std stdio, start string) wazero.ModuleConfig {
	config := wazero.NewModuleConfig().WithName("").WithStartFunctions(start).
		WithArgs("function").WithStdin(std.in).WithStdout(std.out).WithStderr(std.err).
		WithSysWalltime().WithSysNanotime().WithRandSource(rand.Reader).WithNanosleep(std.sleep)
	for k, v := range f.task.Environment() {
		config = config.WithEnv(k, v)
	}
	return config
}

// instantiate makes an instance and runs its start function.
func (f *function) instantiate(ctx context.Context, a *account, config wazero.ModuleConfig) (mod api.Module, err error) {
	defer contain(&err)
	return f.module.runtime.InstantiateModule(experimental.WithMemoryAllocator(ctx, a), f.module.compiled, config)
}

// contain turns a panic of the runtime into an error: hostile code is not to
// end the daemon.
func contain(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the runtime failed: %v", p)
	}
}

// sleeper is a guest's clock, which ends with ctx.
func sleeper(ctx context.Context) func(ns int64) {
	return func(ns int64) {
		timer := time.NewTimer(time.Duration(ns))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
}

// instance is a module that stays in memory and answers one call at a time. Its
// standard input and output are those of the call; whoever took it out of the
// limiter has it alone, and so needs no lock.
type instance struct {
	f       *function
	account *account
	mod     api.Module
	std     stdio
	calls   int
	since   time.Time // idle; the limiter's
}

// Read, Write and sleep lead to the call that is under way.
func (i *instance) Read(p []byte) (int, error) {
	if i.std.in == nil {
		return 0, io.EOF
	}
	return i.std.in.Read(p)
}

type instanceOut struct{ i *instance }

func (o instanceOut) Write(p []byte) (int, error) { return o.i.std.out.Write(p) }

type instanceErr struct{ i *instance }

func (e instanceErr) Write(p []byte) (int, error) { return e.i.std.err.Write(p) }

func (i *instance) sleep(ns int64) { i.std.sleep(ns) }

// begin makes an instance that stays, out of what a holds, and runs its
// _initialize, whose output goes to the log. It frees a if that fails.
func (f *function) begin(ctx context.Context, a *account) (*instance, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, beginMax, errBegin)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	go func() {
		select {
		case <-f.kill:
			end(errStopped)
		case <-stop:
		}
	}()
	i := &instance{f: f, account: a}
	stdout, stderr := f.log.Stream("stdout"), f.log.Stream("stderr")
	i.std = stdio{out: stdout, err: stderr, sleep: sleeper(ctx)}
	var err error
	i.mod, err = f.instantiate(ctx, a, f.config(stdio{i, instanceOut{i}, instanceErr{i}, i.sleep}, "_initialize"))
	i.rest()
	closeStreams(stdout, stderr)
	if err == nil && context.Cause(ctx) == nil {
		// Nobody knows yet what calls need: twice as much again is a guess that makes
		// instances few at first, where too many would starve each other.
		f.learn(3 * a.used())
		a.settle(f.usual.Load())
		return i, nil
	}
	denied := a.wasDenied()
	i.close()
	switch why := context.Cause(ctx); {
	case why != nil:
		return nil, why
	case denied:
		return nil, fmt.Errorf("%w: it was granted %d MiB for all calls at one time", errBeginMemory, f.memory.total>>20)
	}
	return nil, fmt.Errorf("the function failed in _initialize: %w", err)
}

// first makes an instance ahead of all calls, for which there is room.
func (f *function) first(ctx context.Context) error {
	reserve := min(f.usual.Load(), f.memory.total)
	if _, err := f.memory.acquire(ctx, f.kill, reserve, 0); err != nil {
		return err
	}
	i, err := f.begin(ctx, &account{limiter: f.memory, reserved: reserve})
	if err != nil {
		return err
	}
	f.memory.put(i)
	return nil
}

var (
	errBegin       = fmt.Errorf("the function was not ready within %v of its start", beginMax)
	errBeginMemory = errors.New("the function needs more memory to begin")
)

func closeStreams(all ...*logs.Stream) {
	for _, s := range all {
		_ = s.Close() // never fails
	}
}

// rest leaves the instance with no call's input or output.
func (i *instance) rest() {
	i.std = stdio{out: io.Discard, err: io.Discard, sleep: func(int64) {}}
}

// call runs the handler once. Its stack is made anew each time: one that a call
// let grow would stay.
func (i *instance) call(ctx context.Context, std stdio) (err error) {
	defer contain(&err)
	i.std = std
	i.calls++
	i.account.begin()
	_, err = i.mod.ExportedFunction(i.f.task.Function.Handler).Call(ctx)
	return err
}

// fresh reports whether the instance may answer another call: not if it ended,
// was refused memory, or has answered its share.
func (i *instance) fresh() bool {
	return !i.mod.IsClosed() && !i.account.wasDenied() && i.calls < callsMax
}

// close ends the instance, of which nothing runs any more.
func (i *instance) close() {
	if i.mod != nil {
		_ = i.mod.Close(context.Background()) // frees memory that account owns: can't fail
	}
	i.account.release()
}

// retire gives an instance back to be used again, or ends it: also where calls
// have turned out to need so much that there is no memory for as many instances.
func (i *instance) retire(again bool) {
	i.rest()
	i.f.learn(i.account.used())
	if again && i.fresh() && i.account.settle(i.f.usual.Load()) {
		i.f.memory.put(i)
	} else {
		i.close()
	}
}
