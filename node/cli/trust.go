package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

func (s *session) initVerb() *cobra.Command {
	if s.runners.Init == nil {
		return nil
	}
	var cfg InitConfig
	cmd := &cobra.Command{
		Use: "init", Short: "Starts a mesh: its root key and its first peer",
		Long: `Makes the mesh's root key and the data folder of its first peer. The root's key
is needed for nothing in daily life, since any peer lets others in: put it away.

Examples:
  hansa init --name fra-1 --site fra
  hansa init --name fra-1 --site fra --data-dir /srv/hansa --root-dir /mnt/usb`,
		Args: takes(0, 0, ""), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			result, err := s.runners.Init(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			return s.print(result, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, `made a mesh with root %s
  root key   %s (put it away: daily life does not need it)
  first peer %s at site %s, in %s

next: start the peer, then invite others
  hansa agent --data-dir %s
  hansa invite --name NAME
`, result.Root, result.RootKey, peerName(result.Peer), orDash(result.Peer.Site), result.DataDir, result.DataDir)
				return err
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.DataDir, "data-dir", s.dataDirDefault(), "data folder of the first peer")
	flags.StringVar(&cfg.Name, "name", "", "name of the first peer (default the host's name)")
	flags.StringVar(&cfg.Site, "site", "", "site of the first peer (default its name)")
	flags.StringVar(&cfg.RootDir, "root-dir", "", "where the root's key goes (default a folder in the data folder)")
	return cmd
}

// dataDirDefault is where a peer keeps its data.
func (s *session) dataDirDefault() string {
	if dir := s.getenv("HANSA_DATA_DIR"); dir != "" {
		return dir
	}
	home := s.getenv("HOME")
	switch dir := s.getenv("XDG_DATA_HOME"); {
	case s.uid == 0:
	case dir != "":
		return filepath.Join(dir, "hansa")
	case home != "":
		return filepath.Join(home, ".local", "share", "hansa")
	}
	return "/var/lib/hansa"
}

func (s *session) inviteVerb() *cobra.Command {
	var name, replaces, site string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "invite --name NAME", Short: "Prints a token that lets one newcomer in",
		Long: `Prints a token with which one newcomer may join, once, under the given name. Any
peer can invite. With -o table the token alone goes to stdout.

Examples:
  hansa invite --name syd-1
  hansa invite --name fra-2 --replaces fra-1 --ttl 10m
  hansa agent --join fra:7600 --site syd --token "$(hansa invite --name syd-1 --api fra:7601)"`,
		Args: takes(0, 0, ""), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name == "" {
				return usagef("hansa invite needs --name: the name of the newcomer")
			}
			if ttl <= 0 {
				return usagef("--ttl %v: want more than 0, for instance 1h", ttl)
			}
			c, err := s.client()
			if err != nil {
				return err
			}
			invite, err := c.Invite(cmd.Context(), api.InviteRequest{Name: name, Replaces: replaces, Site: site, TTL: placement.Duration(ttl)})
			if err != nil {
				return err
			}
			return s.print(invite, func(w io.Writer) error {
				where := site
				if where == "" {
					where = "SITE"
				}
				s.say("a token for %s, good once, at %s; it expires %s. There: hansa agent --join %s --site %s --token TOKEN",
					name, strings.Join(invite.Address, " or "), s.age(invite.Expires), strings.Join(invite.Address, ","), where)
				_, err := fmt.Fprintln(w, invite.Token)
				return err
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&name, "name", "", "name of the newcomer")
	flags.StringVar(&replaces, "replaces", "", "lost peer whose place it takes, by name or id")
	flags.StringVar(&site, "site", "", "site that it must belong to (default any)")
	flags.DurationVar(&ttl, "ttl", time.Hour, "how long the token is good")
	return cmd
}

func (s *session) joinVerb() *cobra.Command {
	if s.runners.Join == nil {
		return nil
	}
	var cfg JoinConfig
	var tokenFile string
	cmd := &cobra.Command{
		Use: "join ADDRESS…", Short: "Enters a mesh with a token; the peer is then started with hansa agent",
		Long: `Redeems the token of an invitation and prepares the data folder, without
starting the peer. hansa agent --token does both in one.

Examples:
  hansa join fra.example.org:7600 --site syd --token TOKEN
  hansa join fra.example.org:7600 fra2.example.org:7600 --name syd-1 --site syd --token-file ./token`,
		Args: takes(1, 16, "the address of a peer"), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if cfg.Token, err = s.readToken(cfg.Token, tokenFile); err != nil {
				return err
			}
			if cfg.Token == "" {
				return usagef("hansa join needs --token or --token-file: hansa invite, at any peer of the mesh, prints one")
			}
			cfg.Join = args
			result, err := s.runners.Join(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			return s.print(result, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "%s is in the mesh with root %s\n\nnext: start it\n  hansa agent --data-dir %s\n",
					peerName(result.Peer), result.Root, result.DataDir)
				return err
			})
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.DataDir, "data-dir", s.dataDirDefault(), "data folder of the peer")
	flags.StringVar(&cfg.Name, "name", "", "name of the peer, as it was invited (default from the token)")
	flags.StringVar(&cfg.Site, "site", "", "site of the peer")
	flags.StringVar(&cfg.Token, "token", "", "token of an invitation")
	flags.StringVar(&tokenFile, "token-file", "", "file with the token; - is the input")
	return cmd
}

const tokenBytesMax = 64 << 10

// readToken is the token itself, or what the file holds.
func (s *session) readToken(token, file string) (string, error) {
	switch {
	case file == "":
		return token, nil
	case token != "":
		return "", usagef("--token and --token-file are both given: give one")
	}
	in := s.io.In
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		defer f.Close()
		in = f
	}
	data, err := io.ReadAll(io.LimitReader(in, tokenBytesMax))
	if err != nil {
		return "", fmt.Errorf("--token-file %s: %w", file, err)
	}
	text := strings.TrimSpace(string(data))
	if text == "" {
		return "", fmt.Errorf("--token-file %s: there is no token in it", file)
	}
	return text, nil
}

func (s *session) versionVerb() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Versions of this command and of the asked peer",
		Long: `Prints the version of this command, and of the peer if one answers.

Examples:
  hansa version
  hansa version -o json`,
		Args: takes(0, 0, ""), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			both := struct {
				Client api.VersionInfo  `json:"client"`
				Peer   *api.VersionInfo `json:"peer,omitempty"`
			}{Client: s.runners.Version.Filled()}
			c, err := s.client()
			if err != nil {
				return err
			}
			// Which version this is must be told without a daemon as well.
			if v, err := c.Version(cmd.Context()); err == nil {
				both.Peer = &v
			}
			return s.print(both, func(w io.Writer) error {
				fmt.Fprintf(w, "hansa %s\n", versionText(both.Client))
				if both.Peer == nil {
					s.say("no peer answers at %s", c.URL())
					return nil
				}
				_, err := fmt.Fprintf(w, "peer  %s\n", versionText(*both.Peer))
				return err
			})
		},
	}
}

func versionText(v api.VersionInfo) string {
	text := v.Version
	if v.Commit != "" {
		text += " (" + v.Commit + ")"
	}
	return text + " " + v.Go + " " + v.OS + "/" + v.Arch
}
