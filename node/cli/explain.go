package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

func (s *session) explainVerb() *cobra.Command {
	var last int
	cmd := &cobra.Command{
		Use: "explain APP[/COMPONENT]", Short: "Why work is where it is, or is not",
		Long: `Shows the last decisions about an app: why one was needed, which peers were
considered, how old the data about each was, and why each was taken or not.

Examples:
  hansa explain shop
  hansa explain shop/api --last 5`,
		Args: takes(1, 1, "an app, or APP/COMPONENT"), ValidArgsFunction: s.names(1, s.componentNames("")),
		RunE: func(cmd *cobra.Command, args []string) error {
			app, component, _ := strings.Cut(args[0], "/")
			key, c, err := s.askFor(app)
			if err != nil {
				return err
			}
			l, err := c.Explain(cmd.Context(), key, component)
			if err != nil {
				return err
			}
			if last > 0 && len(l.Items) > last {
				l.Items = l.Items[:last]
			}
			return s.print(l, func(w io.Writer) error {
				if len(l.Items) == 0 {
					s.say("no decision about %s is known at this peer: its steward may be another (hansa status %s)", args[0], key.App)
				}
				for i, d := range l.Items {
					if i > 0 {
						fmt.Fprintln(w)
					}
					if err := s.writeDecision(w, d); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.Flags().IntVar(&last, "last", 3, "so many decisions, newest first; 0 is all")
	return cmd
}

// fits is how many slots fit: "any" of those that ask for nothing.
func fits(n int) string {
	if n >= placement.SlotsMax {
		return "any"
	}
	return strconv.Itoa(n)
}

func (s *session) writeDecision(w io.Writer, d api.Decision) error {
	slots := ""
	if d.Slots != "" {
		slots = "[" + d.Slots + "]"
	}
	fmt.Fprintf(w, "%s%s: %s\n", clean(d.Component), slots, clean(d.Outcome))
	if d.Reason != "" {
		fmt.Fprintf(w, "  because %s\n", clean(d.Reason))
	}
	if d.Travel > 0 {
		fmt.Fprintf(w, "  %s of files and images travel\n", size(d.Travel))
	}
	if !d.At.IsZero() {
		fmt.Fprintf(w, "  decided %s", s.age(d.At))
		if d.By != (api.PeerRef{}) {
			fmt.Fprintf(w, " by %s, term %d", clean(peerName(d.By)), d.Term)
		}
		if d.Times > 1 {
			fmt.Fprintf(w, ", %d times since %s", d.Times, s.age(d.Since))
		}
		fmt.Fprintln(w)
	}
	if len(d.Considered) == 0 {
		return nil
	}
	t := s.table("  PEER", "SITE", "TAKEN", "FITS", "SCORE", "DATA FROM", "WHY")
	for _, x := range d.Considered {
		t.add("  "+peerName(x.Peer), orDash(x.Peer.Site), strconv.Itoa(x.Taken), fits(x.Fits),
			strconv.FormatFloat(x.Score, 'f', 1, 64), span(time.Duration(x.AgeMillis)*time.Millisecond)+" before", x.Reason)
	}
	return t.write(w)
}
