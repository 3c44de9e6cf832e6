package wasm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// admit takes a place on the driver, and an instance that is idle or memory for
// one; what it can't have is the reason for a refusal.
func (c *call) admit(ctx context.Context) (*driver.Response, error) {
	d, f := c.d, c.f
	reserve := min(f.usual.Load(), f.memory.total)
	warm, err := f.memory.acquire(ctx, f.kill, reserve, d.c.QueueWait)
	if err == nil {
		if _, err = d.places.acquire(ctx, f.kill, 1, d.c.QueueWait); err != nil {
			if warm != nil {
				warm.retire(true)
			} else {
				f.memory.release(reserve)
			}
		}
	}
	switch {
	case errors.Is(err, errBusy):
		return d.busy(), nil
	case err != nil:
		return nil, err
	case warm != nil:
		c.instance, c.account = warm, warm.account
		return nil, nil
	}
	c.account = &account{limiter: f.memory, reserved: reserve}
	if f.task.Function.Handler == "" {
		return nil, nil
	}
	c.instance, err = f.begin(ctx, c.account)
	if err == nil {
		return nil, nil
	}
	d.places.release(1)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return d.unready(f, err), nil
}

// unready is the answer where no instance could be made that stays in memory.
func (d *Driver) unready(f *function, err error) *driver.Response {
	status, cause := http.StatusInternalServerError, driver.CauseCrash
	switch {
	case errors.Is(err, errStopped):
		return driver.Busy(err.Error(), time.Second)
	case errors.Is(err, errBegin):
		status, cause = http.StatusGatewayTimeout, driver.CauseTimeout
	case errors.Is(err, errBeginMemory):
		status, cause = http.StatusInsufficientStorage, driver.CauseMemory
	}
	f.log.Note("%s", firstLines(err, nil))
	d.count(cause, err)
	return driver.Problem(status, cause, firstLine(err))
}

var errRequestTooLarge = errors.New("the request's body is over the limit")

// ahead is what was read of a body before there is an instance.
type ahead struct {
	bytes  []byte
	length int64 // of the whole body, -1 if not known
	whole  bool
}

// readAhead reads the beginning of the body. A client that is slower with it
// than the function may take is refused, and none holds up a stop: what still
// reads then ends when the caller closes the body.
func (d *Driver) readAhead(ctx context.Context, f *function, r *driver.Request) (ahead, error) {
	if r.Body == nil {
		return ahead{whole: true}, nil
	}
	type result struct {
		ahead
		err error
	}
	done := make(chan result, 1)
	go func() {
		a, err := readBody(r, d.c.RequestMax)
		done <- result{a, err}
	}()
	slow := time.NewTimer(f.task.Function.Timeout)
	defer slow.Stop()
	select {
	case got := <-done:
		return got.ahead, got.err
	case <-slow.C:
		return ahead{}, errSlow
	case <-f.kill:
		return ahead{}, errStopped
	case <-ctx.Done():
		return ahead{}, ctx.Err()
	}
}

// readBody reads up to bodyBuffer of the body.
func readBody(r *driver.Request, limit int64) (ahead, error) {
	if r.ContentLength > limit {
		return ahead{}, fmt.Errorf("%w of %d bytes", errRequestTooLarge, limit)
	}
	n := int64(bodyBuffer)
	if r.ContentLength >= 0 {
		n = min(n, r.ContentLength)
	}
	var b bytes.Buffer
	got, err := io.CopyN(&b, r.Body, n)
	switch {
	case err == nil && r.ContentLength == n:
		return ahead{b.Bytes(), n, true}, nil
	case err == nil:
		return ahead{b.Bytes(), r.ContentLength, false}, nil
	case errors.Is(err, io.EOF) && r.ContentLength < 0:
		return ahead{b.Bytes(), got, true}, nil
	case errors.Is(err, io.EOF):
		return ahead{}, io.ErrUnexpectedEOF
	}
	return ahead{}, err
}
