package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Delays and limits of streams that are opened again.
const (
	retryFirst   = 250 * time.Millisecond
	retryMax     = 10 * time.Second
	lineBytesMax = 1 << 20
	sameTimeMax  = 4096 // lines of one instant that a resumed log can tell apart
)

// LogLine is one line of a log.
type LogLine struct {
	Time   time.Time `json:"time,omitzero"`
	Stream string    `json:"stream,omitempty"` // stdout, stderr, or hansa for a note about the log
	Part   bool      `json:"part,omitempty"`   // the line goes on in the next
	Text   string    `json:"text"`
}

// ParseLogLine reads "TIME STREAM TAG TEXT"; a line of another form is all
// text.
func ParseLogLine(line string) LogLine {
	stamp, rest, ok1 := strings.Cut(line, " ")
	stream, rest, ok2 := strings.Cut(rest, " ")
	tag, text, ok3 := strings.Cut(rest, " ")
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if !ok1 || !ok2 || (!ok3 && rest != "F" && rest != "P") || err != nil || (tag != "F" && tag != "P") {
		return LogLine{Text: line}
	}
	return LogLine{Time: at, Stream: stream, Part: tag == "P", Text: text}
}

// Logs calls line for each line of an allocation's log. With Follow it goes on
// until ctx is done or the log ends, and opens the stream again where it broke:
// no line is lost, none comes twice. broken, unless nil, is told of each break.
func (c *Client) Logs(ctx context.Context, id string, o LogOptions, line func(LogLine) error, broken func(error)) error {
	return c.LogsFrom(ctx, id, o, &LogPosition{}, line, broken)
}

// LogsFrom is Logs from a position on, which it moves: a log that has ended can be
// read on when its allocation runs again.
func (c *Client) LogsFrom(ctx context.Context, id string, o LogOptions, seen *LogPosition, line func(LogLine) error, broken func(error)) error {
	seen.rewind()
	delay := retryFirst
	for {
		before := seen.lines
		err := c.logsOnce(ctx, id, seen.options(o), func(l LogLine) error {
			if seen.repeated(l) {
				return nil
			}
			return line(l)
		})
		var stop *stopError
		switch {
		case err == nil:
			return nil
		case errors.As(err, &stop):
			return stop.err
		case ctx.Err() != nil:
			return ctx.Err()
		case !o.Follow || !retryable(err) || before == 0 && seen.lines == 0:
			return err
		}
		if seen.lines > before {
			delay = retryFirst
		}
		if broken != nil {
			broken(err)
		}
		if err := pause(ctx, delay); err != nil {
			return err
		}
		delay = min(2*delay, retryMax)
		seen.rewind()
	}
}

// stopError is an error of the caller's own function: not to be retried.
type stopError struct{ err error }

func (e *stopError) Error() string { return e.err.Error() }

