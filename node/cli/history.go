package cli

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

func (s *session) historyVerb() *cobra.Command {
	return &cobra.Command{
		Use: "history APP", Short: "The last revisions of an app",
		Long: `Shows the last revisions of an app, newest first: when each was deployed, which
peer wrote it, and what it changed. The one that is wanted is marked; so is an
earlier one that components run as, since the roll-out of a later one was reverted.

Examples:
  hansa history shop
  hansa history shop -o json | jq '.items[1].spec'`,
		Args: takes(1, 1, "the name of an app"), ValidArgsFunction: s.names(1, s.appNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, c, err := s.askFor(args[0])
			if err != nil {
				return err
			}
			l, err := c.History(cmd.Context(), key)
			if err != nil {
				return err
			}
			return s.print(l, func(w io.Writer) error {
				t := s.table("NUMBER", "REVISION", "AGE", "BY", "CHANGE", "")
				wanted := ""
				for _, r := range l.Items { // the newest first
					mark := ""
					switch {
					case r.Current && wanted == "":
						mark, wanted = "wanted", strconv.Itoa(r.Number)
					case r.Current:
						mark = "as " + wanted
					}
					if len(r.InUse) > 0 {
						mark = "runs: " + strings.Join(r.InUse, ", ")
					}
					t.add(strconv.Itoa(r.Number), r.Revision, s.age(r.At), peerName(r.By), r.Change, mark)
				}
				return t.write(w)
			})
		},
	}
}

type rollbackFlags struct {
	to        string
	wait      bool
	timeout   time.Duration
	minCopies int
	ifMatch   string
}

func (s *session) rollbackVerb() *cobra.Command {
	var f rollbackFlags
	cmd := &cobra.Command{
		Use: "rollback APP", Short: "Deploys an earlier revision of an app anew",
		Long: `Deploys an earlier revision of an app anew, as a new one, and waits until it is
rolled out. Without --to that is the one before the current.

Examples:
  hansa rollback shop
  hansa history shop; hansa rollback shop --to 4`,
		Args: takes(1, 1, "the name of an app"), ValidArgsFunction: s.names(1, s.appNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.minCopies < 0 {
				return usagef("--min-copies %d: want 0 or more", f.minCopies)
			}
			return s.rollback(cmd.Context(), args[0], f)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.to, "to", "", "a number or a revision, as hansa history shows them")
	flags.BoolVar(&f.wait, "wait", true, "wait until it is rolled out")
	flags.DurationVar(&f.timeout, "timeout", waitDefault, "how long to wait")
	flags.IntVar(&f.minCopies, "min-copies", 0, "refuse when fewer peers can keep it on disk")
	flags.StringVar(&f.ifMatch, "if-match", "", "only over the version with this ETag")
	return cmd
}

func (s *session) rollback(ctx context.Context, app string, f rollbackFlags) error {
	key, c, err := s.askFor(app)
	if err != nil {
		return err
	}
	req := api.Rollback{Key: key, Revision: f.to, IfMatch: strings.Trim(f.ifMatch, `"`), MinCopies: f.minCopies, IdempotencyKey: newKey()}
	result, err := again(func() (api.PutResult, error) { return c.Rollback(ctx, req) })
	if err != nil {
		return fmt.Errorf("rollback %s: %w", key, err)
	}
	s.tellPut(result)
	var waited error
	if f.wait {
		waited = s.waitAll(ctx, c, []placement.AppKey{key}, f.timeout, rolledOut)
	}
	if err := s.print(result, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s rolled back, as revision %s\n", key, result.Revision)
		return err
	}); err != nil {
		return err
	}
	return waited
}

// rolledOut says whether what was deployed runs everywhere, and fails when it
// never will by itself. A first deploy has nothing to replace: it is done once it
// runs. Peers of an older release do not say how a roll-out stands.
func rolledOut(st api.Status) (done bool, err error) {
	done = st.State == "running"
	var failed []string
	for _, c := range st.Components {
		r := c.Rollout
		if r == nil || r.Revision != st.Revision {
			continue
		}
		switch r.State {
		case "going":
			done = done && (st.Deputy || r.Previous == "" && !mixed(c))
		case "stalled", "reverted":
			failed = append(failed, clean(fmt.Sprintf("%s %s: %s", c.Name, map[string]string{"stalled": "has stalled", "reverted": "was reverted"}[r.State], r.Why)))
		}
	}
	if len(failed) > 0 {
		return false, fmt.Errorf("the roll-out of %s/%s came to nothing: %s", st.Namespace, st.App, strings.Join(failed, "; "))
	}
	return done, nil
}

// mixed says whether slots of a component still are, or run beside, what was deployed
// before and never got as far as to be gone back to.
func mixed(c api.ComponentStatus) bool {
	there := 0
	for _, state := range []string{"pending", "fetching", "starting", "running", "unhealthy", "stopping"} {
		there += c.States[state]
	}
	return c.Rollout.Updated < c.Rollout.Wanted || there > c.Wanted
}

// allRuns says whether as many slots of an app run as are wanted.
func allRuns(st api.Status) (done bool, err error) { return st.State == "running", nil }

// rolloutText is a roll-out in a few words, or "" when there is nothing to say.
func rolloutText(r *api.RolloutStatus) string {
	switch {
	case r == nil || r.State == "done" || r.State == "going" && r.Previous == "":
		return ""
	case r.State == "going":
		text := fmt.Sprintf("%d of %d updated, %d settled", r.Updated, r.Wanted, r.Settled)
		if r.Why != "" {
			text += ", " + r.Why
		}
		return clean(text)
	}
	return clean(r.State + ": " + r.Why)
}
