package cli

import (
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

func (s *session) volumesVerb() *cobra.Command {
	var everywhere bool
	var q api.VolumeQuery
	cmd := &cobra.Command{
		Use: "volumes [APP]", Short: "What slots keep, and where",
		Long: `Lists volumes: one line for what each slot keeps at a host. A volume outlives its
slot's work; the slot comes back to it. That of a removed app is kept for a week.

Examples:
  hansa volumes
  hansa volumes shop -o wide
  hansa volumes delete q3m5/db/0 --api https://fra-1:7601`,
		Args: takes(0, 1, "at most one app"), ValidArgsFunction: s.names(1, s.appNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			scope, err := s.scope(args, everywhere)
			if err != nil {
				return err
			}
			q.Namespace, q.App = scope.Namespace, scope.App
			c, err := s.client()
			if err != nil {
				return err
			}
			l, err := c.Volumes(cmd.Context(), q)
			if err != nil {
				return err
			}
			return s.print(l, func(w io.Writer) error {
				if len(l.Items) == 0 {
					s.say("no slot in %s keeps anything", namespaceName(q.Namespace))
					return nil
				}
				return s.volumesTable(l.Items).write(w)
			})
		},
	}
	flags := cmd.Flags()
	flags.BoolVarP(&everywhere, "all-namespaces", "A", false, "of every namespace")
	flags.StringVar(&q.Peer, "peer", "", "only at this peer, by name or id")
	cmd.AddCommand(s.deleteVolumeVerb())
	return cmd
}

func (s *session) deleteVolumeVerb() *cobra.Command {
	return &cobra.Command{
		Use: "delete ID", Short: "Delete what a slot keeps, for good",
		Long: `Deletes a volume at the peer that is asked, which must be the one that has it (see
PEER in hansa volumes). One whose slot is granted there stays. If the slot is wanted
again it starts with an empty volume, anywhere.`,
		Args: takes(1, 1, "the ID of a volume, as hansa volumes shows it"), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := placement.ParseVolumeID(args[0])
			if err != nil {
				return usagef("%v", err)
			}
			c, err := s.client()
			if err != nil {
				return err
			}
			if err := c.DeleteVolume(cmd.Context(), id); err != nil {
				return err
			}
			s.say("volume %s is being deleted", id)
			return nil
		},
	}
}

func (s *session) volumesTable(items []api.Volume) *table {
	head := []string{"SLOT", "PEER", "STATE", "SIZE", "FILES", "LEFT", "ID"}
	if s.output == "wide" {
		head = append(head, "NAMESPACE", "SITE", "SINCE")
	}
	t := s.table(head...)
	for _, v := range items {
		var sizes []string
		for _, name := range slices.Sorted(maps.Keys(v.Sizes)) {
			sizes = append(sizes, name+"="+v.Sizes[name].String())
		}
		files := ""
		if v.Bytes != nil {
			files = size(*v.Bytes)
		}
		row := []string{slotName(api.Allocation{App: v.App, Component: v.Component, Slot: v.Slot}), nameOr(v.PeerName, v.Peer), v.State,
			strings.Join(sizes, ","), orDash(files), orDash(v.Left), v.ID}
		if s.output == "wide" {
			row = append(row, v.Namespace, v.Site, s.since(v.Created))
		}
		t.add(row...)
	}
	return t
}
