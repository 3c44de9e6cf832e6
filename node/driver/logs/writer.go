package logs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/node/driver"
)

const (
	segmentsMax = 4        // segments kept
	segmentMin  = 16 << 10 // bytes; a smaller bound is raised to four of these
	lineMax     = 16 << 10 // bytes of text in one line; longer ones are cut in pieces
)

// Below so much free space, or that part of a small disk, output is dropped and
// counted: logs share the disk with the daemon's own state, which matters more.
const (
	freeMin   = 256 << 20
	freeShare = 10
)

// tight says whether the disk has no room for logs.
func tight(dir string) bool {
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) != nil {
		return false // then writing says what is wrong
	}
	return fs.Bavail*uint64(fs.Bsize) < min(freeMin, fs.Blocks*uint64(fs.Bsize)/freeShare)
}

// Writer appends to the log in one folder.
type Writer struct {
	dir     string
	segment int64 // bytes at which a segment is full

	mu   sync.Mutex // guards what follows
	file *os.File   // nil after a failure or Close
	size int64
	seq  int
	lost int64 // bytes dropped since the last line that was written
	shut bool
}

// Open makes the folder if needed and goes on after the last segment in it.
// sizeMax bounds the bytes that the whole log takes.
func Open(dir string, sizeMax int64) (*Writer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	seqs, err := segments(dir)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	w := &Writer{dir: dir, segment: max(sizeMax/segmentsMax, segmentMin)}
	if len(seqs) > 0 {
		w.seq = seqs[len(seqs)-1]
	}
	// A new segment on each open: the old one may end in a torn line.
	if err := w.rotate(); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return w, nil
}

// Resume is Open for a log that a runtime keeps too, and whose writer comes and
// goes with the daemon: it goes on in the last segment, so that restarts of the
// daemon push nothing out. A line that was torn by the end of the last writer is
// cut off.
func Resume(dir string, sizeMax int64) (*Writer, error) {
	seqs, err := segments(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(seqs) == 0 {
		return Open(dir, sizeMax)
	}
	if err != nil {
		return nil, fmt.Errorf("resume log: %w", err)
	}
	w := &Writer{dir: dir, segment: max(sizeMax/segmentsMax, segmentMin), seq: seqs[len(seqs)-1]}
	if w.file, err = os.OpenFile(filepath.Join(dir, segmentName(w.seq)), os.O_RDWR|os.O_APPEND, 0o600); err != nil {
		return nil, fmt.Errorf("resume log: %w", err)
	}
	if w.size, err = cutTorn(w.file); err != nil {
		w.file.Close()
		return nil, fmt.Errorf("resume log: %w", err)
	}
	return w, nil
}

// cutTorn cuts off what follows the last newline and returns the size that is
// left.
func cutTorn(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	size := info.Size()
	tail := make([]byte, min(size, 2*lineMax))
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil {
		return 0, err
	}
	whole := size - int64(len(tail)) + int64(bytes.LastIndexByte(tail, '\n')) + 1
	if whole == size {
		return size, nil
	}
	return whole, f.Truncate(whole)
}

// Lines appends lines that have their form already, each as
// driver.LogLine.Append writes it, of at most lineMax bytes of text.
func (w *Writer) Lines(b []byte) { w.append(b) }

func segmentName(seq int) string { return fmt.Sprintf("%08d.log", seq) }

// segments returns the numbers of the segments in dir, ascending.
func segments(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	return numbers(entries), nil
}

func numbers(entries []os.DirEntry) []int {
	var seqs []int
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".log"); ok {
			if n, err := strconv.Atoi(name); err == nil && n > 0 {
				seqs = append(seqs, n)
			}
		}
	}
	slices.Sort(seqs)
	return seqs
}

