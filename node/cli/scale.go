package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

func (s *session) scaleVerb() *cobra.Command {
	var wait bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use: "scale APP/COMPONENT=N…", Short: "Sets how many slots components have",
		Long: `Sets the replicas of components and waits until they run. Running slots are left
alone. An edit by someone else in between is kept.

Examples:
  hansa scale shop/api=5
  hansa scale shop/api=5 shop/thumbnail=0 --wait=false`,
		Args: takes(1, -1, "APP/COMPONENT=N"), ValidArgsFunction: s.names(-1, s.componentNames("")),
		RunE: func(cmd *cobra.Command, args []string) error { return s.scale(cmd.Context(), args, wait, timeout) },
	}
	cmd.Flags().BoolVar(&wait, "wait", true, "wait until all of it runs")
	cmd.Flags().DurationVar(&timeout, "timeout", waitDefault, "how long to wait")
	return cmd
}

type scaleTarget struct {
	app, component string
	replicas       int
}

func parseScale(text string) (scaleTarget, error) {
	name, number, ok := strings.Cut(text, "=")
	app, component, ok2 := strings.Cut(name, "/")
	if !ok || !ok2 || app == "" || component == "" {
		return scaleTarget{}, usagef("%q: want APP/COMPONENT=N, for instance shop/api=5", text)
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 0 || n > placement.SlotsMax {
		return scaleTarget{}, usagef("%q: want 0 to %d slots, for instance shop/api=5", text, placement.SlotsMax)
	}
	return scaleTarget{app, component, n}, nil
}

func (s *session) scale(ctx context.Context, args []string, wait bool, timeout time.Duration) error {
	targets := make([]scaleTarget, len(args))
	for i, arg := range args {
		var err error
		if targets[i], err = parseScale(arg); err != nil {
			return err
		}
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	var keys []placement.AppKey
	for _, t := range targets {
		key, err := s.key(t.app)
		if err != nil {
			return err
		}
		result, err := c.Scale(ctx, key, t.component, t.replicas)
		if err != nil {
			return fmt.Errorf("scale %s/%s: %w", t.app, t.component, err)
		}
		s.tellPut(result)
		if err := s.print(result, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "%s/%s scaled to %d\n", t.app, t.component, t.replicas)
			return err
		}); err != nil {
			return err
		}
		keys = append(keys, key)
	}
	if !wait {
		return nil
	}
	return s.waitAll(ctx, c, slices.Compact(keys), timeout, allRuns)
}

type removeFlags struct {
	wait      bool
	timeout   time.Duration
	minCopies int
	ifMatch   string
}

func (s *session) removeVerb() *cobra.Command {
	var f removeFlags
	cmd := &cobra.Command{
		Use: "remove APP…", Short: "Removes apps and stops their work",
		Long: `Removes apps from the mesh and waits until their work has stopped, wherever a peer
is in reach. A site that is cut off stops its part when it is back.

Examples:
  hansa remove shop
  hansa remove shop --min-copies 2        # refuse below two copies on disk
  hansa remove shop billing --wait=false`,
		Args: takes(1, -1, "the name of an app"), ValidArgsFunction: s.names(-1, s.appNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.minCopies < 0 {
				return usagef("--min-copies %d: want 0 or more", f.minCopies)
			}
			return s.remove(cmd.Context(), args, f)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolVar(&f.wait, "wait", true, "wait until its work has stopped")
	flags.DurationVar(&f.timeout, "timeout", waitDefault, "how long to wait")
	flags.IntVar(&f.minCopies, "min-copies", 0, "refuse when fewer peers can keep the removal on disk")
	flags.StringVar(&f.ifMatch, "if-match", "", "only the version with this ETag")
	return cmd
}

func (s *session) remove(ctx context.Context, apps []string, f removeFlags) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	var results []api.DeleteResult
	for _, app := range apps {
		key, err := s.key(app)
		if err != nil {
			return err
		}
		req := api.DeleteRequest{Key: key, IfMatch: strings.Trim(f.ifMatch, `"`), MinCopies: f.minCopies, IdempotencyKey: newKey()}
		result, err := again(func() (api.DeleteResult, error) { return c.RemoveApp(ctx, req) })
		if err != nil {
			return fmt.Errorf("remove %s: %w", key, err)
		}
		if !result.Durability.Quorum {
			s.tellDurability(key.String(), result.Durability)
		}
		results = append(results, result)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, f.timeout, errWaited)
	defer cancel()
	for _, result := range results {
		if f.wait {
			if err := s.waitGone(ctx, c, placement.AppKey{Namespace: result.Namespace, App: result.App}, f.timeout); err != nil {
				return err
			}
		}
		if err := s.print(result, func(w io.Writer) error {
			_, err := fmt.Fprintf(w, "%s/%s removed\n", result.Namespace, result.App)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}
