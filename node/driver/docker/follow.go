package docker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/moby/moby/client"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/logs"
)

const (
	// overlap is how far before the last line that was copied the other stream is
	// read again: the two streams of a container are stamped one beside the other,
	// and a line may come a little after one of the other that is younger.
	overlap = 250 * time.Millisecond
	// recallMax is how many of the last lines are compared with what comes again.
	recallMax = 20000
	// cutMax is how much later than its beginning the rest of a line may come and
	// still be recognized.
	cutMax = 2 * time.Second
	// frameMax bounds one record of the engine's stream; engines cut lines at
	// 16 KiB.
	frameMax = 1 << 20
	textMax  = 16 << 10 // of one of our lines
	batchMax = 256 << 10
)

// position is where the copy of a container's output has got to.
type position struct {
	from [2]time.Time   // by stream: what is older was copied, or lost
	have map[uint64]int // lines from then on that were copied, by hash
	part [2]piece       // of a line whose end is still to come, by stream
}

// piece is the beginning of a line. Engines cut long lines, and Podman also
// short ones, wherever a read of its ended.
type piece struct {
	at   time.Time
	text string
}

// Indexes of streams.
const (
	stdout = iota
	stderr
)

var streams = [2]string{"stdout", "stderr"}

var lineSeed = maphash.MakeSeed()

// recall finds the position from the copy itself. The lines of one stream come in
// the order of their times: one that is older than the newest that was copied, and
// was not copied, is one that the engine dropped when it changed files under a
// reader. It would stand in the wrong place now, and stays lost.
func recall(ctx context.Context, dir string) (position, error) {
	r, err := logs.Read(ctx, dir, driver.LogOptions{Tail: recallMax}, nil)
	if err != nil {
		return position{}, err
	}
	defer r.Close()
	p := position{have: map[uint64]int{}}
	var first, newest time.Time
	count := 0
	scan := bufio.NewScanner(r)
	scan.Buffer(nil, 2*textMax)
	for scan.Scan() {
		l, err := driver.ParseLogLine(scan.Text())
		i := slices.Index(streams[:], l.Stream)
		if err != nil || i < 0 {
			continue
		}
		if count++; count == 1 {
			first = l.Time
		}
		newest, p.from[i] = later(newest, l.Time), later(p.from[i], l.Time)
		p.have[maphash.Bytes(lineSeed, scan.Bytes())]++
	}
	if err := scan.Err(); err != nil {
		return position{}, err
	}
	if count == 0 {
		return position{}, nil
	}
	if count >= recallMax {
		first = first.Add(1) // of older ones it is not known which were copied
	} // else older ones were copied, and dropped since where the log is full
	for i, from := range p.from { // a stream may have been silent for long
		p.from[i] = later(from, later(first, newest.Add(-overlap)))
	}
	return p, nil
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// copied says whether the line needs no copying: each that was copied counts once.
func (p *position) copied(stream int, at time.Time, line []byte) bool {
	if at.Before(p.from[stream]) {
		return true
	}
	h := maphash.Bytes(lineSeed, bytes.TrimSuffix(line, []byte("\n")))
	if p.have[h] == 0 {
		return false
	}
	p.have[h]--
	return true
}

// follow copies the task's output until it has ended and all was copied. With
// resume some of it was copied before.
func (d *Driver) follow(t *task, resume bool) {
	w, err := logs.Resume(filepath.Join(t.dir, logsDir), t.rec.LogMax) // now: Logs must find it
	if err != nil {
		d.c.Log.Error("the output of a container is not kept", "task", t.rec.ID, "error", err)
	}
	copying := func() {
		defer close(t.drained)
		if w != nil {
			defer w.Close()
			d.copyOutput(t, w, resume)
		}
	}
	if !d.crew.Go(copying) {
		close(t.drained)
	}
}

func (d *Driver) copyOutput(t *task, w *logs.Writer, resume bool) {
	var p position
	var err error
	dir := filepath.Join(t.dir, logsDir)
	for backoff := backoffMin; d.ctx.Err() == nil; backoff = min(2*backoff, backoffMax) {
		if resume {
			if p, err = recall(d.ctx, dir); err != nil {
				d.c.Log.Warn("a log can't be read: lines may come twice", "task", t.rec.ID, "error", err)
			}
		}
		err := d.copyFrom(t, w, &p, true)
		if cerrdefs.IsNotFound(err) {
			d.lookAt(d.ctx, t)
			return
		}
		resume = true
		if d.lookAt(d.ctx, t) {
			// Whatever came between the end of the stream and the container's.
			if p, err = recall(d.ctx, dir); err == nil {
				err = d.copyFrom(t, w, &p, false)
			}
			if err == nil || cerrdefs.IsNotFound(err) {
				return
			}
		}
		if !driver.Pause(d.ctx, backoff) {
			return
		}
	}
}

// copyFrom copies what the engine has from a position on, and with follow what
// comes.
func (d *Driver) copyFrom(t *task, w *logs.Writer, p *position, follow bool) error {
	cli, err := d.engine.client()
	if err != nil {
		return err
	}
	o := client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Timestamps: true, Follow: follow}
	if from := slices.MinFunc(p.from[:], time.Time.Compare); !from.IsZero() {
		o.Since = since(from.Add(-cutMax)) // with the beginnings of lines that were cut
	}
	ctx, cancel := context.WithCancel(d.ctx)
	defer cancel()
	stream, err := cli.ContainerLogs(ctx, t.rec.Container, o)
	if err != nil {
		return err
	}
	defer stream.Close()
	in := bufio.NewReaderSize(stream, 64<<10)
	var batch, frame []byte
	defer func() {
		for i := range p.part { // the end of a line without a newline
			batch = p.appendText(batch, i, false)
		}
		w.Lines(batch)
	}()
	for {
		if len(batch) > 0 && (in.Buffered() == 0 || len(batch) > batchMax) {
			w.Lines(batch)
			batch = batch[:0]
		}
		var stream int
		stream, frame, err = readFrame(in, frame)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		batch = p.appendRecord(batch, stream, frame)
	}
}

