package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

func (s *session) conflictsVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use: "conflicts", Short: "Apps of which more than one version stands",
		Long: `Lists the apps, and the names of images, that were edited on both sides of a cut, with what the sides do not
agree on. All versions are kept, and the work of each goes on, until someone
decides; lost slots follow side 1 meanwhile. Edits of different components are made
one by the mesh, and are no conflict.

Examples:
  hansa conflicts
  hansa conflicts -o json
  hansa conflicts resolve shop --take fra-1`,
		Args: cobra.ArbitraryArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 { // a verb that is none
				return unknownChild(cmd, args[0])
			}
			c, err := s.client()
			if err != nil {
				return err
			}
			l, err := c.Conflicts(cmd.Context(), api.Page{})
			if err != nil {
				return err
			}
			return s.print(l, func(w io.Writer) error {
				if len(l.Items) == 0 {
					s.say("no conflicts")
				}
				for i, x := range l.Items {
					if i > 0 {
						fmt.Fprintln(w)
					}
					if err := s.writeConflict(w, x); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	cmd.AddCommand(s.resolveVerb())
	return cmd
}

func (s *session) writeConflict(w io.Writer, x api.Conflict) error {
	name := x.Namespace + "/" + x.App
	if x.Namespace == placement.NamespaceImages {
		name = "image " + x.App
	}
	fmt.Fprintf(w, "%s has %s since %s\n", name, plural(len(x.Sides), "side"), s.age(x.Since))
	sides := s.table("SIDE", "ACCEPTED AT", "SITE", "WHEN", "RUNNING", "WHAT", "REVISION")
	for _, side := range x.Sides {
		what := side.Summary
		if side.Removed {
			what = "removed"
		}
		sides.add(strconv.Itoa(side.Number), peerName(side.Peer), side.Peer.Site, s.age(side.At), running(side.Running), what, side.Revision)
	}
	if err := sides.write(w); err != nil {
		return err
	}
	if len(x.Fields) > 0 {
		head := []string{"FIELD"}
		for _, side := range x.Sides {
			head = append(head, "SIDE "+strconv.Itoa(side.Number))
		}
		fields := s.table(head...)
		for _, f := range x.Fields {
			row := []string{f.Field}
			for _, v := range f.Values {
				row = append(row, fieldValue(v))
			}
			fields.add(row...)
		}
		fmt.Fprintln(w)
		if err := fields.write(w); err != nil {
			return err
		}
	}
	s.say("decide with: hansa conflicts resolve %s --take SIDE, or -f with a manifest made of them", x.App)
	return nil
}

// running is slots by component, "api 0-2, db 0".
func running(slots map[string]string) string {
	var parts []string
	for name, set := range slots {
		parts = append(parts, name+" "+set)
	}
	slices.Sort(parts)
	return orDash(strings.Join(parts, ", "))
}

// fieldValue is a value of a manifest in a cell.
func fieldValue(v any) string {
	switch v := v.(type) {
	case nil:
		return "-"
	case string:
		return v
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(data)
}

func (s *session) resolveVerb() *cobra.Command {
	var take, file string
	cmd := &cobra.Command{
		Use: "resolve APP|IMAGE", Short: "Decides a conflict: one side, or a manifest, stands from now on",
		Long: `Decides a conflict. --take names the side by its number, by the peer or the site
where it was accepted, or by its revision; -f gives a manifest that was made of the
sides. Where two apps were made under one name, the one that is not taken ends with
its work. When another side has come since, nothing is done.

Examples:
  hansa conflicts resolve shop --take 2
  hansa conflicts resolve shop --take syd-1
  hansa conflicts resolve shop -f merged.yaml`,
		Args: takes(1, 1, "the name of an app"), ValidArgsFunction: s.names(1, s.conflictNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (take == "") == (file == "") {
				return usagef("hansa conflicts resolve needs --take or -f, and not both")
			}
			if name := args[0]; strings.Contains(name, ":") { // a name in the registry
				return s.resolve(cmd.Context(), placement.AppKey{Namespace: placement.NamespaceImages, App: name}, take, file)
			}
			key, err := s.key(args[0])
			if err != nil {
				return err
			}
			return s.resolve(cmd.Context(), key, take, file)
		},
	}
	cmd.Flags().StringVar(&take, "take", "", "the side that stands: its number, peer, site or revision")
	cmd.Flags().StringVarP(&file, "file", "f", "", "a manifest that stands instead; - is the input")
	return cmd
}

func (s *session) conflictNames(ctx context.Context, c *api.Client) []string {
	l, err := c.Conflicts(ctx, onePage)
	if err != nil {
		return nil
	}
	var names []string
	for _, x := range l.Items {
		if x.Namespace == s.namespace || x.Namespace == placement.NamespaceImages {
			names = append(names, x.App)
		}
	}
	return names
}

func (s *session) resolve(ctx context.Context, key placement.AppKey, take, file string) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	l, err := c.Conflicts(ctx, api.Page{})
	if err != nil {
		return err
	}
	at := slices.IndexFunc(l.Items, func(x api.Conflict) bool { return x.Namespace == key.Namespace && x.App == key.App })
	if at < 0 {
		return fmt.Errorf("resolve %s: it is in no conflict: hansa conflicts lists those that are", key)
	}
	x := l.Items[at]
	req := api.Resolution{ID: x.ID, IfMatch: x.ETag, IdempotencyKey: newKey()}
	chosen := "the manifest"
	if file != "" {
		app, err := s.mergedApp(ctx, c, key, file)
		if err != nil {
			return err
		}
		req.App = &app
	} else {
		side, err := pickSide(x, take)
		if err != nil {
			return err
		}
		req.Take, chosen = side.Revision, "what was accepted at "+peerName(side.Peer)
	}
	result, err := again(func() (api.ResolveResult, error) { return c.Resolve(ctx, req) })
	if err != nil {
		return fmt.Errorf("resolve %s: %w", key, err)
	}
	s.tellPut(result.PutResult)
	return s.print(result, func(w io.Writer) error {
		if result.Removed {
			chosen = "the removal"
		}
		_, err := fmt.Fprintf(w, "%s is resolved: %s stands\n", key, chosen)
		return err
	})
}

// mergedApp is the one app of a manifest, its files uploaded.
func (s *session) mergedApp(ctx context.Context, c *api.Client, key placement.AppKey, file string) (placement.App, error) {
	docs, err := s.readDocuments(ctx, c, []string{file})
	if err != nil {
		return placement.App{}, err
	}
	if len(docs) != 1 || docs[0].app.Key() != key {
		return placement.App{}, fmt.Errorf("resolve %s: %s describes %s: it must describe that app alone", key, file, docs[0].name())
	}
	for _, f := range docs[0].files {
		if err := s.upload(ctx, c, f); err != nil {
			return placement.App{}, fmt.Errorf("resolve %s: %w", key, err)
		}
	}
	return docs[0].app, nil
}

// pickSide is the side that a person names.
func pickSide(x api.Conflict, name string) (api.Side, error) {
	var found []api.Side
	var have []string
	for _, side := range x.Sides {
		have = append(have, fmt.Sprintf("%d (%s)", side.Number, peerName(side.Peer)))
		switch name {
		case strconv.Itoa(side.Number), side.Revision:
			return side, nil
		case side.Peer.Name, side.Peer.ID, side.Peer.Site:
			found = append(found, side)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return api.Side{}, usagef("--take %q: no such side: %s", name, strings.Join(have, ", "))
	}
	return api.Side{}, usagef("--take %q: %d sides were accepted there: say which by number: %s", name, len(found), strings.Join(have, ", "))
}