// retryable says whether a stream that ended with err is worth opening again.
func retryable(err error) bool {
	var problem *Problem
	if errors.As(err, &problem) {
		return problem.Status >= 500 || problem.Status == http.StatusTooManyRequests
	}
	return true
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// LogPosition knows the last lines that were seen, so that a log that is opened
// again "since" the last one's time can leave out what came before. The zero value
// is the start of the log.
type LogPosition struct {
	lines  int
	last   time.Time
	atLast map[string]int // lines of that instant -> how often seen
	skip   map[string]int // what is left of atLast after a rewind
}

func (r *LogPosition) options(o LogOptions) LogOptions {
	if !r.last.IsZero() {
		o.Since, o.Tail = r.last, 0
	}
	return o
}

func (r *LogPosition) rewind() {
	r.skip = map[string]int{}
	for text, n := range r.atLast {
		r.skip[text] = n
	}
}

// repeated notes a line, and says whether it was seen before the stream broke.
func (r *LogPosition) repeated(l LogLine) bool {
	if l.Time.IsZero() {
		r.lines++
		return false
	}
	key := l.Stream + " " + l.Text
	if l.Time.Equal(r.last) && r.skip[key] > 0 {
		r.skip[key]--
		return true
	}
	r.lines++
	if !l.Time.Equal(r.last) {
		if l.Time.Before(r.last) { // a clock was set back: keep what was latest
			return false
		}
		r.last, r.atLast, r.skip = l.Time, map[string]int{}, nil
	}
	if len(r.atLast) < sameTimeMax {
		r.atLast[key]++
	}
	return false
}

func (c *Client) logsOnce(ctx context.Context, id string, o LogOptions, line func(LogLine) error) error {
	query := url.Values{}
	if o.Follow {
		query.Set("follow", "true")
	}
	if o.Tail > 0 {
		query.Set("tail", strconv.Itoa(o.Tail))
	}
	if !o.Since.IsZero() {
		query.Set("since", o.Since.UTC().Format(time.RFC3339Nano))
	}
	resp, err := c.do(ctx, call{method: http.MethodGet, path: pathOf("v1", "allocations", id, "logs"), query: query})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	err = readLines(resp.Body, func(text string) error {
		if err := line(ParseLogLine(text)); err != nil {
			return &stopError{err}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read log of %s: %w", id, err)
	}
	return nil
}

// readLines calls line for each line of r. A line that breaks off is left out,
// unless the end is clean.
func readLines(r io.Reader, line func(string) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	var buf []byte
	for {
		part, err := in.ReadSlice('\n')
		buf = append(buf, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull) && len(buf) < lineBytesMax:
			continue
		case errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("a line of more than %d bytes", lineBytesMax)
		case err == io.EOF && len(buf) == 0:
			return nil
		case err != nil && err != io.EOF:
			return err
		}
		if err := line(strings.TrimRight(string(buf), "\r\n")); err != nil {
			return err
		}
		buf = buf[:0]
	}
}

// Events is one page of what happened.
func (c *Client) Events(ctx context.Context, q EventQuery) (List[Event], error) {
	v := q.values()
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	if q.After != "" {
		v.Set("cursor", encodeCursor(q.After))
	}
	return getJSON[List[Event]](ctx, c, "/v1/events", v)
}

func (q EventQuery) values() url.Values {
	v := values("namespace", q.Namespace, "app", q.App, "component", q.Component, "type", q.Type)
	if !q.Since.IsZero() {
		v.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	if q.Newest {
		v.Set("newest", "true")
	}
	return v
}

// WatchEvents calls event for each event after q.After (an empty one is from
// now on) until ctx is done or event fails. A broken stream is opened again
// after the last event; broken, unless nil, is told of each break.
func (c *Client) WatchEvents(ctx context.Context, q EventQuery, event func(Event) error, broken func(error)) error {
	delay := retryFirst
	opened := false
	for {
		progress := false
		err := c.watchOnce(ctx, q, &opened, func(e Event) error {
			q.After, progress = e.ID, true
			return event(e)
		})
		var stop *stopError
		switch {
		case errors.As(err, &stop):
			return stop.err
		case ctx.Err() != nil:
			return ctx.Err()
		case !opened || !retryable(err):
			return err
		}
		if progress {
			delay = retryFirst
		}
		if broken != nil {
			broken(err)
		}
		if err := pause(ctx, delay); err != nil {
			return err
		}
		delay = min(2*delay, retryMax)
	}
}

// errStreamEnded: an event stream has no end of its own.
var errStreamEnded = errors.New("the stream of events ended")

func (c *Client) watchOnce(ctx context.Context, q EventQuery, opened *bool, event func(Event) error) error {
	header := http.Header{"Accept": {"text/event-stream"}}
	if q.After != "" {
		header.Set("Last-Event-ID", q.After)
	}
	resp, err := c.do(ctx, call{method: http.MethodGet, path: "/v1/events", query: q.values(), header: header})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	*opened = true
	err = readLines(resp.Body, func(text string) error {
		data, ok := strings.CutPrefix(text, "data: ")
		if !ok {
			return nil
		}
		var e Event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return err
		}
		if err := event(e); err != nil {
			return &stopError{err}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read events: %w", err)
	}
	return errStreamEnded
}
