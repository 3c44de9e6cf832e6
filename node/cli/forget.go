package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/api"
)

func (s *session) forgetVerb() *cobra.Command {
	var withAdmitted, force, yes bool
	cmd := &cobra.Command{
		Use: "forget PEER", Short: "Shuts a peer out for ever",
		Long: `Revokes a peer: its key is never let in again and its connections are closed. Its
work is placed elsewhere, and where it kept apps the mesh names another keeper. A
machine that comes back needs a new key and a new invitation.

Apps whose keepers have lost their majority with it stay as they are: whoever is
left can't know what the lost ones still say to each other. When they are gone for
good, --force-epoch goes on without them, over their heads: edits that only they
had acknowledged are given up, and should one of them still run somewhere, its work
may run twice. It is noted in the events, and asked about unless --yes.

Examples:
  hansa forget syd-1
  hansa forget syd-1 --with-admitted   # and every peer that it let in
  hansa forget syd-1 --force-epoch     # its site burned down, and another keeper's too`,
		Args: takes(1, 1, "a peer, by name or id"), ValidArgsFunction: s.names(1, peerNamesOf),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			if force {
				return s.forgetForced(cmd.Context(), c, args[0], withAdmitted, yes)
			}
			if err := c.Forget(cmd.Context(), args[0], withAdmitted); err != nil {
				return err
			}
			return s.print(map[string]any{"forgotten": args[0], "with_admitted": withAdmitted}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s is shut out\n", args[0])
				return err
			})
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolVar(&withAdmitted, "with-admitted", false, "and every peer that it let in")
	flags.BoolVar(&force, "force-epoch", false, "and go on without it where keepers have lost their majority: it is gone for good")
	flags.BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

func (s *session) forgetForced(ctx context.Context, c *api.Client, peer string, withAdmitted, yes bool) error {
	question := fmt.Sprintf("%s is shut out, and apps whose keepers lost their majority with it go on without.\n"+
		"What only lost keepers had acknowledged is given up; should one still run, its work may run twice.\n"+
		"Type its name to go on: ", peer)
	if !yes && !s.confirm(question, peer) {
		return fmt.Errorf("forget %s: not confirmed: nothing was done (--yes does not ask)", peer)
	}
	result, err := c.ForgetForced(ctx, peer, withAdmitted)
	if err != nil {
		return err
	}
	return s.print(result, func(w io.Writer) error {
		fmt.Fprintf(w, "%s is shut out\n", peer)
		for _, app := range result.Forced {
			fmt.Fprintf(w, "  %s goes on with other keepers\n", app)
		}
		for _, app := range result.Refused {
			fmt.Fprintf(w, "  %s is left as it is: %s\n", app.AppName, clean(app.Reason))
		}
		if len(result.Forced)+len(result.Refused) == 0 {
			fmt.Fprintln(w, "  no app had lost the majority of its keepers with it")
		}
		return nil
	})
}

// confirm asks a person to type a word.
func (s *session) confirm(question, word string) bool {
	fmt.Fprint(s.io.Err, question)
	var answer string
	if _, err := fmt.Fscanln(s.io.In, &answer); err == nil && answer == word {
		return true
	}
	fmt.Fprintln(s.io.Err)
	return false
}
