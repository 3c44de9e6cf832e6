package cli

import (
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/api"
)

func (s *session) appsVerb() *cobra.Command {
	var everywhere bool
	cmd := &cobra.Command{
		Use: "apps", Short: "Apps, how much of them runs, who drives them",
		Long: `Lists the apps of a namespace, or of all.

Examples:
  hansa apps
  hansa apps -A                # of every namespace
  hansa apps -n shop -o json`,
		Args: takes(0, 0, ""), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			q := api.AppQuery{Namespace: s.namespace}
			if everywhere {
				q.Namespace = ""
			}
			l, err := c.Apps(cmd.Context(), q)
			if err != nil {
				return err
			}
			return s.print(l, func(w io.Writer) error {
				if len(l.Items) == 0 {
					s.say("no apps in %s: hansa deploy FILE submits one", namespaceName(q.Namespace))
					return nil
				}
				return s.appsTable(l.Items).write(w)
			})
		},
	}
	cmd.Flags().BoolVarP(&everywhere, "all-namespaces", "A", false, "of every namespace")
	return cmd
}

func namespaceName(ns string) string {
	if ns == "" {
		return "any namespace"
	}
	return "namespace " + ns
}

func (s *session) appsTable(apps []api.App) *table {
	head := []string{"NAMESPACE", "APP", "STATE", "RUNNING", "STEWARD", "UPDATED", "KNOWN", "NOTE"}
	if s.output == "wide" {
		head = append(head, "COMPONENTS", "REVISION", "UID")
	}
	t := s.table(head...)
	for _, a := range apps {
		note := ""
		if a.Conflict {
			note = "conflict: hansa conflicts"
		}
		row := []string{a.Namespace, a.App, a.State, strconv.Itoa(a.Running) + "/" + strconv.Itoa(a.Wanted), steward(a.Steward, a.Deputy),
			s.age(a.Updated), s.age(a.AsOf), note}
		if s.output == "wide" {
			components := ""
			for i, c := range a.Components {
				if i > 0 {
					components += ", "
				}
				components += c.Name + " " + strconv.Itoa(c.Running) + "/" + strconv.Itoa(c.Wanted)
			}
			row = append(row, components, a.Revision, a.UID)
		}
		t.add(row...)
	}
	return t
}

func steward(p api.PeerRef, deputy bool) string {
	name := peerName(p)
	if deputy {
		name += " (deputy)"
	}
	return name
}
