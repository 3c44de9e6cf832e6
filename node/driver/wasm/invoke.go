package wasm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tetratelabs/wazero/sys"

	"github.com/hansa-mesh/hansa/node/driver"
)

const (
	// bodyBuffer is how much of a request's body is read before an instance
	// is made.
	bodyBuffer = 64 << 10
	// holdMax is how long a response is held back after its headers, in case
	// the function ends at once: then it can be answered whole, with its
	// length, or as the failure that it was.
	holdMax = 10 * time.Millisecond
)

var (
	errTimeout = errors.New("the function ran past its timeout")
	errStopped = errors.New("the function was stopped")
	errSlow    = errors.New("the request's body did not come within the function's timeout")
	errClosed  = errors.New("the caller does not want the rest")
)

// Invoke implements driver.Invoker.
func (d *Driver) Invoke(ctx context.Context, id string, r *driver.Request) (*driver.Response, error) {
	d.mu.Lock()
	f := d.functions[id]
	d.mu.Unlock()
	if f == nil {
		return nil, fmt.Errorf("invoke %q: %w", id, driver.ErrUnknownTask)
	}
	began := time.Now()
	if err := f.enter(d.c.ConcurrencyMax + d.c.QueueMax); errors.Is(err, errBusy) {
		f.meter.count(string(driver.CauseBusy))
		return d.busy(), nil
	} else if err != nil {
		return nil, fmt.Errorf("invoke %q: %w", id, err)
	}
	c, resp, err := d.prepare(ctx, f, r)
	if c == nil {
		f.leave()
		if err != nil {
			d.counts.canceled.Add(1)
			f.meter.count(driver.OutcomeCanceled)
			return nil, fmt.Errorf("invoke %q: %w", id, err)
		}
		f.meter.count(string(resp.Cause))
		return resp, nil
	}
	c.began = began
	d.counts.calls.Add(1)
	go c.run()
	return c.await(ctx)
}

// call is one request in one instance.
type call struct {
	d        *Driver
	f        *function
	request  *driver.Request
	began    time.Time
	vars     []variable
	length   int64 // of the request's body, -1 if it is not known
	account  *account
	instance *instance // that stays in memory; nil for one of this call's own
	ctx      context.Context
	cancel   context.CancelCauseFunc
	stdin    io.Reader
	upload   *pipe // the rest of a large body, or nil
	body     *pipe
	out      *output
	done     chan struct{} // closed when nothing of the guest runs any more

	// How it ended; written before done is closed, read after.
	err   error
	cause driver.Cause
}

// prepare reads what fits of the body, and finds room. Without a call it
// returns a refusal or an error.
func (d *Driver) prepare(ctx context.Context, f *function, r *driver.Request) (*call, *driver.Response, error) {
	first, err := d.readAhead(ctx, f, r)
	switch {
	case errors.Is(err, errRequestTooLarge):
		d.counts.limits.Add(1)
		return nil, driver.Problem(http.StatusRequestEntityTooLarge, driver.CauseLimit, err.Error()), nil
	case errors.Is(err, errSlow):
		d.counts.limits.Add(1)
		return nil, driver.Problem(http.StatusRequestTimeout, driver.CauseLimit, err.Error()), nil
	case errors.Is(err, errStopped):
		return nil, driver.Busy(err.Error(), time.Second), nil
	case err != nil:
		return nil, nil, fmt.Errorf("read the request's body: %w", err)
	}
	vars, err := metaVariables(r, first.length)
	if err != nil {
		d.counts.limits.Add(1)
		return nil, driver.Problem(http.StatusRequestHeaderFieldsTooLarge, driver.CauseLimit, err.Error()), nil
	}
	if ctx.Err() != nil {
		return nil, nil, ctx.Err()
	}
	c := &call{d: d, f: f, request: r, vars: vars, length: first.length, done: make(chan struct{})}
	if resp, err := c.admit(ctx); resp != nil || err != nil {
		return nil, resp, err
	}
	timed, stopTimer := context.WithTimeoutCause(ctx, f.task.Function.Timeout, errTimeout)
	c.ctx, c.cancel = context.WithCancelCause(timed)
	context.AfterFunc(c.ctx, stopTimer)
	c.body = newPipe(c.ctx)
	c.out = newOutput(c.body, d.c.ResponseMax, c.cancel)
	c.stdin = bytes.NewReader(first.bytes)
	if !first.whole {
		c.upload = newPipe(c.ctx)
		c.stdin = io.MultiReader(c.stdin, c.upload)
	}
	return c, nil, nil
}

func (d *Driver) busy() *driver.Response {
	d.counts.busy.Add(1)
	return driver.Busy("too many calls of this function are under way here", time.Second)
}

