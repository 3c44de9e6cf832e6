package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// logStreamsMax bounds how many slots' logs one command reads at once.
const logStreamsMax = 32

type logFlags struct {
	follow, stamps bool
	tail           int
	since          string
}

func (s *session) logsVerb() *cobra.Command {
	var f logFlags
	cmd := &cobra.Command{
		Use: "logs ALLOCATION|APP[/COMPONENT[SLOT]]", Short: "Output of work, from wherever it runs",
		Long: `Prints what an allocation, one slot of a component, all of its slots, or those of
all components write to stdout and stderr. Of several slots each line begins with its
slot. What has ended, or was moved, is named by its allocation's id (hansa ps -o
wide); its log is kept at its peer within a budget.

With -f it goes on with what comes, also when slots are restarted, moved, rolled out
or added, until ctrl-c or until the app is removed; that of an allocation ends with it.

Examples:
  hansa logs shop                  # every slot of every component
  hansa logs shop/api              # every slot of one
  hansa logs 'shop/api[2]' -f      # slot 2, and what comes
  hansa logs shop/api --since 10m --tail 100`,
		Args: takes(1, 1, "an allocation, APP, or APP/COMPONENT"), ValidArgsFunction: s.names(1, s.componentNames("")),
		RunE: func(cmd *cobra.Command, args []string) error {
			since, err := s.parseSince(f.since)
			if err != nil {
				return err
			}
			if f.tail < 0 {
				return usagef("--tail %d: want 0 (all) or more", f.tail)
			}
			c, err := s.client()
			if err != nil {
				return err
			}
			o := api.LogOptions{Follow: f.follow, Tail: f.tail, Since: since}
			if _, err := placement.ParseAllocationID(args[0]); f.follow && err != nil {
				return s.followLogs(cmd.Context(), c, args[0], o, f.stamps)
			}
			targets, err := s.logTargets(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			return s.printLogs(cmd.Context(), c, targets, o, f.stamps)
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&f.follow, "follow", "f", false, "go on with what comes")
	flags.IntVar(&f.tail, "tail", 0, "only the last so many lines of each slot; 0 is all")
	flags.StringVar(&f.since, "since", "", "only since then: 10m, or a time (RFC 3339)")
	flags.BoolVar(&f.stamps, "timestamps", false, "each line with its time")
	return cmd
}

// slotTarget is "APP/COMPONENT" or "APP/COMPONENT[SLOT]".
type slotTarget struct {
	app, component string // no component is all
	slot           int    // -1 is all
}

// parseTarget is parseSlotTarget, or the name of an app: all that it runs.
func parseTarget(text string) (slotTarget, error) {
	if api.IsName(text) {
		return slotTarget{app: text, slot: -1}, nil
	}
	return parseSlotTarget(text)
}

func parseSlotTarget(text string) (slotTarget, error) {
	app, component, ok := strings.Cut(text, "/")
	t := slotTarget{app: app, component: component, slot: -1}
	if name, rest, has := strings.Cut(component, "["); has {
		number, closed := strings.CutSuffix(rest, "]")
		n, err := strconv.ParseUint(number, 10, 32)
		if !closed || err != nil {
			return t, usagef("%q: want a slot's number between the brackets, for instance shop/api[0]", text)
		}
		t.component, t.slot = name, int(n)
	}
	if !ok || t.app == "" || t.component == "" || strings.Contains(t.component, "/") {
		return t, usagef("%q: want APP/COMPONENT or APP/COMPONENT[SLOT], for instance shop/api[0]", text)
	}
	return t, nil
}

// targets are the allocations that a person means: by an id, or an app, a
// component or a slot by name.
func (s *session) targets(ctx context.Context, c *api.Client, text string) ([]api.Allocation, error) {
	if _, err := placement.ParseAllocationID(text); err == nil {
		a, err := c.Allocation(ctx, text)
		return []api.Allocation{a}, err
	}
	t, err := parseTarget(text)
	if err != nil {
		return nil, err
	}
	found, err := s.allocationsOf(ctx, c, t)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%s has no allocation: hansa status %s says why", text, t.app)
	}
	return found, err
}

func (s *session) allocationsOf(ctx context.Context, c *api.Client, t slotTarget) ([]api.Allocation, error) {
	l, err := c.Allocations(ctx, api.AllocationQuery{Namespace: s.namespace, App: t.app, Component: t.component})
	if err != nil {
		return nil, err
	}
	// A slot without a place has nothing to read or to reach.
	return slices.DeleteFunc(l.Items, func(a api.Allocation) bool {
		return a.Peer == "" || t.slot >= 0 && a.Slot != t.slot
	}), nil
}

// logTargets are targets whose logs can be read; one that has ended is among them,
// by its id.
func (s *session) logTargets(ctx context.Context, c *api.Client, text string) ([]api.Allocation, error) {
	found, err := s.targets(ctx, c, text)
	if api.IsKind(err, api.KindNotFound) {
		if _, bad := placement.ParseAllocationID(text); bad == nil {
			return []api.Allocation{{ID: text}}, nil // its log may be kept
		}
	}
	if len(found) > logStreamsMax {
		a := found[0]
		return nil, usagef("%s has %d slots, at most %d can be read at once: name one, for instance %s/%s[%d]",
			text, len(found), logStreamsMax, a.App, a.Component, a.Slot)
	}
	return found, err
}

// printLogs prints the logs of targets, one after the other.
func (s *session) printLogs(ctx context.Context, c *api.Client, targets []api.Allocation, o api.LogOptions, stamps bool) error {
	out := &lineWriter{w: s.io.Out}
	var errs []error
	for _, a := range targets {
		prefix := ""
		if len(targets) > 1 {
			prefix = logPrefix(a)
		}
		err := c.Logs(ctx, a.ID, o, func(l api.LogLine) error { return s.printLogLine(out, a, prefix, stamps, l) },
			func(err error) { s.logBroke(a, err) })
		if o.Follow && ctx.Err() != nil {
			return nil // ctrl-c is how a person ends it
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("log of %s: %w", slotName(a), err))
		}
	}
	return errors.Join(errs...)
}

// logPrefix says of which slot a line is, where there are several.
func logPrefix(a api.Allocation) string { return fmt.Sprintf("%s[%d] ", a.Component, a.Slot) }

func (s *session) logBroke(a api.Allocation, err error) {
	s.say("hansa: the log of %s broke, opening it again: %v", slotName(a), err)
}

// lineWriter keeps lines of several logs whole.
type lineWriter struct {
	mu sync.Mutex // guards w
	w  io.Writer
}

func (l *lineWriter) line(text string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := io.WriteString(l.w, text)
	return err
}

func (s *session) printLogLine(out *lineWriter, a api.Allocation, prefix string, stamps bool, l api.LogLine) error {
	if s.structured() {
		out.mu.Lock()
		defer out.mu.Unlock()
		return s.printLine(struct {
			Allocation string `json:"allocation"`
			Component  string `json:"component"`
			Slot       int    `json:"slot"`
			api.LogLine
		}{a.ID, a.Component, a.Slot, l})
	}
	if stamps && !l.Time.IsZero() {
		prefix += l.Time.UTC().Format("2006-01-02T15:04:05.000Z") + " "
	}
	end := "\n"
	if l.Part && prefix == "" {
		end = "" // the next line goes on with it
	}
	return out.line(prefix + l.Text + end)
}
