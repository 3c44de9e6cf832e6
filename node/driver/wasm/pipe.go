package wasm

import (
	"context"
	"io"
	"sync"
)

// pipeBytesMax is how far the writer of a pipe may run ahead of its reader.
const pipeBytesMax = 64 << 10

// pipe is a bounded stream of bytes between the guest and the world. Unlike
// io.Pipe it buffers, so that a guest that is done does not wait for its
// reader, and both ends give up when ctx is done.
type pipe struct {
	ctx context.Context

	mu      sync.Mutex // guards what follows
	buf     []byte
	end     error // what the reader gets after buf: io.EOF or worse
	dropped bool  // nobody reads any more
	discard bool  // what is written goes nowhere
	broke   bool  // the reader was told that there is no more than a part
	changed chan struct{}
}

func newPipe(ctx context.Context) *pipe {
	return &pipe{ctx: ctx, changed: make(chan struct{})}
}

// broadcast wakes whoever waits; called with p.mu held.
func (p *pipe) broadcast() {
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *pipe) Write(b []byte) (int, error) {
	written := 0
	for {
		p.mu.Lock()
		if p.dropped || p.end != nil {
			p.mu.Unlock()
			return written, io.ErrClosedPipe
		}
		if p.discard {
			p.mu.Unlock()
			return written + len(b), nil
		}
		n := min(len(b), pipeBytesMax-len(p.buf))
		if n > 0 {
			p.buf = append(p.buf, b[:n]...)
			b, written = b[n:], written+n
			p.broadcast()
		}
		changed := p.changed
		p.mu.Unlock()
		if len(b) == 0 {
			return written, nil
		}
		select {
		case <-changed:
		case <-p.ctx.Done():
			return written, p.ctx.Err()
		}
	}
}

// Read gives what there is; with the last of it comes the end.
func (p *pipe) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for {
		p.mu.Lock()
		if len(p.buf) > 0 {
			n := copy(b, p.buf)
			p.buf = p.buf[n:]
			var err error
			if len(p.buf) == 0 {
				p.buf, err = nil, p.end
			}
			p.broadcast()
			p.mu.Unlock()
			return n, err
		}
		end, changed := p.end, p.changed
		p.mu.Unlock()
		if end != nil {
			return 0, end
		}
		select {
		case <-changed:
		case <-p.ctx.Done():
			// The writer may have ended it for a better reason just now.
			p.mu.Lock()
			if len(p.buf) > 0 {
				p.mu.Unlock()
				continue
			}
			end := p.end
			if end == nil {
				end = p.ctx.Err()
			}
			p.broke = end != io.EOF
			p.mu.Unlock()
			return 0, end
		}
	}
}

// broken reports whether the reader did not get the whole.
func (p *pipe) broken() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.broke
}

// finish ends the stream after what was written; the first reason stays.
func (p *pipe) finish(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.end == nil {
		p.end = err
		p.broadcast()
	}
}

// drop tells the writer that nobody reads any more.
func (p *pipe) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dropped, p.buf = true, nil
	p.broadcast()
}

// ignore makes writes succeed and go nowhere.
func (p *pipe) ignore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.discard, p.buf = true, nil
	p.broadcast()
}

// complete returns how many bytes are left if the stream is whole.
func (p *pipe) complete() (int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.buf), p.end == io.EOF
}
