package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/hansa-mesh/hansa/node/api"
)

func (s *session) secretVerb() *cobra.Command {
	cmd := &cobra.Command{
		Use: "secret", Short: "Values that only some sites can read: passwords, tokens, keys",
		Long: `Sets and lists secrets. A component names them (secrets: in the manifest) and finds
each as a variable or a file. A secret is sealed to the peers of those sites that may
hold those of its namespace; nothing prints a value again, and what uses them runs at
no other site. What runs has the value that it was started with.

Examples:
  hansa secret set db-password
  hansa secret list
  hansa secret sites fra nyc
  hansa secret delete db-password`,
		Args: cobra.ArbitraryArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownChild(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(s.secretSetVerb(), s.secretListVerb(), s.secretDeleteVerb(), s.secretSitesVerb())
	return cmd
}

func (s *session) secretSetVerb() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "set NAME", Short: "Sets a secret from the input, a file, or what is typed",
		Long: `Sets a secret. The value is read from the input, or typed twice where that is a
terminal; it is never an argument, which others could see in the list of processes.
Every byte counts: echo adds a newline, printf does not. At most 64 KiB.

Examples:
  hansa secret set db-password
  printf %s "$TOKEN" | hansa secret set registry-token
  hansa secret set tls-key --from-file key.pem`,
		Args: takes(1, 1, "the name of a secret"), ValidArgsFunction: s.names(1, s.secretNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkSecretName(args[0]); err != nil {
				return err
			}
			c, err := s.client()
			if err != nil {
				return err
			}
			value, err := s.secretValue(args[0], file)
			if err != nil {
				return err
			}
			defer clear(value)
			result, err := c.PutSecret(cmd.Context(), s.namespace, args[0], value)
			if err != nil {
				return err
			}
			if file == "" && bytes.HasSuffix(value, []byte("\n")) {
				s.say("the value ends in a newline, which is a part of it: printf writes none, echo does")
			}
			return s.print(result, func(w io.Writer) error {
				var peers []string
				for _, p := range result.Peers {
					peers = append(peers, peerName(p))
				}
				_, err := fmt.Fprintf(w, "secret %s is set: on disk at %s (%s)\n", args[0], plural(result.Copies, "peer"), strings.Join(peers, ", "))
				return err
			})
		},
	}
	cmd.Flags().StringVar(&file, "from-file", "", "a file with the value; - is the input")
	return cmd
}

func (s *session) secretNames(ctx context.Context, c *api.Client) []string {
	l, err := c.Secrets(ctx, s.namespace, onePage)
	if err != nil {
		return nil
	}
	var names []string
	for _, x := range l.Items {
		names = append(names, x.Name)
	}
	return names
}

func checkSecretName(name string) error {
	if !api.IsName(name) {
		return usagef("%q is not the name of a secret (%s)", name, api.NameRule)
	}
	return nil
}

// secretValue reads a value from a file, the input or a person.
func (s *session) secretValue(name, file string) ([]byte, error) {
	in := s.io.In
	if file != "" && file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	} else if f, ok := in.(*os.File); ok && file == "" && term.IsTerminal(int(f.Fd())) {
		return s.typed(f, name)
	}
	value, err := io.ReadAll(io.LimitReader(in, api.SecretBytesMax+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("secret %s: read the value: %w", name, err)
	case len(value) == 0:
		return nil, fmt.Errorf("secret %s: the value is empty", name)
	case len(value) > api.SecretBytesMax:
		return nil, fmt.Errorf("secret %s: the value has more than %d bytes", name, api.SecretBytesMax)
	}
	return value, nil
}