// rotate begins the next segment and drops the oldest.
func (w *Writer) rotate() error {
	next, err := os.OpenFile(filepath.Join(w.dir, segmentName(w.seq+1)), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if w.file != nil {
		w.file.Close() // its data is written; nothing is synced here on purpose
	}
	w.file, w.size = next, 0
	w.seq++
	seqs, err := segments(w.dir)
	if err != nil {
		return err
	}
	for len(seqs) > segmentsMax {
		if err := os.Remove(filepath.Join(w.dir, segmentName(seqs[0]))); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		seqs = seqs[1:]
	}
	return nil
}

// append writes whole formatted lines, as many segments as they need.
func (w *Writer) append(b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.shut || len(b) == 0 {
		return
	}
	if tight(w.dir) {
		w.lost += int64(len(b))
		return
	}
	if w.lost > 0 {
		note := driver.LogLine{Time: time.Now(), Stream: "hansa", Text: fmt.Sprintf("%d bytes of output were lost: the log could not be written, or the disk was nearly full", w.lost)}
		b = append(note.Append(nil), b...)
	}
	for len(b) > 0 {
		n := linesWithin(b, w.segment-w.size)
		if w.size > 0 && w.size+int64(n) > w.segment {
			if err := w.rotate(); err != nil {
				w.lost += int64(len(b))
				return
			}
			n = linesWithin(b, w.segment)
		}
		if !w.write(b[:n]) {
			w.lost += int64(len(b) - n)
			return
		}
		b = b[n:]
	}
	w.lost = 0
}

// linesWithin is the length of the whole lines at the start of b that take at
// most room bytes, but of one at least.
func linesWithin(b []byte, room int64) int {
	if int64(len(b)) <= room {
		return len(b)
	}
	if room > 0 {
		if i := bytes.LastIndexByte(b[:room], '\n'); i >= 0 {
			return i + 1
		}
	}
	return bytes.IndexByte(b, '\n') + 1
}

// write puts lines into the current segment; what fails is counted as lost.
func (w *Writer) write(b []byte) bool {
	n, err := w.file.Write(b)
	w.size += int64(n)
	if err == nil {
		return true
	}
	w.lost += int64(len(b) - n)
	// A torn line would glue itself to the next one.
	if n > 0 && b[n-1] != '\n' && w.file.Truncate(w.size-int64(n)) == nil {
		w.size -= int64(n)
		w.lost += int64(n)
	}
	return false
}

// Note adds a line of the driver's own, in pieces if it is long. What came from
// elsewhere must be quoted: a newline begins another line.
func (w *Writer) Note(format string, args ...any) {
	s := w.Stream("hansa")
	_, _ = fmt.Fprintf(s, format, args...) // never fails
	_ = s.Close()
}

// Close ends the log; later lines are dropped.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.shut {
		return nil
	}
	w.shut = true
	if err := w.file.Close(); err != nil {
		return fmt.Errorf("close log: %w", err)
	}
	return nil
}

// Stream returns a stream of that name. Its Close writes what is left of a
// line without a newline; it does not close the log.
func (w *Writer) Stream(name string) *Stream {
	return &Stream{w: w, name: name, last: time.Time{}}
}

// Stream splits what is written to it into lines. One user at a time.
type Stream struct {
	w    *Writer
	name string
	rest []byte // of a line that has no end yet
	out  []byte // kept for reuse
	last time.Time
}

// Write implements io.Writer; it never fails.
func (s *Stream) Write(p []byte) (int, error) {
	now := time.Now()
	if now.Before(s.last) {
		now = s.last // the clock was set back: lines keep their order
	}
	s.last = now
	s.out = s.out[:0]
	n := len(p)
	for len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		end := i
		if i < 0 {
			end = len(p)
		}
		for take := lineMax - len(s.rest); end > take; take = lineMax - len(s.rest) {
			s.line(now, p[:take], true)
			p, end = p[take:], end-take
		}
		if i < 0 {
			s.rest = append(s.rest, p[:end]...)
			break
		}
		s.line(now, p[:end], false)
		p = p[end+1:]
	}
	s.w.append(s.out)
	if cap(s.out) > 1<<20 {
		s.out = nil
	}
	return n, nil
}

func (s *Stream) line(now time.Time, text []byte, partial bool) {
	if len(s.rest) > 0 {
		text = append(s.rest, text...)
		s.rest = s.rest[:0]
	}
	l := driver.LogLine{Time: now, Stream: s.name, Partial: partial, Text: string(bytes.TrimSuffix(text, []byte("\r")))}
	s.out = l.Append(s.out)
}

// Close writes what is left of a last line.
func (s *Stream) Close() error {
	if len(s.rest) > 0 {
		_, _ = s.Write([]byte("\n")) // never fails
	}
	return nil
}
