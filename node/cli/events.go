package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// eventsMax is how many events of the past one call may ask for.
const eventsMax = 1000

func (s *session) eventsVerb() *cobra.Command {
	var follow bool
	var limit int
	var since string
	var q api.EventQuery
	cmd := &cobra.Command{
		Use: "events", Short: "What happened; -f goes on with what happens",
		Long: `Lists the last events that the asked peer knows of, oldest first.

Examples:
  hansa events --since 10m
  hansa events -f --app shop
  hansa events -f -o json      # a line of JSON for each`,
		Args: takes(0, 0, ""), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := s.parseSince(since)
			if err != nil {
				return err
			}
			if limit < 1 || limit > eventsMax {
				return usagef("--limit %d: want 1 to %d", limit, eventsMax)
			}
			if cmd.Flags().Changed("namespace") || q.App != "" {
				q.Namespace = s.namespace
			}
			q.Since, q.Newest = at, true
			q.Limit = limit
			return s.events(cmd.Context(), q, follow)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&follow, "follow", "f", false, "go on with what happens")
	flags.IntVar(&limit, "limit", 50, "at most so many of the past, 1 to 1000")
	flags.StringVar(&since, "since", "", "only since then: 10m, or a time (RFC 3339)")
	flags.StringVar(&q.App, "app", "", "only about this app")
	flags.StringVar(&q.Component, "component", "", "only about this component")
	flags.StringVar(&q.Type, "type", "", "only of this type")
	return cmd
}

func (s *session) events(ctx context.Context, q api.EventQuery, follow bool) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	l, err := c.Events(ctx, q)
	if err != nil {
		return err
	}
	if !follow {
		return s.print(l, func(w io.Writer) error {
			t := s.table("WHEN", "TYPE", "SITE", "PEER", "ABOUT", "WHAT")
			for _, e := range l.Items {
				t.add(s.age(e.At), e.Type, orDash(e.Site), nameOr(e.PeerName, e.Peer), about(e), e.Message)
			}
			return t.write(w)
		})
	}
	show := func(e api.Event) error {
		if s.structured() {
			return s.printLine(e)
		}
		_, err := fmt.Fprintf(s.io.Out, "%s  %-12s %-10s %-20s %s\n", e.At.UTC().Format("15:04:05.000"), clean(e.Type),
			clean(nameOr(e.PeerName, e.Peer)), clean(about(e)), clean(e.Message))
		return err
	}
	for _, e := range l.Items {
		if err := show(e); err != nil {
			return err
		}
		q.After = e.ID
	}
	err = c.WatchEvents(ctx, q, show, func(err error) { s.say("hansa: the stream of events broke, opening it again: %v", err) })
	if interrupted(ctx, err) {
		return nil
	}
	return err
}

// about is what an event is about: "shop/api[0-5]".
func about(e api.Event) string {
	text := e.App
	if repository, digest, ok := strings.Cut(e.App, ":"); ok && e.Namespace == placement.NamespaceImages && strings.Contains(digest, ":") {
		text = repository + "@" + digest
	}
	if e.Component != "" {
		text += "/" + e.Component
	}
	if e.Slots != "" {
		text += "[" + e.Slots + "]"
	}
	return orDash(text)
}

// parseSince reads "10m" or a time; "" is no limit.
func (s *session) parseSince(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return s.now().Add(-d), nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	return time.Time{}, usagef("--since %q: want a duration (10m) or a time (2026-01-31T12:00:00Z)", text)
}
