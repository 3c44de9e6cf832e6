package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
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

// waitAll waits until several apps are as is wanted, all at once: one that never
// is must not use up the time of the others.
func (s *session) waitAll(ctx context.Context, c *api.Client, keys []placement.AppKey, limit time.Duration, done wanted) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errWaited)
	defer cancel()
	errs := make([]error, len(keys))
	var wg sync.WaitGroup
	for i, key := range keys { // at most documentsMax
		wg.Go(func() { errs[i] = s.waitFor(ctx, c, key, limit, done) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// wanted says whether an app is as is waited for, or that it never will be.
type wanted func(api.Status) (done bool, err error)

// waitFor waits until an app is as is wanted, and tells of progress.
func (s *session) waitFor(ctx context.Context, c *api.Client, key placement.AppKey, limit time.Duration, done wanted) error {
	last, told, since := "", false, time.Now()
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
		if time.Since(since) > hangs && !told {
			if why := whyNot(ctx, c, key, st); len(why) > 0 {
				told = true
				s.say("%s waits: %s", key, strings.Join(why, "; "))
			}
		}
		return done(st)
	})
	if errors.Is(err, errWaited) {
		text := fmt.Sprintf("%s is accepted, but not all of it runs after %v: %s", key, limit, progress(status))
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), whyTimeMax)
		defer cancel()
		for _, why := range whyNot(late, c, key, status) {
			text += "\n  " + why
		}
		where := ""
		if key.Namespace != placement.DefaultNamespace {
			where = " -n " + key.Namespace
		}
		return fmt.Errorf("%s\n  hansa explain %s%s and hansa logs %s/COMPONENT%s say more", text, key.App, where, key.App, where)
	}
	if err != nil {
		return fmt.Errorf("%s is accepted; waiting for it: %w", key, err)
	}
	return nil
}

// Bounds on the reasons that are looked for when an app does not run.
const (
	whysMax    = 8
	whyTimeMax = 2 * time.Second
)

// whyNot is what is open of an app, and what keeps its slots from running.
func whyNot(ctx context.Context, c *api.Client, key placement.AppKey, st api.Status) []string {
	return append(slices.Clone(st.Open), slotsNotRunning(ctx, c, key)...)
}

// slotsNotRunning are some slots of an app that do not run, each with its reason.
func slotsNotRunning(ctx context.Context, c *api.Client, key placement.AppKey) []string {
	l, err := c.Allocations(ctx, api.AllocationQuery{Namespace: key.Namespace, App: key.App, Page: onePage})
	if err != nil {
		return nil // only the words are fewer
	}
	var why []string
	for _, a := range l.Items {
		if a.State != "running" && a.Reason != "" && len(why) < whysMax {
			at := ""
			if a.Peer != "" {
				at = " at " + nameOr(a.PeerName, a.Peer)
			}
			why = append(why, clean(fmt.Sprintf("%s is %s%s: %s", slotName(a), a.State, at, a.Reason)))
		}
	}
	return why
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

// poll calls look until it is true, fails, or ctx ends: errWaited or
// context.Canceled. An answer that is late or lost is only looked for again.
func poll(ctx context.Context, look func() (bool, error)) error {
	delay := lookFirst
	for {
		done, err := look()
		switch {
		case ctx.Err() != nil:
			return ended(ctx)
		case done:
			return nil
		case err != nil && !passing(err):
			return err
		}
		timer := time.NewTimer(delay)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ended(ctx)
		case <-timer.C:
		}
		delay = min(delay*3/2, lookMax)
	}
}

// ended is why ctx is done: the time is up, or a person ended it, whatever the
// signal that said so.
func ended(ctx context.Context) error {
	if cause := context.Cause(ctx); errors.Is(cause, errWaited) {
		return cause
	}
	return ctx.Err()
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
		if going := rolloutText(c.Rollout); going != "" {
			text = c.Name + ": " + going
		}
		parts = append(parts, text)
	}
	if len(parts) == 0 {
		return st.State
	}
	return strings.Join(parts, ", ")
}