// readFrame reads one record of the stream, in which an engine tells standard
// output from standard error.
func readFrame(in *bufio.Reader, buf []byte) (stream int, frame []byte, err error) {
	var header [8]byte
	if _, err := io.ReadFull(in, header[:]); err != nil {
		return 0, buf, err // io.EOF only between two records
	}
	size := binary.BigEndian.Uint32(header[4:])
	if size > frameMax || header[0] > 2 {
		return 0, buf, fmt.Errorf("the engine's log has a record of %d bytes of kind %d", size, header[0])
	}
	if uint32(cap(buf)) < size {
		buf = make([]byte, size)
	}
	frame = buf[:size]
	if _, err := io.ReadFull(in, frame); err != nil {
		return 0, buf, fmt.Errorf("the engine's log is torn: %w", err)
	}
	if header[0] == 2 {
		return stderr, frame, nil
	}
	return stdout, frame, nil
}

// appendRecord adds a record as a line of ours, unless it was copied before. A
// record without a newline is a piece of a longer line.
func (p *position) appendRecord(batch []byte, stream int, frame []byte) []byte {
	stamp, text, _ := strings.Cut(string(frame), " ")
	at, err := time.Parse(time.RFC3339Nano, strings.TrimSpace(stamp))
	if err != nil {
		return batch // no record of an engine
	}
	whole := bytes.HasSuffix(frame, []byte("\n"))
	part := &p.part[stream]
	if part.text == "" {
		part.at = at
	}
	part.text += strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", " ")
	for len(part.text) > textMax { // too long for one line of ours
		rest := part.text[textMax:]
		part.text = part.text[:textMax]
		batch = p.appendText(batch, stream, true)
		part.text = rest
	}
	if whole {
		if part.text == "" { // an empty line
			return p.appendLine(batch, stream, driver.LogLine{Time: part.at})
		}
		return p.appendText(batch, stream, false)
	}
	return batch
}

// appendText adds what there is of a line, if there is anything.
func (p *position) appendText(batch []byte, stream int, partial bool) []byte {
	part := &p.part[stream]
	if part.text == "" {
		return batch
	}
	text := part.text
	if !partial {
		text = strings.TrimSuffix(text, "\r")
	}
	part.text = ""
	return p.appendLine(batch, stream, driver.LogLine{Time: part.at, Partial: partial, Text: text})
}

func (p *position) appendLine(batch []byte, stream int, l driver.LogLine) []byte {
	l.Stream = streams[stream]
	before := len(batch)
	batch = l.Append(batch)
	if p.copied(stream, l.Time, batch[before:]) {
		batch = batch[:before]
	}
	return batch
}
