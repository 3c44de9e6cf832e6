package cli

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

// Limits of a dev mesh: it is one process on one machine.
const (
	devSitesMax = 20
	devRTTMax   = 2 * time.Second
)

const devLong = `Runs a mesh of several sites in one process, with a simulated wide-area network
between them, and prints where each peer's API answers. Ctrl-C ends it and
removes everything.

While it runs, faults are made from another terminal: hansa dev partition cuts
sites off, heal mends all, kill ends a site with its work, restart brings it
back.

Examples:
  hansa dev --sites 3
  hansa dev --sites 5 --rtt 120ms -o json   # a line of JSON for each peer when it is ready
  hansa dev partition bergen`

func (s *session) devVerb() *cobra.Command {
	if s.runners.Dev == nil {
		return nil
	}
	var cfg DevConfig
	var level string
	cmd := &cobra.Command{
		Use: "dev", Short: "A throw-away mesh of several sites on this machine", Long: devLong,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownChild(cmd, args[0])
			}
			return nil
		},
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.checkDev(&cfg, level); err != nil {
				return err
			}
			if err := s.runners.Dev(cmd.Context(), cfg); !interrupted(cmd.Context(), err) {
				return err
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.IntVar(&cfg.Sites, "sites", 3, "so many sites, with one peer each")
	flags.DurationVar(&cfg.RTT, "rtt", 40*time.Millisecond, "round trip between neighbouring sites; others are farther apart")
	flags.IntVar(&cfg.Port, "api-port", 7601, "port of the first peer's API, the others follow; 0 picks free ones")
	flags.StringVar(&cfg.Dir, "dir", "", "data folder that is kept, to go on in later (default a temporary one, removed at the end)")
	flags.StringVar(&level, "log-level", "warn", "debug, info, warn or error")
	mustComplete(cmd, "log-level", "debug", "info", "warn", "error")
	cmd.PersistentFlags().StringVar(&cfg.Socket, "socket", "", "unix socket for faults (default one of this user in the temporary folder)")
	if s.runners.DevControl != nil {
		cmd.AddCommand(
			s.devFault("partition SITE…", "Cuts sites off from all others", 1, &cfg.Socket, "  hansa dev partition bergen\n  hansa dev partition lubeck bergen   # these two from the rest; they reach each other"),
			s.devFault("heal", "Mends every cut", 0, &cfg.Socket, "  hansa dev heal"),
			s.devFault("kill SITE…", "Ends sites at once, their work too", 1, &cfg.Socket, "  hansa dev kill lubeck"),
			s.devFault("restart SITE…", "Brings killed sites back, with their disks", 1, &cfg.Socket, "  hansa dev restart lubeck"),
		)
	}
	return cmd
}

func (s *session) devFault(use, short string, least int, socket *string, examples string) *cobra.Command {
	most := -1
	if least == 0 {
		most = 0
	}
	return &cobra.Command{
		Use: use, Short: short, Long: short + ", in the dev mesh that runs on this machine.\n\nExamples:\n" + examples,
		Args:              takes(least, most, "at least one site"),
		ValidArgsFunction: s.names(-1, siteNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if *socket == "" {
				*socket = s.devSocket()
			}
			done, err := s.runners.DevControl(cmd.Context(), DevCommand{Socket: *socket, Verb: cmd.Name(), Sites: args})
			if err != nil {
				return err
			}
			if s.structured() {
				return s.printLine(map[string]any{"verb": cmd.Name(), "sites": args, "done": done})
			}
			_, err = fmt.Fprintln(s.io.Out, done)
			return err
		},
	}
}

// devSocket is this user's own, so that two people don't meet.
func (s *session) devSocket() string {
	if path := s.getenv("HANSA_DEV_SOCKET"); path != "" {
		return path
	}
	return filepath.Join(os.TempDir(), "hansa-dev-"+strconv.Itoa(s.uid)+".sock")
}

func (s *session) checkDev(cfg *DevConfig, level string) error {
	var logLevel slog.Level
	switch {
	case logLevel.UnmarshalText([]byte(level)) != nil:
		return usagef("--log-level %q: want debug, info, warn or error", level)
	case cfg.Sites < 1 || cfg.Sites > devSitesMax:
		return usagef("--sites %d: want 1 to %d", cfg.Sites, devSitesMax)
	case cfg.RTT < 0 || cfg.RTT > devRTTMax:
		return usagef("--rtt %v: want 0 to %v", cfg.RTT, devRTTMax)
	case cfg.Port < 0 || cfg.Port+cfg.Sites > 65536:
		return usagef("--api-port %d: want 0, or a port with %d after it", cfg.Port, cfg.Sites-1)
	}
	cfg.Log = slog.New(slog.NewTextHandler(s.io.Err, &slog.HandlerOptions{Level: logLevel}))
	cfg.Workers = s.io.Err
	if cfg.Socket == "" {
		cfg.Socket = s.devSocket()
	}
	cfg.Ready = s.devReady
	return nil
}

// devReady tells where the peers answer.
func (s *session) devReady(peers []DevPeer) {
	if s.structured() {
		for _, p := range peers {
			if s.output == "json" {
				line, _ := json.Marshal(p) // strings: can't fail
				fmt.Fprintf(s.io.Out, "%s\n", line)
			} else {
				_ = s.printLine(p) // stdout is gone: the mesh runs on
			}
		}
		return
	}
	t := s.table("PEER", "SITE", "API")
	for _, p := range peers {
		t.add(p.Peer, p.Site, p.API)
	}
	_ = t.write(s.io.Out) // stdout is gone: the mesh runs on
	if len(peers) > 0 {
		fmt.Fprintf(s.io.Out, "\nthe mesh is up; ctrl-c ends it. In another terminal:\n  export HANSA_API=%s\n  hansa peers\n", peers[0].API)
	}
}
