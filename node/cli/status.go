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
)

func (s *session) statusVerb() *cobra.Command {
	return &cobra.Command{
		Use: "status APP", Short: "What is wanted of an app, and what is",
		Long: `Shows an app: who keeps and drives it, each component's slots by state and by
place, what is missing, and what is still to be done. Rows marked stale are what
was last heard of a peer that is not in reach, KNOWN says when, and NEXT what will
be done about them (disconnect in the manifest). Any peer can be asked: one that
reaches nobody who decides says what it does not know.

Examples:
  hansa status shop
  hansa status shop -o json | jq .state`,
		Args: takes(1, 1, "the name of an app"), ValidArgsFunction: s.names(1, s.appNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, c, err := s.askFor(args[0])
			if err != nil {
				return err
			}
			st, err := c.Status(cmd.Context(), key)
			if err != nil {
				return err
			}
			return s.print(st, func(w io.Writer) error {
				if err := s.writeStatus(w, st); err != nil {
					return err
				}
				if st.State != "running" {
					writeList(w, "what does not run:", slotsNotRunning(cmd.Context(), c, key))
				}
				return s.writeSettled(cmd.Context(), w, c)
			})
		},
	}
}

// next is what will be done about a row, and in what time.
func (s *session) next(p api.PlaceStatus) string {
	wait := p.At.Sub(s.now())
	if at := "lost at " + p.At.Format(time.TimeOnly) + ":"; p.Action == "replace" && wait >= time.Second && strings.HasPrefix(p.Next, at) {
		return clean("lost in " + span(wait) + ":" + strings.TrimPrefix(p.Next, at))
	}
	return clean(p.Next)
}

// writeSettled says whether, and since when, the mesh is settled in the eyes of
// the peer that is asked. A peer of an older release does not say since when.
func (s *session) writeSettled(ctx context.Context, w io.Writer, c *api.Client) error {
	m, err := c.Mesh(ctx)
	if err != nil {
		return nil // it has answered what it was asked for
	}
	switch {
	case m.Settled && m.Since.IsZero():
		fmt.Fprintln(w, "\nthe mesh is settled")
	case m.Settled:
		fmt.Fprintf(w, "\nthe mesh is settled, for %s\n", s.since(m.Since))
	default:
		fmt.Fprintf(w, "\nthe mesh is not settled: %s\n", clean(strings.Join(m.Open[:min(len(m.Open), openShown)], "; ")))
		if more := len(m.Open) - openShown; more > 0 {
			fmt.Fprintf(w, "and %d more\n", more)
		}
	}
	for _, u := range m.Unheard {
		fmt.Fprintf(w, "unheard: %s at %s, %s for %s\n", peerName(u.PeerRef), orDash(u.Site), u.State, s.since(u.Since))
	}
	return nil
}

// openShown is how many reasons are shown why the mesh is not settled.
const openShown = 3

func (s *session) writeStatus(w io.Writer, st api.Status) error {
	fmt.Fprintf(w, "%s/%s is %s\n", st.Namespace, st.App, st.State)
	fmt.Fprintf(w, "  driven by  %s, term %d\n", steward(st.Steward, st.Deputy), st.Term)
	fmt.Fprintf(w, "  kept by    %s\n", keepers(st))
	fmt.Fprintf(w, "  revision   %s\n", st.Revision)
	if st.Conflict {
		fmt.Fprintln(w, "  conflict   more than one version stands: hansa conflicts")
	}
	fmt.Fprintln(w)
	t := s.table("COMPONENT", "KIND", "SITE", "PEER", "SLOTS", "KNOWN", "NEXT")
	for _, c := range st.Components {
		t.add(c.Name, c.Kind, "", "", strconv.Itoa(c.Running)+"/"+strconv.Itoa(c.Wanted)+" running", "", "")
		for _, p := range c.Places {
			slots := counts(p.States)
			if p.Stale {
				slots += staleMark
			}
			t.add("", "", p.Peer.Site, peerName(p.Peer), slots, s.age(p.AsOf), s.next(p))
		}
		if text := rolloutText(c.Rollout); text != "" {
			if c.Rollout.State != "going" {
				text = c.Rollout.State // why stands below the table
			}
			t.add("", "", "-", "-", "roll-out: "+text, "", "")
		}
		if c.Missing != "" {
			t.add("", "", "-", "-", "missing: "+c.Missing, "", "")
		}
		if c.Double != "" {
			t.add("", "", "-", "-", "twice: "+c.Double, "", "")
		}
	}
	if err := t.write(w); err != nil {
		return err
	}
	writeLeases(w, st)
	writeList(w, "roll-outs that came to nothing:", failedRollouts(st))
	writeList(w, "still to be done:", st.Open)
	return nil
}

// failedRollouts says why, which may be long.
func failedRollouts(st api.Status) []string {
	var why []string
	for _, c := range st.Components {
		if text := rolloutText(c.Rollout); text != "" && c.Rollout.State != "going" {
			why = append(why, c.Name+" "+text)
		}
	}
	return why
}

func writeList(w io.Writer, head string, lines []string) {
	if len(lines) > 0 {
		fmt.Fprintln(w, "\n"+head)
	}
	for _, line := range lines {
		fmt.Fprintln(w, "  "+clean(line))
	}
}

// keepers is who keeps an app, and what is wrong or changing about them.
func keepers(st api.Status) string {
	out := map[string]bool{}
	for _, p := range st.KeepersOut {
		out[p.ID] = true
	}
	var names []string
	for _, p := range st.Keepers {
		name := peerName(p)
		if out[p.ID] {
			name += " (not in reach)"
		}
		names = append(names, name)
	}
	text := orDash(strings.Join(names, ", "))
	if st.Epoch > 1 {
		text += fmt.Sprintf(", epoch %d", st.Epoch)
	}
	if len(st.Next) > 0 {
		text += "; next: " + peerNames(st.Next)
	}
	return text
}

// writeLeases says who has the right to run exclusive slots.
func writeLeases(w io.Writer, st api.Status) {
	title := "\nleases:\n"
	for _, c := range st.Components {
		for _, l := range c.Leases {
			fmt.Fprintf(w, "%s  %s[%d] %s\n", title, c.Name, l.Slot, leaseText(l))
			title = ""
		}
	}
}

// leaseText is the lease of an exclusive slot in words.
func leaseText(l api.LeaseStatus) string {
	if l.Holder == nil {
		return "waits: " + clean(l.Waits)
	}
	left := time.Duration(l.LeftMS) * time.Millisecond
	return fmt.Sprintf("is %s's, number %d, for %s unless it is renewed", peerName(*l.Holder), l.Number, left.Round(time.Second))
}
