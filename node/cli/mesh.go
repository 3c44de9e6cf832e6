package cli

import (
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

func (s *session) peersVerb() *cobra.Command {
	return &cobra.Command{
		Use: "peers", Short: "Peers: state, round trip, age of what is known, version",
		Long: `Lists the peers of the mesh as the asked peer sees them. Another peer may see
another state: failure detection is a view, not a truth. Below, whether that peer
takes the mesh for settled, since when or why not, and whom it does not hear.

Examples:
  hansa peers
  hansa peers -o wide               # ids, addresses, labels
  hansa peers --api sydney:7601     # as another peer sees them`,
		Args: takes(0, 0, ""), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			l, err := c.Peers(cmd.Context(), api.Page{})
			if err != nil {
				return err
			}
			return s.print(l, func(w io.Writer) error {
				if err := s.peersTable(l.Items).write(w); err != nil {
					return err
				}
				return s.writeSettled(cmd.Context(), w, c)
			})
		},
	}
}

func (s *session) peersTable(peers []api.Peer) *table {
	head := []string{"PEER", "SITE", "STATE", "SINCE", "RTT", "SLOTS", "FREE CPU", "FREE MEMORY", "VERSION", "KNOWN", "NOTE"}
	if s.output == "wide" {
		head = append(head, "ID", "ADDRESS", "DRIVERS", "LABELS")
	}
	t := s.table(head...)
	for _, p := range peers {
		name, trip, known := nameOr(p.Name, p.ID), rtt(p.RTTMillis), s.age(p.AsOf)
		if p.Self {
			name, trip = name+" *", "-"
		}
		row := []string{name, p.Site, p.State, s.since(p.Since), trip, strconv.Itoa(p.Slots), cores(p.Free.CPU), size(int64(p.Free.Memory)),
			orDash(p.Version), known, strings.TrimPrefix(strings.Join([]string{p.Full, p.Note}, " "), " ")}
		if s.output == "wide" {
			row = append(row, p.ID, orDash(p.Address), orDash(strings.Join(p.Drivers, ",")), pairs(p.Labels))
		}
		t.add(row...)
	}
	return t
}

func (s *session) sitesVerb() *cobra.Command {
	return &cobra.Command{
		Use: "sites", Short: "Sites and what they have free",
		Long: `Lists the sites of the mesh. A site is degraded when only some of its peers are
in reach of the asked peer, and unreachable when none is.

Examples:
  hansa sites
  hansa sites -o json | jq '.items[] | select(.state != "up")'`,
		Args: takes(0, 0, ""), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			l, err := c.Sites(cmd.Context(), api.Page{})
			if err != nil {
				return err
			}
			return s.print(l, func(w io.Writer) error { return s.sitesTable(l.Items).write(w) })
		},
	}
}

func (s *session) sitesTable(sites []api.Site) *table {
	head := []string{"SITE", "STATE", "PEERS", "HOSTS", "RTT", "SLOTS", "CPU", "MEMORY", "KNOWN"}
	if s.output == "wide" {
		head = append(head, "POSITION", "LABELS")
	}
	t := s.table(head...)
	for _, x := range sites {
		row := []string{x.Name, x.State, strconv.Itoa(x.PeersAlive) + "/" + strconv.Itoa(x.Peers), strconv.Itoa(x.Hosts), rtt(x.RTTMillis),
			strconv.Itoa(x.Slots), freeOf(x.Free.CPU, x.Capacity.CPU), freeOf(x.Free.Memory, x.Capacity.Memory), s.age(x.AsOf)}
		if s.output == "wide" {
			row = append(row, position(x.Position), pairs(x.Labels))
		}
		t.add(row...)
	}
	return t
}

func freeOf[Q placement.CPU | placement.Bytes](free, capacity Q) string {
	return quantity(free) + " of " + quantity(capacity) + " free"
}

func quantity(q any) string {
	switch v := q.(type) {
	case placement.CPU:
		return cores(v)
	case placement.Bytes:
		return size(int64(v))
	}
	return ""
}

func position(p *api.Position) string {
	if p == nil {
		return "-"
	}
	return strconv.FormatFloat(p.Lat, 'f', -1, 64) + "," + strconv.FormatFloat(p.Lon, 'f', -1, 64)
}

// since is the age of a state without the "ago".
func (s *session) since(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return strings.TrimSuffix(s.age(at), " ago")
}
