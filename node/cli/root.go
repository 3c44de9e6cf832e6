package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/api"
)

// session is one run of the command: its streams, clock and global flags.
type session struct {
	io      Streams
	getenv  func(string) string
	now     func() time.Time
	uid     int // of the person; 0 is the machine's own
	runners Runners

	output    string
	namespace string
	api       string
	token     string
	signKey   string // the file of --sign
	printed   bool   // print was called before

	printing sync.Mutex // held while one of several goroutines prints
}

// Main runs the command and returns its exit code. Errors go to streams.Err as
// "hansa: …".
func Main(ctx context.Context, args []string, streams Streams, getenv func(string) string, runners Runners) int {
	s := &session{io: streams, getenv: getenv, now: time.Now, uid: os.Getuid(), runners: runners}
	return s.main(ctx, args)
}

func (s *session) main(ctx context.Context, args []string) int {
	err := s.run(ctx, args)
	var ended *commandEnded
	if errors.As(err, &ended) {
		return ended.code // it has said itself what was wrong
	}
	if err != nil {
		lines := strings.Split(s.explain(err), "\n")
		for i := range lines {
			lines[i] = clean(lines[i]) // a file or a peer may have put anything in it
		}
		fmt.Fprintln(s.io.Err, "hansa: "+strings.Join(lines, "\n"))
	}
	return api.ExitCode(err)
}

func (s *session) run(ctx context.Context, args []string) error {
	root := s.whole(args...)
	root.SetArgs(args)
	// Unknown verbs are told before their flags are looked at. Completion has
	// hidden verbs of its own, which cobra adds while it runs.
	if len(args) == 0 || !strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		if _, _, err := root.Find(args); err != nil {
			return unknownVerb(root, err)
		}
	}
	return root.ExecuteContext(ctx)
}

// whole is the root with the verbs that cobra would add only while it runs.
func (s *session) whole(args ...string) *cobra.Command {
	root := s.root()
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd(args...)
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			c.Args = cobra.ArbitraryArgs
			c.RunE = func(cmd *cobra.Command, args []string) error {
				if len(args) > 0 {
					return unknownChild(cmd, args[0])
				}
				return cmd.Help()
			}
			c.Short = "Prints a script with which a shell completes verbs, flags and names"
			c.Long = completionLong
		}
	}
	return root
}

const completionLong = `Prints a script for a shell. With it, tab completes verbs, flags, and the names of
apps, components, peers and sites, which are asked of the peer.

Examples:
  source <(hansa completion bash)
  hansa completion zsh > "${fpath[1]}/_hansa"
  hansa completion fish > ~/.config/fish/completions/hansa.fish`

const rootLong = `Hansa runs servers, containers and functions over many sites, without a master:
every peer answers the same, and a site that is cut off goes on.

Try it on this machine:

  hansa dev --sites 3            # a mesh of three sites, in one process
  hansa deploy examples/shop/shop.yaml
  hansa ps

Exit codes: 0 done, 1 failed, 2 wrong usage; hansa exec ends with the command's.`

func (s *session) root() *cobra.Command {
	root := &cobra.Command{
		Use: "hansa", Short: "A federated mesh of peers that run your work",
		Long:         rootLong,
		SilenceUsage: true, SilenceErrors: true,
		RunE:              func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(*cobra.Command, []string) error { return s.checkGlobals() },
	}
	root.SetIn(s.io.In)
	root.SetOut(s.io.Out)
	root.SetErr(s.io.Err)
	root.SetFlagErrorFunc(flagError)
	root.SuggestionsMinimumDistance = 2
	flags := root.PersistentFlags()
	flags.SortFlags = false
	flags.StringVarP(&s.output, "output", "o", "table", "table, wide, json or yaml")
	flags.StringVarP(&s.namespace, "namespace", "n", "default", "namespace of the app")
	flags.StringVar(&s.api, "api", "", "peer to ask: host:port or URL (default $HANSA_API, then "+api.AddrDefault+")")
	flags.StringVar(&s.token, "token", "", "token of the admin API (default $HANSA_TOKEN)")
	mustComplete(root, "output", "table", "wide", "json", "yaml")
	root.AddGroup(&cobra.Group{ID: groupApps, Title: "Apps:"}, &cobra.Group{ID: groupMesh, Title: "The mesh:"},
		&cobra.Group{ID: groupPeer, Title: "Peers, trust and care:"})
	s.addVerbs(root)
	root.SetHelpCommand(helpVerb())
	root.SetHelpCommandGroupID(groupPeer)
	root.SetCompletionCommandGroupID(groupPeer)
	return root
}

// Groups of verbs in the help.
const (
	groupApps = "apps"
	groupMesh = "mesh"
	groupPeer = "peer"
)

func (s *session) addVerbs(root *cobra.Command) {
	add := func(group string, verbs ...*cobra.Command) {
		for _, verb := range verbs {
			if verb != nil {
				verb.GroupID = group
				root.AddCommand(verb)
			}
		}
	}
	add(groupApps, s.deployVerb(), s.planVerb(), s.appsVerb(), s.statusVerb(), s.psVerb(), s.volumesVerb(), s.explainVerb(),
		s.logsVerb(), s.execVerb(), s.restartVerb(), s.scaleVerb(), s.historyVerb(), s.rollbackVerb(), s.removeVerb(), s.invokeVerb(), s.secretVerb(),
		s.packVerb(), s.pushVerb(), s.pullVerb(), s.imagesVerb(),
		s.signVerb(), s.verifyVerb(), s.keysVerb(), s.namespaceVerb())
	add(groupMesh, s.peersVerb(), s.sitesVerb(), s.hostsVerb(), s.eventsVerb(), s.conflictsVerb())
	add(groupPeer, s.agentVerb(), s.devVerb(), s.initVerb(), s.inviteVerb(), s.joinVerb(), s.forgetVerb())
	add(groupPeer, s.backupVerb(), s.restoreVerb())
	add(groupPeer, s.versionVerb())
}

func (s *session) checkGlobals() error {
	switch s.output {
	case "table", "wide", "json", "yaml":
	default:
		return usagef("-o %q: want table, wide, json or yaml", s.output)
	}
	if !api.IsName(s.namespace) {
		return usagef("-n %q: not a name (%s)", s.namespace, api.NameRule)
	}
	return nil
}

// client is the client of the peer that the flags or the environment name.
func (s *session) client() (*api.Client, error) {
	addr, token := s.api, s.token
	if addr == "" {
		addr = s.getenv("HANSA_API")
	}
	if token == "" {
		token = s.getenv("HANSA_TOKEN")
	}
	c, err := api.NewClient(addr, token, api.ClientOptions{Agent: "hansa/" + s.runners.Version.Version})
	if err != nil {
		return nil, &api.Usage{Err: err}
	}
	return c, nil
}

func helpVerb() *cobra.Command {
	return &cobra.Command{
		Use: "help [VERB]", Short: "Help for a verb",
		Long: "Help for a verb.\n\nExamples:\n  hansa help deploy",
		ValidArgsFunction: func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, c := range cmd.Root().Commands() {
				if c.IsAvailableCommand() {
					names = append(names, c.Name()+"\t"+c.Short)
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			target, rest, err := cmd.Root().Find(args)
			switch {
			case err != nil:
				return unknownVerb(cmd.Root(), err)
			case len(rest) > 0:
				return unknownChild(target, rest[0])
			}
			return target.Help()
		},
	}
}

// interrupted says whether err is only the person's ctrl-c.
func interrupted(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled))
}
