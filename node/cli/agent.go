package cli

import (
	"encoding/json"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// backWithinDefault is enough for a restart; work whose runtime ends with the
// daemon waits no longer for its place elsewhere than after a crash and its
// verdict.
const backWithinDefault = 10 * time.Second

// imagesGraceDefault leaves a push that broke off a day to go on.
const imagesGraceDefault = 24 * time.Hour

// listenDefault is where peers listen for each other.
const listenDefault = ":7600"

// agentFlags are the flags of hansa agent before they are checked. Each may
// come from the environment and the configuration file as well.
type agentFlags struct {
	cfg                 AgentConfig
	position, level     string
	tokenFile, apiToken string
	capacity            map[string]string
	imagesMax           string
	config              string
}

const agentLong = `Runs a peer of a mesh, in the foreground, until it is told to end. The work goes
on when the peer ends, where its runtime allows that, and is adopted again.

Every flag can be set in a file (--config, YAML with the flags' names as keys) and
in the environment (HANSA_ and the flag's name in upper case, for instance
HANSA_DATA_DIR; --api is HANSA_AGENT_API and --token HANSA_JOIN_TOKEN, since
HANSA_API and HANSA_TOKEN are those of the other verbs). Flags outrank the
environment, which outranks the file.

The admin API listens on loopback. Any other address needs --api-token-file,
--api-tls-cert and --api-tls-key.

Examples:
  hansa init --name fra-1 --site fra && hansa agent
  hansa agent --site syd --labels tier=core,region=ap --join fra:7600 --token-file ./token
  hansa agent --config /etc/hansa/agent.yaml --log-format json`

func (s *session) agentVerb() *cobra.Command {
	if s.runners.Agent == nil {
		return nil
	}
	var f agentFlags
	cmd := &cobra.Command{
		Use: "agent", Short: "Runs a peer", Long: agentLong,
		Args: takes(0, 0, ""), ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.mergeConfig(cmd.LocalNonPersistentFlags(), f.config); err != nil {
				return err
			}
			cfg, err := s.agentConfig(f)
			if err != nil {
				return err
			}
			if err := s.runners.Agent(cmd.Context(), cfg); !interrupted(cmd.Context(), err) {
				return err
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVar(&f.cfg.DataDir, "data-dir", s.dataDirDefault(), "data folder")
	flags.StringVar(&f.cfg.Name, "name", "", "name of the peer (default as it was admitted, else the host's name)")
	flags.StringVar(&f.cfg.Site, "site", "", "site that it belongs to")
	flags.StringToStringVar(&f.cfg.Labels, "labels", nil, "labels, k=v,…")
	flags.StringVar(&f.position, "position", "", "where it is: latitude,longitude in degrees")
	flags.StringVar(&f.cfg.Listen, "listen", listenDefault, "address for other peers (QUIC over UDP)")
	flags.StringVar(&f.cfg.Advertise, "advertise", "", "host:port where other peers reach it (default found out)")
	flags.StringVar(&f.cfg.API.Addr, "api", api.AddrDefault, "address of the admin API")
	flags.StringVar(&f.apiToken, "api-token-file", "", "file with the token that the admin API asks for")
	flags.StringVar(&f.cfg.API.CertFile, "api-tls-cert", "", "certificate of the admin API, PEM")
	flags.StringVar(&f.cfg.API.KeyFile, "api-tls-key", "", "its key, PEM")
	flags.StringSliceVar(&f.cfg.API.AllowedHosts, "api-allowed-hosts", nil, "names beside localhost under which a loopback admin API may be asked")
	flags.StringToStringVar(&f.capacity, "capacity", nil, "what it gives to work, of cpu, memory and disk, for instance cpu=6,memory=12Gi (default found from the machine)")
	flags.StringToIntVar(&f.cfg.GPUs, "gpus", nil, "GPUs that it gives to work, model=count (default NVIDIA's, found from the machine)")
	flags.Float64Var(&f.cfg.Price, "price", 0, "of a core for an hour; cheaper peers are taken first, all else being equal")
	flags.StringVar(&f.cfg.WorkAddress, "work-address", "127.0.0.1", "IP address that work's ports are opened on")
	flags.StringSliceVar(&f.cfg.Bridges, "bridges", nil, "bridges of this machine that virtual machines may join (default none)")
	flags.StringVar(&f.cfg.Upstream, "upstream", "all", "registries outside of the mesh that it asks for images that the mesh has not: all, or none")
	flags.StringVar(&f.imagesMax, "images-max", "", "bytes of images and other files by digest that it keeps beyond what it has to, for instance 20Gi (default what the disk has room for)")
	flags.DurationVar(&f.cfg.ImagesGrace, "images-grace", imagesGraceDefault, "how long such files are kept that nothing needs, after their last use")
	flags.DurationVar(&f.cfg.BackWithin, "back-within", backWithinDefault, "how long the others leave its work where it is after a stop; 0s: not at all")
	flags.StringSliceVar(&f.cfg.Join, "join", nil, "any peers of the mesh to join, host:port; needed with --token")
	flags.StringVar(&f.cfg.Token, "token", "", "token of an invitation, needed once")
	flags.StringVar(&f.tokenFile, "token-file", "", "file with that token; - is the input")
	flags.StringVar(&f.config, "config", "", "configuration file")
	flags.StringVar(&f.level, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&f.cfg.LogFormat, "log-format", "text", "text or json")
	mustComplete(cmd, "log-level", "debug", "info", "warn", "error")
	mustComplete(cmd, "log-format", "text", "json")
	return cmd
}

func (s *session) agentConfig(f agentFlags) (AgentConfig, error) {
	cfg := f.cfg
	cfg.LogTo = s.io.Err
	if err := cfg.LogLevel.UnmarshalText([]byte(f.level)); err != nil {
		return cfg, usagef("--log-level %q: want debug, info, warn or error", f.level)
	}
	if cfg.LogFormat != "text" && cfg.LogFormat != "json" {
		return cfg, usagef("--log-format %q: want text or json", cfg.LogFormat)
	}
	var err error
	if cfg.Position, err = parsePosition(f.position); err != nil {
		return cfg, err
	}
	if cfg.Capacity, err = parseCapacity(f.capacity); err != nil {
		return cfg, err
	}
	if cfg.ImagesMax, err = parseBytes("--images-max", f.imagesMax); err != nil {
		return cfg, err
	}
	if cfg.Token, err = s.readToken(cfg.Token, f.tokenFile); err != nil {
		return cfg, err
	}
	if cfg.API.Token, err = s.readToken("", f.apiToken); err != nil {
		return cfg, err
	}
	if (cfg.API.CertFile == "") != (cfg.API.KeyFile == "") {
		return cfg, usagef("--api-tls-cert and --api-tls-key go together")
	}
	return cfg, nil
}

// parseCapacity reads quantities by resource; none is what the machine has.
func parseCapacity(given map[string]string) (placement.Resources, error) {
	var r placement.Resources
	for name, text := range given {
		target, ok := map[string]json.Unmarshaler{"cpu": &r.CPU, "memory": &r.Memory, "disk": &r.Disk}[name]
		if !ok {
			return r, usagef("--capacity %s=%s: want cpu, memory or disk", name, text)
		}
		quoted, err := json.Marshal(text)
		if err == nil {
			err = target.UnmarshalJSON(quoted)
		}
		if err != nil {
			return r, usagef("--capacity %s=%s: %v", name, text, err)
		}
	}
	return r, nil
}

// parseBytes reads a quantity of bytes; none is 0.
func parseBytes(flag, text string) (n placement.Bytes, err error) {
	if text == "" {
		return 0, nil
	}
	quoted, err := json.Marshal(text)
	if err == nil {
		err = n.UnmarshalJSON(quoted)
	}
	if err != nil {
		return 0, usagef("%s %s: %v", flag, text, err)
	}
	return n, nil
}

// parsePosition reads "lat,lon"; "" is none.
func parsePosition(text string) (*api.Position, error) {
	if text == "" {
		return nil, nil
	}
	lat, lon, ok := strings.Cut(text, ",")
	la, err1 := strconv.ParseFloat(strings.TrimSpace(lat), 64)
	lo, err2 := strconv.ParseFloat(strings.TrimSpace(lon), 64)
	inRange := la >= -90 && la <= 90 && lo >= -180 && lo <= 180 // false for NaN too
	if !ok || err1 != nil || err2 != nil || !inRange {
		return nil, usagef("--position %q: want latitude,longitude in degrees, for instance 50.11,8.68", text)
	}
	return &api.Position{Lat: la, Lon: lo}, nil
}

// NewLogger is a logger as cfg asks for.
func (cfg AgentConfig) NewLogger() *slog.Logger {
	w := cfg.LogTo
	if w == nil {
		w = io.Discard
	}
	o := &slog.HandlerOptions{Level: cfg.LogLevel}
	if cfg.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