// typed asks a person twice, without an echo.
func (s *session) typed(f *os.File, name string) ([]byte, error) {
	var values [2][]byte
	for i, prompt := range []string{"Value of " + name + ": ", "Again: "} {
		fmt.Fprint(s.io.Err, prompt)
		value, err := term.ReadPassword(int(f.Fd()))
		fmt.Fprintln(s.io.Err)
		if err != nil {
			return nil, fmt.Errorf("secret %s: read the value: %w", name, err)
		}
		values[i] = value
	}
	defer clear(values[1])
	switch {
	case !bytes.Equal(values[0], values[1]):
		return nil, fmt.Errorf("secret %s: the two values differ: nothing was set", name)
	case len(values[0]) == 0:
		return nil, fmt.Errorf("secret %s: the value is empty", name)
	}
	return values[0], nil
}

func (s *session) secretListVerb() *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "Lists secrets, without their values",
		Long: `Lists the secrets of a namespace: when each was set, and where. No value is shown.

Examples:
  hansa secret list
  hansa secret list -n shop -o json`,
		Args: takes(0, 0, ""), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			l, err := c.Secrets(cmd.Context(), s.namespace, api.Page{})
			if err != nil {
				return err
			}
			return s.print(l, func(w io.Writer) error {
				if len(l.Items) == 0 {
					s.say("no secrets in namespace %s", s.namespace)
					return nil
				}
				t := s.table("NAME", "SET", "AT", "NOTE")
				for _, x := range l.Items {
					t.add(x.Name, s.age(x.At), peerName(x.By), secretNote(x))
				}
				return t.write(w)
			})
		},
	}
}

// secretNote is what a person should know of a secret.
func secretNote(x api.Secret) string {
	switch {
	case x.Key == 0:
		return "its key is gone: set it again"
	case x.Sides > 1:
		return "set on two sides of a cut: this one counts"
	case !x.Current:
		return "about to be sealed to the newest key"
	}
	return "-"
}

func (s *session) secretDeleteVerb() *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Deletes a secret",
		Long: `Deletes a secret. What runs goes on with the value that it has; what is started
from now on waits for it, and then fails.

Examples:
  hansa secret delete db-password`,
		Args: takes(1, 1, "the name of a secret"), ValidArgsFunction: s.names(1, s.secretNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkSecretName(args[0]); err != nil {
				return err
			}
			c, err := s.client()
			if err != nil {
				return err
			}
			if err := c.DeleteSecret(cmd.Context(), s.namespace, args[0]); err != nil {
				return err
			}
			return s.print(map[string]any{"deleted": args[0], "namespace": s.namespace}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "secret %s is deleted\n", args[0])
				return err
			})
		},
	}
}

func (s *session) secretSitesVerb() *cobra.Command {
	var everywhere bool
	cmd := &cobra.Command{
		Use: "sites [SITE…]", Short: "Shows or sets the sites that may hold a namespace's secrets",
		Long: `Shows which sites may hold the secrets of a namespace, or sets them. Until they are
set, all may. What uses a secret of the namespace is placed at no other site.

When a site is taken off, a new key is made without its peers and everything is
sealed to that. They may remember what they had: set the values anew.

Examples:
  hansa secret sites
  hansa secret sites fra nyc -n shop
  hansa secret sites --all`,
		Args: cobra.ArbitraryArgs, ValidArgsFunction: s.names(-1, siteNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if everywhere && len(args) > 0 {
				return usagef("hansa secret sites takes sites or --all, and not both")
			}
			c, err := s.client()
			if err != nil {
				return err
			}
			var sites api.SecretSites
			if everywhere || len(args) > 0 {
				sites, err = c.PutSecretSites(cmd.Context(), s.namespace, api.SecretSites{All: everywhere, Sites: args})
			} else {
				sites, err = c.SecretSites(cmd.Context(), s.namespace)
			}
			if err != nil {
				return err
			}
			return s.print(sites, func(w io.Writer) error {
				where := "at every site"
				if !sites.All {
					where = "at no other site than " + orDash(strings.Join(sites.Sites, ", "))
				}
				_, err := fmt.Fprintf(w, "the secrets of namespace %s may be %s\n", s.namespace, where)
				return err
			})
		},
	}
	cmd.Flags().BoolVar(&everywhere, "all", false, "every site")
	return cmd
}