// run is the whole life of the instance, in a goroutine of its own.
func (c *call) run() {
	defer c.f.leave()
	defer close(c.done)
	stopped := make(chan struct{})
	defer close(stopped)
	go func() {
		select {
		case <-c.f.kill:
			c.cancel(errStopped)
		case <-stopped:
		}
	}()
	if c.upload != nil {
		go c.pump()
	}
	stderr := c.f.log.Stream("stderr")
	std := stdio{in: c.stdin, out: c.out, err: stderr, sleep: sleeper(c.ctx)}
	execute := c.cold
	if c.instance != nil {
		execute = c.warm
	}
	cpu, err := measured(func() error { return execute(std) })
	closeStreams(stderr)
	if c.upload != nil {
		c.upload.drop()
	}
	c.judge(err, c.account.wasDenied())
	// What the call held is free before anybody learns that it is over.
	if c.instance != nil {
		c.instance.retire(err == nil && c.err == nil && c.ctx.Err() == nil)
	} else {
		c.f.learn(c.account.release())
	}
	c.d.places.release(1)
	c.conclude(err, cpu)
	c.cancel(nil)
}

// pump streams the rest of the request's body to the guest.
func (c *call) pump() {
	limit := c.d.c.RequestMax - bodyBuffer
	if c.request.ContentLength >= 0 {
		limit = c.request.ContentLength - bodyBuffer
	}
	n, err := io.Copy(c.upload, io.LimitReader(c.request.Body, limit))
	switch {
	case err != nil:
	case c.request.ContentLength >= 0 && n < limit:
		err = io.ErrUnexpectedEOF
	case c.request.ContentLength < 0 && n == limit:
		err = errRequestTooLarge
	default:
		err = io.EOF
	}
	if err != io.EOF && !errors.Is(err, io.ErrClosedPipe) {
		c.cancel(&uploadError{err}) // first, so that the guest can't make something of it
	}
	c.upload.finish(err)
}

// uploadError says that the request's body did not come whole.
type uploadError struct{ err error }

func (e *uploadError) Error() string { return "read the request's body: " + e.err.Error() }
func (e *uploadError) Unwrap() error { return e.err }

// cold makes an instance, runs it, and takes it away.
func (c *call) cold(std stdio) error {
	config := c.f.config(std, "_start")
	for _, v := range c.vars {
		config = config.WithEnv(v.name, v.value)
	}
	mod, err := c.f.instantiate(c.ctx, c.account, config)
	if mod != nil {
		_ = mod.Close(context.Background()) // frees memory that account owns: can't fail
	}
	return err
}

// warm has an instance that stays answer, which gets the variables before the
// body.
func (c *call) warm(std stdio) error {
	std.in = io.MultiReader(bytes.NewReader(scgi(c.vars, c.length)), std.in)
	return c.instance.call(c.ctx, std)
}

// judge decides how the call ended.
func (c *call) judge(err error, denied bool) {
	head, bad, whole := c.out.result()
	if c.request.Method == http.MethodHead {
		whole = whole || head != nil
	}
	var exit *sys.ExitError
	code := 0
	if errors.As(err, &exit) {
		code = int(exit.ExitCode())
		if code == 0 {
			err = nil
		}
	}
	why := context.Cause(c.ctx)
	cause, failure := driver.CauseFunction, error(nil)
	var upload *uploadError
	switch {
	case errors.As(why, &upload):
		cause, failure = driver.CauseLimit, why
	case err == nil && bad == nil && whole && (c.upload == nil || !c.upload.broken()):
	case err != nil && c.out.announced() && errors.As(err, &exit) && why == nil:
		// It failed after it had answered in full, with a length: the answer
		// stands, the log has the rest.
	case errors.Is(why, errTimeout):
		cause, failure = driver.CauseTimeout, fmt.Errorf("%w of %v", errTimeout, c.f.task.Function.Timeout)
	case errors.Is(why, errResponseTooLarge):
		cause, failure = driver.CauseLimit, fmt.Errorf("%w of %d bytes", errResponseTooLarge, c.d.c.ResponseMax)
	case bad != nil:
		cause, failure = driver.CauseBad, fmt.Errorf("the function's answer is no response: %w", bad)
	case why != nil:
		cause, failure = driver.CauseStopped, why // by a stop, or its caller went away
	case err != nil && denied:
		cause, failure = driver.CauseMemory, fmt.Errorf("the function needed more memory than it was granted (%d MiB for all calls at one time)", c.f.memory.total>>20)
	case errors.As(err, &exit):
		cause, failure = driver.CauseCrash, fmt.Errorf("the function %s before it had answered", driver.ExitReason(code))
	case err != nil:
		cause, failure = driver.CauseCrash, fmt.Errorf("the function crashed: %s", firstLine(err))
	case head == nil:
		cause, failure = driver.CauseBad, errors.New("the function ended without an answer")
	default:
		cause, failure = driver.CauseBad, errors.New("the function's answer is shorter than its Content-Length")
	}
	c.err, c.cause = failure, cause
}

