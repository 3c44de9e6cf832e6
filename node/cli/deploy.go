package cli

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

type deployFlags struct {
	wait, dryRun bool
	timeout      time.Duration
	minCopies    int
	ifMatch      string
	onlyNew      bool
}

// waitDefault is longer than a roll-out goes on by default without coming to
// anything, so that its verdict is what ends the wait.
const waitDefault = 6 * time.Minute

func (s *session) deployVerb() *cobra.Command {
	var f deployFlags
	cmd := &cobra.Command{
		Use: "deploy FILE|PACKAGE…", Short: "Submits apps, and waits until they run",
		Long: `Submits the apps that the files describe (YAML or JSON, one app a document; - is
the input). A "./path" in a manifest is a file beside it: it is uploaded first,
unless the mesh holds it already, and then named by its digest.

NAME:TAG or NAME@DIGEST is a package in the mesh's registry (hansa pack). What its
apps name is pinned by digest: a tag that moves changes nothing until it is
deployed again.

An app is accepted when the peers that keep it have it on disk; the answer says
how many do. Then deploy waits until all of it runs; when the app was there before,
until every slot is replaced that has to be (update in the manifest), and it fails
when that was reverted or has stalled.

Examples:
  hansa deploy shop.yaml
  hansa deploy shop:1.4                       # a package, from any peer
  hansa deploy shop.yaml --dry-run            # what would happen; nothing is written
  hansa deploy shop.yaml --min-copies 2       # refuse below two copies on disk
  hansa deploy *.yaml --wait=false -o json`,
		Args:              takes(1, -1, "at least one manifest, or package"),
		ValidArgsFunction: manifestFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.minCopies < 0 {
				return usagef("--min-copies %d: want 0 or more", f.minCopies)
			}
			c, err := s.client()
			if err != nil {
				return err
			}
			docs, err := s.readDocuments(cmd.Context(), c, args)
			if err != nil {
				return err
			}
			if f.dryRun {
				return s.plan(cmd.Context(), c, docs)
			}
			return s.deploy(cmd.Context(), c, docs, f)
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.BoolVar(&f.wait, "wait", true, "wait until all of it runs")
	flags.DurationVar(&f.timeout, "timeout", waitDefault, "how long to wait")
	flags.BoolVar(&f.dryRun, "dry-run", false, "only say what would happen, as hansa plan")
	flags.IntVar(&f.minCopies, "min-copies", 0, "refuse when fewer peers can keep it on disk")
	flags.StringVar(&f.ifMatch, "if-match", "", "only over the version with this ETag")
	flags.BoolVar(&f.onlyNew, "create", false, "only if there is no such app")
	return cmd
}

func (s *session) planVerb() *cobra.Command {
	return &cobra.Command{
		Use: "plan FILE|PACKAGE…", Short: "What a deploy would do",
		Long: `Says where each slot of the apps would go, and why, without writing or asking for
anything; also what the policy of a namespace would refuse. Exit code 1 when some slot
finds no place, or something would be refused.

Examples:
  hansa plan shop.yaml
  hansa plan shop.yaml -o json | jq .complete`,
		Args:              takes(1, -1, "at least one manifest, or package"),
		ValidArgsFunction: manifestFiles,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			docs, err := s.readDocuments(cmd.Context(), c, args)
			if err != nil {
				return err
			}
			return s.plan(cmd.Context(), c, docs)
		},
	}
}

func (s *session) plan(ctx context.Context, c *api.Client, docs []document) error {
	short, refused := 0, 0
	for i, doc := range docs {
		p, err := c.Plan(ctx, doc.app)
		if err != nil {
			return fmt.Errorf("plan %s: %w", doc.name(), err)
		}
		if !p.Complete {
			short++
		}
		if slices.ContainsFunc(p.Components, func(c api.PlanComponent) bool { return c.Refused != "" }) {
			refused++
		}
		if err := s.print(p, func(w io.Writer) error {
			if i > 0 {
				fmt.Fprintln(w)
			}
			return s.writePlan(w, p)
		}); err != nil {
			return err
		}
	}
	if refused > 0 {
		return fmt.Errorf("%s would be refused by the policy of its namespace", plural(refused, "app"))
	}
	if short > 0 {
		return fmt.Errorf("%s would not find a place for every slot", plural(short, "app"))
	}
	return nil
}

