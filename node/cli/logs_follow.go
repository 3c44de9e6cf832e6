package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// Delays between two looks at what there is to follow: soon after a log ended,
// since something takes its place then.
const (
	followFirst = 250 * time.Millisecond
	followMax   = 3 * time.Second
)

// logFollower prints what the slots that a person named write, whichever
// allocations they come to be: replaced, moved, restarted, added.
type logFollower struct {
	s       *session
	c       *api.Client
	target  slotTarget
	text    string // as the person wrote target
	options api.LogOptions
	stamps  bool
	out     *lineWriter

	wg    sync.WaitGroup
	ended chan struct{} // signalled when a log has ended

	mu     sync.Mutex // guards what follows
	logs   map[string]*followedLog
	slots  map[string]bool // that were ever there, by their prefix
	looked bool            // it is not the first look
	tooFew bool            // it was said that not all can be read
}

// followedLog is one allocation's log.
type followedLog struct {
	position api.LogPosition // of the goroutine that reads, else of who starts one
	reading  bool
	gone     bool               // its allocation is not listed any more
	broken   bool               // its stream breaks, which was said
	stop     context.CancelFunc // of its reading
}

// followLogs follows what text names until ctx is done or the app is gone.
func (s *session) followLogs(ctx context.Context, c *api.Client, text string, o api.LogOptions, stamps bool) error {
	t, err := parseTarget(text)
	if err != nil {
		return err
	}
	f := &logFollower{s: s, c: c, target: t, text: text, options: o, stamps: stamps, out: &lineWriter{w: s.io.Out},
		ended: make(chan struct{}, 1), logs: map[string]*followedLog{}, slots: map[string]bool{}}
	first, err := s.logTargets(ctx, c, text) // what a person got wrong is said at once
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	f.take(ctx, cancel, first)
	f.options.Tail, f.options.Since = 0, time.Time{} // of what comes, all
	err = f.run(ctx, cancel)
	cancel(err)
	f.wg.Wait()
	return err
}

// run looks again and again at what there is.
func (f *logFollower) run(ctx context.Context, cancel context.CancelCauseFunc) error {
	delay := followFirst
	for {
		if err := f.rest(ctx, &delay); err != nil {
			return f.why(ctx)
		}
		found, err := f.s.allocationsOf(ctx, f.c, f.target)
		if err != nil {
			continue // the peer that is asked may be away for a while; its streams say so
		}
		if len(found) == 0 && f.removed(ctx) {
			f.s.say("%s is removed", f.target.app)
			return nil
		}
		f.take(ctx, cancel, found)
	}
}

// rest waits for the next look.
func (f *logFollower) rest(ctx context.Context, delay *time.Duration) error {
	timer := time.NewTimer(*delay)
	defer timer.Stop()
	*delay = min(2**delay, followMax)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-f.ended:
		*delay = followFirst // what ends all the time is asked no faster
	case <-timer.C:
		return nil
	}
	timer.Reset(followFirst)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// why is the error that ended it; ctrl-c, which is how a person ends it, is none.
func (f *logFollower) why(ctx context.Context) error {
	var failed *logError
	if errors.As(context.Cause(ctx), &failed) {
		return failed
	}
	return nil
}

// logError is one after which no log can be printed.
type logError struct{ err error }

func (e *logError) Error() string { return e.err.Error() }
func (e *logError) Unwrap() error { return e.err }

func (f *logFollower) removed(ctx context.Context) bool {
	_, err := f.c.App(ctx, placement.AppKey{Namespace: f.s.namespace, App: f.target.app})
	return api.IsKind(err, api.KindNotFound)
}

// take begins to read what is there and is not read, and leaves what has gone.
func (f *logFollower) take(ctx context.Context, cancel context.CancelCauseFunc, found []api.Allocation) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, l := range f.logs {
		l.gone = !slices.ContainsFunc(found, func(a api.Allocation) bool { return a.ID == id })
		switch {
		case l.gone && !l.reading:
			delete(f.logs, id)
		case l.gone && l.broken: // what is left of it is out of reach
			l.stop()
		}
	}
	for _, a := range found {
		f.slots[logPrefix(a)] = true
	}
	for _, a := range found {
		l := f.logs[a.ID]
		if l != nil && l.reading || a.State == string(placement.AllocPending) || a.State == string(placement.AllocFetching) {
			continue
		}
		if l == nil {
			if len(f.logs) >= logStreamsMax {
				if !f.tooFew {
					f.s.say("hansa: %s has more than %d slots: not all are read", f.text, logStreamsMax)
				}
				f.tooFew = true
				continue
			}
			l = &followedLog{}
			f.logs[a.ID] = l
			if f.looked {
				f.s.say("%s goes on at %s", slotName(a), nameOr(a.PeerName, a.Peer))
			}
		}
		l.reading = true
		var reading context.Context
		reading, l.stop = context.WithCancel(ctx)
		options := f.options
		f.wg.Go(func() { f.read(reading, cancel, a, l, options) })
	}
	f.looked = true
}

// read prints one log until it ends.
func (f *logFollower) read(ctx context.Context, cancel context.CancelCauseFunc, a api.Allocation, l *followedLog, o api.LogOptions) {
	defer l.stop()
	print := func(line api.LogLine) error {
		f.mu.Lock()
		prefix := ""
		if len(f.slots) > 1 {
			prefix = logPrefix(a)
		}
		l.broken = false
		f.mu.Unlock()
		if err := f.s.printLogLine(f.out, a, prefix, f.stamps, line); err != nil {
			return &logError{err}
		}
		return nil
	}
	broken := func(err error) {
		f.mu.Lock()
		again := l.broken
		l.broken = true
		gone := l.gone
		f.mu.Unlock()
		if gone {
			l.stop()
		} else if !again {
			f.s.logBroke(a, err)
		}
	}
	err := f.c.LogsFrom(ctx, a.ID, o, &l.position, print, broken)
	f.mu.Lock()
	l.reading = false
	f.mu.Unlock()
	var failed *logError
	switch {
	case err == nil, ctx.Err() != nil, api.IsKind(err, api.KindNotFound):
		// It ended, or there is none yet: the next look decides.
	case errors.As(err, &failed), api.IsKind(err, api.KindToken), api.IsKind(err, api.KindForbidden):
		cancel(&logError{fmt.Errorf("log of %s: %w", slotName(a), err)})
	default: // out of reach, for a while
		broken(err)
	}
	select {
	case f.ended <- struct{}{}:
	default:
	}
}
