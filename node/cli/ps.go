package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/api"
)

func (s *session) psVerb() *cobra.Command {
	var everywhere bool
	var q api.AllocationQuery
	cmd := &cobra.Command{
		Use: "ps [APP]", Short: "What runs where",
		Long: `Lists allocations: one line for each slot that is bound to a host, and for each
that has no place yet, with the reason. With -o wide
also what each uses of CPU (in cores) and memory, how long it has been there, and
why it was restarted last.

Examples:
  hansa ps
  hansa ps shop --site fra
  hansa ps -A --state failed,lost -o wide
  hansa ps shop -o json | jq -r '.items[].ports.http'`,
		Args: takes(0, 1, "at most one app"), ValidArgsFunction: s.names(1, s.appNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, state := range q.States {
				if !slices.Contains(api.AllocationStates, state) {
					return usagef("--state %q: want one of %s", state, strings.Join(api.AllocationStates, ", "))
				}
			}
			scope, err := s.scope(args, everywhere)
			if err != nil {
				return err
			}
			q.Namespace, q.App = scope.Namespace, scope.App
			c, err := s.client()
			if err != nil {
				return err
			}
			l, err := c.Allocations(cmd.Context(), q)
			if err != nil {
				return err
			}
			for _, peer := range slices.Sorted(maps.Keys(l.AsOf)) {
				if l.AsOf[peer].IsZero() {
					s.say("peer %.12s does not answer: what it runs is not listed", peer)
				}
			}
			return s.print(l, func(w io.Writer) error {
				if len(l.Items) == 0 {
					s.say("%s", nothingRuns(q))
					return nil
				}
				return s.allocationsTable(l.Items, everywhere).write(w)
			})
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&everywhere, "all-namespaces", "A", false, "of every namespace")
	flags.StringVar(&q.Site, "site", "", "only at this site")
	flags.StringVar(&q.Peer, "peer", "", "only at this peer, by name or id")
	flags.StringVar(&q.Component, "component", "", "only of this component")
	flags.StringSliceVar(&q.States, "state", nil, "only in these states, with commas between")
	mustComplete(cmd, "state", api.AllocationStates...)
	return cmd
}

// nothingRuns says so, and where it is said why.
func nothingRuns(q api.AllocationQuery) string {
	if q.App != "" {
		return fmt.Sprintf("nothing of %s runs: hansa status %s says why", q.App, q.App)
	}
	return fmt.Sprintf("nothing runs in %s: hansa apps shows what is wanted", namespaceName(q.Namespace))
}

// slotName is how a person names a slot: "shop/api[3]".
func slotName(a api.Allocation) string {
	if a.App == "" {
		return a.ID
	}
	return fmt.Sprintf("%s/%s[%d]", a.App, a.Component, a.Slot)
}

func (s *session) allocationsTable(items []api.Allocation, everywhere bool) *table {
	head := []string{"SLOT", "KIND", "SITE", "PEER", "STATE", "SINCE", "PORTS", "REASON"}
	if everywhere {
		head = append([]string{"NAMESPACE"}, head...)
	}
	if s.output == "wide" {
		head = append(head, "CPU", "MEMORY", "AGE", "RESTARTS", "LAST EXIT", "HOST", "DRIVER", "KNOWN", "REVISION", "ID")
	}
	t := s.table(head...)
	for _, a := range items {
		state := a.State
		if a.Stale {
			state += staleMark
		}
		row := []string{slotName(a), a.Kind, orDash(a.Site), orDash(nameOr(a.PeerName, a.Peer)), state, s.since(a.Since), ports(a.Ports), a.Reason}
		if everywhere {
			row = append([]string{a.Namespace}, row...)
		}
		if s.output == "wide" {
			cpu, memory := "-", "-"
			if u := a.Usage; u != nil {
				cpu, memory = cores(u.CPU), size(int64(u.Memory))
			}
			row = append(row, cpu, memory, s.since(a.CreatedAt), strconv.Itoa(a.Restarts), s.lastExit(a.LastExit), a.Host, a.Driver, s.age(a.AsOf), a.Revision, a.ID)
		}
		t.add(row...)
	}
	return t
}

// lastExit is why the run before this one ended, and when.
func (s *session) lastExit(x *api.Exit) string {
	if x == nil {
		return "-"
	}
	return x.Reason + ", " + s.age(x.At)
}

func ports(m map[string]string) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, name+"="+m[name])
	}
	return orDash(strings.Join(parts, ","))
}
