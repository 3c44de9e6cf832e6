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
	"github.com/hansa-mesh/hansa/placement"
)

func (s *session) hostsVerb() *cobra.Command {
	return &cobra.Command{
		Use: "hosts [HOST]", Short: "Hosts and what they can run",
		Long: `Lists the hosts of the mesh: the machines that run work. A driver that a host
can't offer is shown by -o wide with the reason and what to do about it. Of one
host all of its drivers are shown, with their versions and which limits they hold.

Examples:
  hansa hosts
  hansa hosts -o wide
  hansa hosts fra-1`,
		Args: takes(0, 1, "at most one host"), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			l, err := c.Hosts(cmd.Context(), api.Page{})
			if err != nil {
				return err
			}
			if len(args) > 0 {
				return s.printHost(l.Items, args[0])
			}
			return s.print(l, func(w io.Writer) error { return s.hostsTable(l.Items).write(w) })
		},
	}
}

func (s *session) hostsTable(hosts []api.Host) *table {
	head := []string{"HOST", "PEER", "SITE", "STATE", "ARCH", "DRIVERS", "SLOTS", "CPU", "MEMORY", "KNOWN", "REASON"}
	if s.output == "wide" {
		head = append(head, "NOT OFFERED", "LABELS")
	}
	t := s.table(head...)
	for _, h := range hosts {
		var on, off []string
		for _, d := range h.Drivers {
			if d.Available {
				on = append(on, d.Name)
			} else {
				off = append(off, d.Name+": "+d.Reason)
			}
		}
		row := []string{h.ID, nameOr(h.PeerName, h.Peer), h.Site, h.State, h.Arch, orDash(strings.Join(on, ",")), strconv.Itoa(h.Slots),
			freeOf(h.Free.CPU, h.Capacity.CPU), freeOf(h.Free.Memory, h.Capacity.Memory), s.age(h.AsOf), h.Reason}
		if s.output == "wide" {
			row = append(row, orDash(strings.Join(off, "; ")), pairs(h.Labels))
		}
		t.add(row...)
	}
	return t
}

// printHost shows one host, by its id or its peer's.
func (s *session) printHost(hosts []api.Host, name string) error {
	i := slices.IndexFunc(hosts, func(h api.Host) bool { return h.ID == name || h.Peer == name })
	if i < 0 {
		return fmt.Errorf("host %q: %w: hansa hosts lists them", name, placement.ErrNotFound)
	}
	h := hosts[i]
	return s.print(h, func(w io.Writer) error {
		if err := s.hostsTable(hosts[i : i+1]).write(w); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
		return s.driversTable(h).write(w)
	})
}

func (s *session) driversTable(h api.Host) *table {
	t := s.table("DRIVER", "VERSION", "OFFERED", "KINDS", "EXCLUSIVE", "LIMITS")
	for _, d := range h.Drivers {
		offered := "yes"
		if !d.Available {
			offered = "no: " + orDash(d.Reason)
		}
		exclusive := "no"
		if d.Fence {
			exclusive = "yes"
		}
		var limits []string
		for _, name := range slices.Sorted(maps.Keys(d.Limits)) {
			l := d.Limits[name]
			text := name
			if !l.Enforced {
				text = "not " + name
			}
			if l.Detail != "" {
				text += " (" + l.Detail + ")"
			}
			limits = append(limits, text)
		}
		t.add(d.Name, orDash(d.Version), offered, orDash(strings.Join(d.Kinds, ",")), exclusive, orDash(strings.Join(limits, ", ")))
	}
	return t
}
