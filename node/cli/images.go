package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/signature"
)

// stageTimeDefault is how long a staging is waited for.
const stageTimeDefault = 30 * time.Minute

func (s *session) imagesVerb() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "images [REPOSITORY[:TAG]]", Short: "Images in the mesh's registry, and where they are",
		Long: `Lists the names in the mesh's registry and which peers hold what they stand for.
KEPT is how many of the peers that have to hold it do; HELD BY are all that do, the
nearest first. Peers say what they hold some two seconds after it came.

What has no name but its digest, as the images in a package, and the signatures of
others are shown with --all, or when they are asked for.

Examples:
  hansa images
  hansa images shop/api --all
  hansa images shop/api:1.4 -o wide
  hansa images stage shop/api:1.4 --where 'tier=edge'`,
		Args: takes(0, 1, "at most one repository, or image"), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			var q api.ImageQuery
			if len(args) > 0 {
				q.Repository, q.Reference = splitImage(args[0])
			}
			c, err := s.client()
			if err != nil {
				return err
			}
			l, err := c.Images(cmd.Context(), q)
			if err != nil {
				return err
			}
			if len(args) > 0 && len(l.Items) == 0 {
				return s.noImage(cmd.Context(), c, args[0], q)
			}
			hidden := 0
			if !all && q.Reference == "" {
				before := len(l.Items)
				l.Items = slices.DeleteFunc(l.Items, ofAnother)
				hidden = before - len(l.Items)
			}
			return s.print(l, func(w io.Writer) error {
				if hidden > 0 {
					s.say("%s without a tag, or with signatures: --all shows them", plural(hidden, "more name"))
				}
				if len(l.Items) == 0 && hidden == 0 {
					s.say("the mesh's registry is empty: hansa push and hansa pack, or any OCI client, bring images there")
					return nil
				}
				return s.imagesTable(l.Items).write(w)
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also what has no tag, and signatures")
	cmd.AddCommand(s.stageVerb())
	return cmd
}

// noImage says what there is instead of an image that there is not.
func (s *session) noImage(ctx context.Context, c *api.Client, name string, q api.ImageQuery) error {
	l, err := c.Images(ctx, api.ImageQuery{Repository: q.Repository})
	if err != nil {
		return err
	}
	var tags []string
	for _, i := range l.Items {
		if !ofAnother(i) && len(tags) <= heldByMax {
			tags = append(tags, i.Reference)
		}
	}
	switch {
	case len(tags) > heldByMax:
		tags[heldByMax] = "and others"
		fallthrough
	case len(tags) > 0:
		return fmt.Errorf("the mesh has no image %s: of %s it has %s", name, q.Repository, strings.Join(tags, ", "))
	}
	return fmt.Errorf("the mesh has no image %s: hansa images lists what there is", name)
}

// ofAnother says whether an image is there for another one: a part of a package, which
// has no name but its digest, or what is said about one, as a signature.
func ofAnother(i api.Image) bool {
	_, signs := signature.Signs(i.Reference)
	return signs || i.Subject != "" || i.Reference == i.Digest
}

// splitImage parts a name from its tag, or its digest.
func splitImage(name string) (repository, reference string) {
	if repository, digest, ok := strings.Cut(name, "@"); ok {
		return repository, digest
	}
	if at := strings.LastIndexByte(name, ':'); at > strings.LastIndexByte(name, '/') {
		return name[:at], name[at+1:]
	}
	return name, ""
}

func (s *session) imagesTable(items []api.Image) *table {
	head := []string{"IMAGE", "DIGEST", "SIZE", "KEPT", "HELD BY"}
	if s.output == "wide" {
		head = append(head, "MEDIA TYPE", "SINCE", "CONFLICT")
	}
	t := s.table(head...)
	for _, i := range items {
		var names []string
		kept := 0
		for _, h := range i.Holders {
			name := nameOr(h.Name, h.ID)
			if h.State != "alive" {
				name += " (" + h.State + ")"
			}
			names = append(names, name)
			if slices.ContainsFunc(i.Keepers, func(k api.PeerRef) bool { return k.ID == h.ID }) {
				kept++
			}
		}
		if more := len(names) - heldByMax; more > 0 && s.output != "wide" {
			names = append(names[:heldByMax], fmt.Sprintf("and %d more", more))
		}
		row := []string{i.Name, shortDigest(i.Digest), size(i.Size), strconv.Itoa(kept) + "/" + strconv.Itoa(len(i.Keepers)), orDash(strings.Join(names, ", "))}
		if s.output == "wide" {
			row = append(row, i.MediaType, s.since(i.Created), orDash(strings.Join(i.Conflict, ", ")))
		}
		t.add(row...)
	}
	return t
}

// heldByMax bounds the peers in a line.
const heldByMax = 5

func (s *session) stageVerb() *cobra.Command {
	var where string
	var wait time.Duration
	cmd := &cobra.Command{
		Use: "stage IMAGE --where SELECTOR", Short: "Send an image ahead of its work",
		Long: `Has the peers that a selector names fetch what of an image runs there, from whoever
is nearest, before any work needs it. The selector is as in a manifest's place.where.
It waits until all have it; with --wait 0 it only begins. What is staged stays as long as
there is room, like whatever a peer has fetched.

Examples:
  hansa images stage shop/api:1.4 --where 'tier=edge'
  hansa images stage shop/api:1.4 --where 'site in (fra, nyc)' --wait 0`,
		Args: takes(1, 1, "an image, as hansa images shows it"), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			result, err := s.stage(cmd.Context(), c, api.StageRequest{Image: args[0], Where: where}, wait)
			if err != nil {
				return err
			}
			if err := s.print(result, s.stageTable(result).write); err != nil {
				return err
			}
			if wait > 0 && !result.Done {
				return fmt.Errorf("not every peer has %s after %v: asked again, they go on", args[0], wait)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&where, "where", "", "labels of the peers, as in place.where (default every peer)")
	cmd.Flags().DurationVar(&wait, "wait", stageTimeDefault, "how long to wait until all have it; 0 only begins")
	return cmd
}

// stage asks until all peers have the image, and tells of progress. What it gives is
// what was answered last.
func (s *session) stage(ctx context.Context, c *api.Client, req api.StageRequest, wait time.Duration) (api.StageResult, error) {
	if wait <= 0 {
		return c.Stage(ctx, req)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, wait, errWaited)
	defer cancel()
	var last api.StageResult
	told := ""
	err := poll(ctx, func() (bool, error) {
		result, err := c.Stage(ctx, req)
		if err != nil {
			return false, err
		}
		last = result
		if text := stageProgress(result); text != told {
			told = text
			s.say("%s: %s", req.Image, text)
		}
		return result.Done, nil
	})
	if errors.Is(err, errWaited) && last.Image != "" {
		err = nil
	}
	return last, err
}

func stageProgress(r api.StageResult) string {
	here, bytes, total := 0, int64(0), int64(0)
	for _, p := range r.Peers {
		if p.State == api.StageHere {
			here++
		}
		bytes, total = bytes+p.Bytes, total+p.Total
	}
	return fmt.Sprintf("%d of %s have it, %s of %s", here, plural(len(r.Peers), "peer"), size(bytes), size(total))
}

func (s *session) stageTable(r api.StageResult) *table {
	t := s.table("PEER", "SITE", "STATE", "BYTES", "REASON")
	for _, p := range r.Peers {
		t.add(nameOr(p.Name, p.ID), p.Site, p.State, size(p.Bytes)+" of "+size(p.Total), p.Reason)
	}
	return t
}
