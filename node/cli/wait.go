package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// Delays between two looks at an app that is waited for.
const (
	lookFirst = 50 * time.Millisecond
	lookMax   = time.Second
	hangs     = 3 * time.Second // without progress, before it is said why
)

var errWaited = errors.New("waited long enough")

// waitRunning waits until all of an app runs, and tells of progress.
func (s *session) waitRunning(ctx context.Context, c *api.Client, key placement.AppKey, limit time.Duration) error {
	last, told, since := "", "", time.Now()
	var status api.Status
	err := poll(ctx, func() (bool, error) {
		st, err := c.Status(ctx, key)
		if err != nil {
			return false, err
		}
		status = st
		if text := progress(st); text != last {
			last, since = text, time.Now()
			s.say("%s: %s", key, text)
		}
		// What hangs says why, once.
		if why := strings.Join(st.Open, "; "); time.Since(since) > hangs && why != "" && why != told {
			told = why
			s.say("  waiting: %s", why)
		}
		return st.State == "running", nil
	})
	if errors.Is(err, errWaited) {
		why := ""
		if len(status.Open) > 0 {
			why = " (" + strings.Join(status.Open, "; ") + ")"
		}
		return fmt.Errorf("%s is accepted, but not all of it runs after %v: %s%s: hansa explain %s says why", key, limit, progress(status), why, key.App)
	}
	if err != nil {
		return fmt.Errorf("%s is accepted; waiting for it: %w", key, err)
	}
	return nil
}

// waitGone waits until nothing of an app runs at a peer that is in reach.
func (s *session) waitGone(ctx context.Context, c *api.Client, key placement.AppKey, limit time.Duration) error {
	left := 0
	err := poll(ctx, func() (bool, error) {
		l, err := c.Allocations(ctx, api.AllocationQuery{Namespace: key.Namespace, App: key.App})
		if err != nil {
			return false, err
		}
		left = 0
		for _, a := range l.Items {
			if !a.Stale && a.State != "stopped" && a.State != "lost" {
				left++
			}
		}
		return left == 0, nil
	})
	if errors.Is(err, errWaited) {
		return fmt.Errorf("%s is removed, but %s not stopped after %v: hansa ps shows which", key, plural(left, "slot"), limit)
	}
	return err
}

// poll calls look until it is true, fails, or ctx ends; the cause of that is
// the error. An answer that is late or lost is only looked for again.
func poll(ctx context.Context, look func() (bool, error)) error {
	delay := lookFirst
	for {
		done, err := look()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case done:
			return nil
		case err != nil && !passing(err):
			return err
		}
		timer := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-timer.C:
		}
		delay = min(delay*3/2, lookMax)
	}
}

// passing says whether an error may pass by itself.
func passing(err error) bool {
	return api.IsKind(err, api.KindUnreachable) || api.IsKind(err, api.KindTimeout) || api.IsKind(err, api.KindLimit)
}

// progress is a status in a line.
func progress(st api.Status) string {
	var parts []string
	for _, c := range st.Components {
		text := fmt.Sprintf("%s %d/%d", c.Name, c.Running, c.Wanted)
		others := map[string]int{}
		for state, n := range c.States {
			if state != "running" {
				others[state] = n
			}
		}
		if rest := counts(others); rest != "none" {
			text += " (" + rest + ")"
		}
		parts = append(parts, text)
	}
	if len(parts) == 0 {
		return st.State
	}
	return strings.Join(parts, ", ")
}
