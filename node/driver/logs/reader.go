package logs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// pollInterval is how often a follower looks for more.
const pollInterval = 50 * time.Millisecond

// lineBytesMax bounds a formatted line: the text, and the time, stream and tag
// before it.
const lineBytesMax = lineMax + 256

// Reader reads a log line by line; see Read.
type Reader struct {
	ctx    context.Context
	cancel context.CancelFunc
	o      driver.LogOptions
	ended  func() bool

	mu   sync.Mutex // held by Read, and by Close to clean up; guards what follows
	root *os.Root   // of the folder: it may be renamed while it is read
	seq  int        // of file, 0 before the first
	file *os.File
	buf  *bufio.Reader
	part []byte // of a line whose end is not written yet
	out  []byte // not handed out yet
	skip int    // lines to pass over, for Tail
	last int    // the newest segment when the reading began,
	size int64  // and what was in it: without Follow that is the end
	err  error
}

// Read reads the log in dir. With Follow it goes on until ended has returned
// true before the last byte was read: ended must be true only when nothing is
// written any more. Without, it ends with what there was when it began, so that
// it does end where the log goes on as fast. ctx and Close end it as well. A
// folder that does not exist is an error that wraps os.ErrNotExist.
func Read(ctx context.Context, dir string, o driver.LogOptions, ended func() bool) (*Reader, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	r := &Reader{root: root, o: o, ended: ended}
	seqs, err := r.segments()
	if err != nil {
		root.Close()
		return nil, fmt.Errorf("read log: %w", err)
	}
	r.ctx, r.cancel = context.WithCancel(ctx)
	if len(seqs) > 0 {
		r.seq, r.last = seqs[0]-1, seqs[len(seqs)-1]
		if info, err := r.root.Stat(segmentName(r.last)); err == nil {
			r.size = info.Size()
		}
	}
	if o.Tail > 0 {
		if err := r.seekTail(seqs, o.Tail); err != nil {
			r.Close()
			return nil, fmt.Errorf("read log: %w", err)
		}
	}
	return r, nil
}

func (r *Reader) segments() ([]int, error) {
	dir, err := r.root.Open(".")
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	return numbers(entries), nil
}

// seekTail finds the segment that holds the n-th line from the end, and how
// many lines of it to skip.
func (r *Reader) seekTail(seqs []int, n int) error {
	for i := len(seqs) - 1; i >= 0; i-- {
		count, err := r.countLines(seqs[i])
		if errors.Is(err, os.ErrNotExist) {
			return nil // rotated away: begin with what is left
		}
		if err != nil {
			return err
		}
		r.seq = seqs[i] - 1
		if count >= n {
			r.skip = count - n
			return nil
		}
		n -= count
	}
	return nil
}

func (r *Reader) countLines(seq int) (int, error) {
	f, err := r.root.Open(segmentName(seq))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf := make([]byte, 64<<10)
	for count := 0; ; {
		n, err := f.Read(buf)
		count += bytes.Count(buf[:n], []byte{'\n'})
		if errors.Is(err, io.EOF) {
			return count, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// Read implements io.Reader. Not for concurrent use, except with Close.
func (r *Reader) Read(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.out) == 0 {
		if r.err == nil {
			r.err = r.fill()
		}
		if r.err != nil && len(r.out) == 0 {
			r.free()
			return 0, r.err
		}
	}
	n := copy(p, r.out)
	r.out = r.out[n:]
	return n, nil
}

// Close ends the reading; a Read that waits returns.
func (r *Reader) Close() error {
	r.cancel() // a Read that waits lets go
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = os.ErrClosed
	}
	r.out = nil
	r.free()
	return nil
}

func (r *Reader) free() {
	if r.file != nil {
		r.file.Close()
		r.file = nil
	}
	r.root.Close()
	r.cancel()
}

// fill puts at least one line into r.out, or returns why there is none.
func (r *Reader) fill() error {
	r.out = r.out[:0]
	for {
		if err := r.ctx.Err(); err != nil {
			return err
		}
		// The order matters: what was written before the end was true is seen.
		over := !r.o.Follow || r.ended()
		newer, err := r.newer()
		if err != nil {
			return err
		}
		if r.file != nil {
			more, err := r.drain()
			if more || err != nil {
				return err
			}
		}
		if !r.o.Follow && newer > r.last {
			return io.EOF
		}
		if newer != 0 {
			if err := r.open(newer); err != nil {
				return err
			}
			if len(r.out) > 0 {
				return nil
			}
			continue
		}
		if over {
			return io.EOF
		}
		select {
		case <-r.ctx.Done():
			return r.ctx.Err()
		case <-time.After(pollInterval):
		}
	}
}

// newer returns the number of the next segment, 0 if there is none yet.
func (r *Reader) newer() (int, error) {
	seqs, err := r.segments()
	if err != nil {
		return 0, fmt.Errorf("read log: %w", err)
	}
	for _, s := range seqs {
		if s > r.seq {
			return s, nil
		}
	}
	return 0, nil
}

func (r *Reader) open(seq int) error {
	f, err := r.root.Open(segmentName(seq))
	if errors.Is(err, os.ErrNotExist) {
		return nil // dropped just now; the next round finds its successor
	}
	if err != nil {
		return fmt.Errorf("read log: %w", err)
	}
	if r.file != nil {
		r.file.Close()
		if seq != r.seq+1 {
			r.out = driver.LogLine{Time: time.Now(), Stream: "hansa", Text: "lines are missing here: the log went on faster than it was read"}.Append(r.out)
		}
	}
	r.file, r.seq, r.part = f, seq, nil
	var from io.Reader = f
	if !r.o.Follow && seq == r.last {
		from = io.LimitReader(f, r.size)
	}
	if r.buf == nil {
		r.buf = bufio.NewReaderSize(from, lineBytesMax)
	} else {
		r.buf.Reset(from)
	}
	return nil
}

// drain takes some lines of the current segment; false if there is none.
func (r *Reader) drain() (bool, error) {
	for len(r.out) < lineBytesMax {
		piece, err := r.buf.ReadSlice('\n')
		if err != nil {
			r.part = append(r.part, piece...)
			if len(r.part) > lineBytesMax {
				r.part = r.part[:0] // no line of ours
			}
			if errors.Is(err, io.EOF) || errors.Is(err, bufio.ErrBufferFull) {
				return len(r.out) > 0, nil
			}
			return false, fmt.Errorf("read log: %w", err)
		}
		line := piece
		if len(r.part) > 0 {
			line = append(r.part, piece...)
			r.part = r.part[:0]
		}
		if r.skip > 0 {
			r.skip--
			continue
		}
		l, err := driver.ParseLogLine(string(line))
		if err != nil || l.Time.Before(r.o.Since) {
			continue // a line torn by a crash, or too old
		}
		r.out = append(r.out, line...)
	}
	return true, nil
}