func (s *session) writePlan(w io.Writer, p api.Plan) error {
	verb := map[string]string{"create": "would be new", "update": "would change", "none": "would stay as it is"}[p.Change]
	fmt.Fprintf(w, "%s/%s %s\n", p.Namespace, p.App, verb)
	for _, warning := range p.Warnings {
		fmt.Fprintf(w, "  note: %s\n", clean(warning))
	}
	if p.Travel > 0 {
		fmt.Fprintf(w, "  %s would travel\n", size(p.Travel))
	}
	for _, c := range p.Components {
		fmt.Fprintf(w, "\n%s: %d of %s placed\n", c.Name, c.Placed, plural(c.Wanted, "slot"))
		if c.Refused != "" {
			fmt.Fprintf(w, "  would be refused: %s\n", clean(c.Refused))
		}
		if err := s.writeDecision(w, c.Decision); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) deploy(ctx context.Context, c *api.Client, docs []document, f deployFlags) error {
	for _, doc := range docs {
		if doc.unfold != nil {
			if err := doc.unfold(ctx); err != nil {
				return fmt.Errorf("deploy %s: %w", doc.from, err)
			}
		}
		for _, file := range doc.files {
			if err := s.upload(ctx, c, file); err != nil {
				return fmt.Errorf("deploy %s: %w", doc.name(), err)
			}
		}
	}
	results := make([]api.PutResult, len(docs))
	for i, doc := range docs {
		o := api.PutOptions{IfMatch: strings.Trim(f.ifMatch, `"`), IfNoneMatch: f.onlyNew, MinCopies: f.minCopies, IdempotencyKey: newKey()}
		result, err := again(func() (api.PutResult, error) { return s.putApp(ctx, c, doc.app, o) })
		if err != nil {
			return fmt.Errorf("deploy %s: %w", doc.name(), err)
		}
		results[i] = result
		s.tellPut(result)
	}
	var waited error
	if f.wait {
		var keys []placement.AppKey
		for _, result := range results {
			keys = append(keys, placement.AppKey{Namespace: result.Namespace, App: result.App})
		}
		waited = s.waitAll(ctx, c, keys, f.timeout, rolledOut)
	}
	for _, result := range results {
		if err := s.print(result, func(w io.Writer) error {
			verb := "updated"
			switch {
			case result.Created:
				verb = "created"
			case result.Unchanged:
				verb = "unchanged"
			}
			_, err := fmt.Fprintf(w, "%s/%s %s\n", result.Namespace, result.App, verb)
			return err
		}); err != nil {
			return err
		}
	}
	return waited
}

// pullingEvery is the pause between two requests while images are being pulled.
const pullingEvery = time.Second

// putApp submits an app, and goes on asking while images are pulled for it.
func (s *session) putApp(ctx context.Context, c *api.Client, app placement.App, o api.PutOptions) (api.PutResult, error) {
	for {
		result, err := c.PutApp(ctx, app, o)
		var problem *api.Problem
		if !errors.As(err, &problem) || problem.Kind != api.KindPulling {
			return result, err
		}
		s.say("waiting: %s", clean(problem.Detail))
		pause := time.NewTimer(pullingEvery)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return result, err
		}
	}
}

// tellPut says who holds an accepted edit.
func (s *session) tellPut(r api.PutResult) {
	s.tellDurability(r.Namespace+"/"+r.App, r.Durability)
	for _, warning := range r.Warnings {
		s.say("note: %s", clean(warning))
	}
}

// tellDurability says who holds an edit.
func (s *session) tellDurability(app string, d api.Durability) {
	if d.Quorum {
		s.say("%s is accepted: on disk at %d of %s (%s)", app, d.Copies, plural(d.Keepers, "keeper"), peerNames(d.Peers))
		return
	}
	s.say("%s is accepted: on disk at %s (%s)", app, plural(d.Copies, "peer"), peerNames(d.Peers))
	s.say("note: that is no majority of its %s yet: the edit spreads as they come into reach, and should who has it be lost before, so is the edit (--min-copies insists)",
		plural(d.Keepers, "keeper"))
}

const editTries = 3

// again makes an edit, and once more when the answer was lost on the way: its
// idempotency key makes it one.
func again[T any](edit func() (T, error)) (T, error) {
	for try := 1; ; try++ {
		result, err := edit()
		if err == nil || !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) || try == editTries {
			return result, err
		}
	}
}

func newKey() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, by its documentation
	return hex.EncodeToString(b[:])
}

// upload brings a file to the asked peer, unless that holds it.
func (s *session) upload(ctx context.Context, c *api.Client, file localFile) error {
	has, err := c.HasArtifact(ctx, file.digest)
	if err != nil {
		return fmt.Errorf("look for %s: %w", file.path, err)
	}
	if has {
		s.say("%s is there already (%s)", file.path, shortDigest(file.digest))
		return nil
	}
	f, err := os.Open(file.path)
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	defer f.Close()
	s.say("uploading %s, %s (%s)", file.path, size(file.size), shortDigest(file.digest))
	if _, err := c.PutArtifact(ctx, file.digest, file.size, f); err != nil {
		return fmt.Errorf("upload %s: %w", file.path, err)
	}
	return nil
}

func shortDigest(digest string) string {
	if len(digest) > 19 {
		return digest[:19]
	}
	return digest
}
