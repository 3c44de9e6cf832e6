package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/signature"
)

func (s *session) namespaceVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use: "namespace", Short: "What holds for all apps of a namespace",
		Long: `Shows and sets what holds for all apps of a namespace.

Examples:
  hansa namespace policy prod
  hansa namespace policy prod --require-signature release.pub`,
		Args: cobra.ArbitraryArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownChild(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(s.policyVerb())
	return cmd
}

type policyFlags struct {
	keys   []string
	images string
	none   bool
}

func (s *session) policyVerb() *cobra.Command {
	var f policyFlags
	cmd := &cobra.Command{
		Use: "policy [NAMESPACE]", Short: "Shows or sets which signatures a namespace demands",
		Long: `Shows, or sets, by which keys what runs in a namespace has to be signed: everything,
or with --images the images of a repository. Of several keys one has to have signed;
of several rules all hold. What is not signed is refused when it is deployed and once
more at the peer that would start it; what runs already goes on until it is started
again. Without a NAMESPACE it is that of -n.

Examples:
  hansa namespace policy prod
  hansa namespace policy prod --require-signature release.pub
  hansa namespace policy prod --require-signature a.pub --require-signature b.pub   # either
  hansa namespace policy prod --require-signature shop.pub --images 'shop/*'
  hansa namespace policy prod --images 'shop/*' --none     # that rule goes
  hansa namespace policy prod --none                       # all go`,
		Args: takes(0, 1, ""), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			namespace := s.namespace
			if len(args) > 0 {
				namespace = args[0]
			}
			switch {
			case f.none && len(f.keys) > 0:
				return usagef("--none takes a rule away, and --require-signature sets one: give one of them")
			case f.images != "" && !f.none && len(f.keys) == 0:
				return usagef("--images says what a rule is about: give --require-signature FILE too, or --none")
			}
			c, err := s.client()
			if err != nil {
				return err
			}
			p, err := c.Policy(cmd.Context(), namespace)
			if err == nil && (f.none || len(f.keys) > 0) {
				var rules []api.SignatureRule
				if rules, err = f.change(p.Signatures); err != nil {
					return err
				}
				p, err = c.PutPolicy(cmd.Context(), namespace, p.ETag, rules)
			}
			if err != nil {
				return err
			}
			return s.print(p, func(w io.Writer) error { return s.writePolicy(w, p) })
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringArrayVar(&f.keys, "require-signature", nil, "the file of a public key; several times: one of them")
	flags.StringVar(&f.images, "images", "", "only images of this repository, or with /* at its end of all below it")
	flags.BoolVar(&f.none, "none", false, "demand none any more")
	return cmd
}

// change are the rules after what a person wants: the rule about the same images is
// replaced, or goes.
func (f policyFlags) change(rules []api.SignatureRule) ([]api.SignatureRule, error) {
	if f.none && f.images == "" {
		return nil, nil
	}
	rules = slices.DeleteFunc(slices.Clone(rules), func(r api.SignatureRule) bool { return r.Images == f.images })
	if f.none {
		return rules, nil
	}
	rule := api.SignatureRule{Images: f.images}
	for _, path := range f.keys {
		file, err := readKeyFile(path)
		if err != nil {
			return nil, err
		}
		if _, err := signature.ParsePublic(file); err != nil {
			return nil, fmt.Errorf("key %s: %w", path, err)
		}
		rule.Keys = append(rule.Keys, string(file))
	}
	return append(rules, rule), nil
}

func (s *session) writePolicy(w io.Writer, p api.Policy) error {
	if len(p.Signatures) == 0 {
		_, err := fmt.Fprintf(w, "namespace %s demands no signatures\n", p.Namespace)
		return err
	}
	t := s.table("WHAT", "SIGNED BY ONE OF")
	for _, r := range p.Signatures {
		what := "everything"
		if r.Images != "" {
			what = "images of " + r.Images
		}
		var keys []string
		for _, k := range r.Keys {
			sum := sha256.Sum256([]byte(strings.TrimSpace(k)))
			keys = append(keys, hex.EncodeToString(sum[:6]))
		}
		t.add(what, strings.Join(keys, ", "))
	}
	return t.write(w)
}