// conclude counts the call, and tells the body's reader how it ended.
func (c *call) conclude(err error, cpu time.Duration) {
	outcome := driver.OutcomeAnswered
	if c.err != nil {
		outcome = c.d.count(c.cause, context.Cause(c.ctx))
		c.f.log.Note("%s %s: %s", c.request.Method, quoted(c.request.Path), firstLines(c.err, err))
	}
	c.f.cpu.Add(int64(cpu))
	c.f.requests.Add(1)
	c.f.meter.call(outcome, time.Since(c.began), cpu)
	if c.err != nil {
		c.body.finish(c.err)
	} else {
		c.body.finish(io.EOF)
	}
}

// firstLine is what an error says about a trap, without where that was.
func firstLine(err error) string {
	first, _, _ := strings.Cut(err.Error(), "\n")
	return fmt.Sprintf("%.300s", first)
}

// quoted keeps a path from writing lines of its own into the log.
func quoted(path string) string {
	q := fmt.Sprintf("%.500q", path)
	return q[1 : len(q)-1]
}

// firstLines gives a trap's own words too, without the newlines.
func firstLines(failure, err error) string {
	s := failure.Error()
	var exit *sys.ExitError
	if err != nil && !errors.As(err, &exit) {
		s += ": " + strings.ReplaceAll(fmt.Sprintf("%.2000s", err), "\n", " | ")
	}
	return s
}

// count counts a failure, and says how metrics call it.
func (d *Driver) count(cause driver.Cause, why error) (outcome string) {
	outcome = string(cause)
	switch cause {
	case driver.CauseTimeout:
		d.counts.timeouts.Add(1)
	case driver.CauseMemory:
		d.counts.memory.Add(1)
	case driver.CauseCrash:
		d.counts.crashes.Add(1)
	case driver.CauseBad:
		d.counts.bad.Add(1)
	case driver.CauseLimit:
		d.counts.limits.Add(1)
	case driver.CauseStopped:
		if !errors.Is(why, errStopped) {
			d.counts.canceled.Add(1)
			outcome = driver.OutcomeCanceled
		}
	}
	return outcome
}

// await returns the response as soon as there is one to give.
func (c *call) await(ctx context.Context) (*driver.Response, error) {
	select {
	case <-c.out.ready:
		hold := time.NewTimer(holdMax)
		defer hold.Stop()
		select {
		case <-c.done:
		case <-hold.C:
		}
	case <-c.done:
	case <-ctx.Done():
		<-c.done // it is being killed: what it used is free when this returns
	}
	select {
	case <-c.done:
		return c.answer(ctx)
	default:
	}
	head, bad, _ := c.out.result()
	if bad != nil {
		<-c.done
		return c.answer(ctx)
	}
	return c.respond(head), nil
}

// answer is the response of a call that is over.
func (c *call) answer(ctx context.Context) (*driver.Response, error) {
	err, cause := c.err, c.cause
	if err == nil {
		head, _, _ := c.out.result()
		if n, whole := c.body.complete(); whole && head.length < 0 && bodyAllowed(c.request.Method, head.status) {
			head.header.Set("Content-Length", strconv.Itoa(n))
		}
		return c.respond(head), nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("invoke %q: %w", c.f.task.ID, ctx.Err())
	}
	status := http.StatusBadGateway
	switch cause {
	case driver.CauseTimeout:
		status = http.StatusGatewayTimeout
	case driver.CauseMemory:
		status = http.StatusInsufficientStorage
	case driver.CauseCrash:
		status = http.StatusInternalServerError
	case driver.CauseLimit:
		var upload *uploadError
		if errors.Is(err, errRequestTooLarge) {
			status = http.StatusRequestEntityTooLarge
		} else if errors.As(err, &upload) {
			status = http.StatusBadRequest
		}
	case driver.CauseStopped:
		resp := driver.Busy(err.Error(), time.Second)
		resp.Cause = cause
		return resp, nil
	}
	return driver.Problem(status, cause, err.Error()), nil
}

func bodyAllowed(method string, status int) bool {
	return method != http.MethodHead && status != http.StatusNoContent && status != http.StatusNotModified
}

func (c *call) respond(h *head) *driver.Response {
	r := &driver.Response{Status: h.status, Header: h.header, Body: &responseBody{c}}
	if !bodyAllowed(c.request.Method, h.status) {
		c.body.ignore()
		r.Body = http.NoBody
		if h.status != http.StatusNotModified && c.request.Method != http.MethodHead {
			h.header.Del("Content-Length")
		}
	}
	return r
}

// responseBody is what the caller reads; closing it early ends the call.
type responseBody struct{ c *call }

func (b *responseBody) Read(p []byte) (int, error) { return b.c.body.Read(p) }

func (b *responseBody) Close() error {
	b.c.cancel(errClosed) // first: a guest that is told of a closed output could be done before
	b.c.body.drop()
	<-b.c.done
	return nil
}
