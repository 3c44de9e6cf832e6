package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/api"
)

// restartsMax bounds the slots of a component that are restarted at once.
const restartsMax = 64

type restartFlags struct {
	wait, atOnce bool
	timeout      time.Duration
}

func (s *session) restartVerb() *cobra.Command {
	var f restartFlags
	cmd := &cobra.Command{
		Use: "restart ALLOCATION|APP[/COMPONENT[SLOT]]…", Short: "Begins work anew, where it is",
		Long: `Ends slots and starts them again where they are: within their stop grace, with
what they wrote to their folder or disk, and without counting against their restart
budget. What waits for its back-off begins at once. Of each component one slot after
the other is restarted, when the one before runs (and is healthy, where that is
checked).

Examples:
  hansa restart shop                # every slot of every component
  hansa restart shop/api            # the slots of one, one after the other
  hansa restart 'shop/api[3]'
  hansa restart shop/api --all-at-once --wait=false`,
		Args: takes(1, -1, "an allocation, APP, or APP/COMPONENT"), ValidArgsFunction: s.names(-1, s.componentNames("")),
		RunE: func(cmd *cobra.Command, args []string) error { return s.restart(cmd.Context(), args, f) },
	}
	cmd.Flags().BoolVar(&f.wait, "wait", true, "wait until each slot runs, before the next")
	cmd.Flags().BoolVar(&f.atOnce, "all-at-once", false, "all slots of a component together")
	cmd.Flags().DurationVar(&f.timeout, "timeout", waitDefault, "how long to wait for one slot")
	return cmd
}

func (s *session) restart(ctx context.Context, args []string, f restartFlags) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	var all []api.Allocation
	for _, arg := range args {
		found, err := s.targets(ctx, c, arg)
		if err != nil {
			return err
		}
		all = append(all, found...)
	}
	byComponent := map[string][]api.Allocation{}
	var order []string
	for _, a := range all {
		name := a.Namespace + "/" + a.App + "/" + a.Component
		if byComponent[name] == nil {
			order = append(order, name)
		}
		if !slices.ContainsFunc(byComponent[name], func(o api.Allocation) bool { return o.ID == a.ID }) {
			byComponent[name] = append(byComponent[name], a)
		}
	}
	for _, name := range order {
		if err := s.restartComponent(ctx, c, byComponent[name], f); err != nil {
			return err
		}
	}
	return nil
}

// restartComponent restarts slots of one component, one after the other or all at
// once.
func (s *session) restartComponent(ctx context.Context, c *api.Client, slots []api.Allocation, f restartFlags) error {
	if !f.atOnce {
		for _, a := range slots {
			if err := s.restartOne(ctx, c, a, f); err != nil {
				return err
			}
		}
		return nil
	}
	errs := make([]error, len(slots))
	room := make(chan struct{}, restartsMax)
	var wg sync.WaitGroup
	for i, a := range slots {
		wg.Go(func() {
			room <- struct{}{}
			defer func() { <-room }()
			errs[i] = s.restartOne(ctx, c, a, f)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *session) restartOne(ctx context.Context, c *api.Client, a api.Allocation, f restartFlags) error {
	after, err := c.Restart(ctx, a.ID)
	if err != nil {
		return fmt.Errorf("restart %s at %s: %w", slotName(a), nameOr(a.PeerName, a.Peer), err)
	}
	if f.wait {
		if after, err = s.waitRestarted(ctx, c, a, f.timeout); err != nil {
			return err
		}
	}
	return s.printRestart(after, f.wait)
}

func (s *session) printRestart(a api.Allocation, waited bool) error {
	s.printing.Lock() // several slots may come at once
	defer s.printing.Unlock()
	return s.print(a, func(w io.Writer) error {
		what := "is begun anew"
		if waited {
			what = "runs again"
		}
		_, err := fmt.Fprintf(w, "%s %s at %s\n", slotName(a), what, nameOr(a.PeerName, a.Peer))
		return err
	})
}

// waitRestarted waits until a slot runs in another run than before.
func (s *session) waitRestarted(ctx context.Context, c *api.Client, before api.Allocation, limit time.Duration) (api.Allocation, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errWaited)
	defer cancel()
	now := before
	err := poll(ctx, func() (bool, error) {
		a, err := c.Allocation(ctx, before.ID)
		if err != nil {
			return false, err
		}
		now = a
		another := a.Restarts > before.Restarts || !a.StartedAt.Equal(before.StartedAt)
		return another && a.State == "running", nil
	})
	if errors.Is(err, errWaited) {
		return now, fmt.Errorf("%s is begun anew, but does not run after %v: it is %s: %s", slotName(now), limit, now.State, clean(now.Reason))
	}
	if err != nil {
		return now, fmt.Errorf("%s is begun anew; waiting for it: %w", slotName(now), err)
	}
	return now, nil
}
