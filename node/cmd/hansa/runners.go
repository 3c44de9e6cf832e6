package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"

	"github.com/hansa-mesh/hansa/node"
	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/cli"
	"github.com/hansa-mesh/hansa/node/dev"
)

// version is set by the linker in releases.
var version string

// memorySoftMax is what the garbage collector aims to stay under on a small
// machine; GOMEMLIMIT outranks it.
const memorySoftMax = 512 << 20

func runners() cli.Runners {
	v := api.VersionInfo{Version: version}.Filled()
	return cli.Runners{
		Agent: func(ctx context.Context, cfg cli.AgentConfig) error { return agent(ctx, cfg, v.Version) },
		Init:  initMesh,
		Join:  joinMesh,
		Dev: func(ctx context.Context, cfg cli.DevConfig) error {
			return runDev(ctx, cfg, v.Version)
		},
		DevControl: controlDev,
		Backup: func(ctx context.Context, cfg cli.BackupConfig, w io.Writer) error {
			return node.Backup(ctx, node.BackupConfig{DataDir: cfg.DataDir, WithKey: cfg.WithKey}, w)
		},
		CheckBackup: checkBackup,
		Restore:     restore,
		Version:     v,
	}
}

func agent(ctx context.Context, cfg cli.AgentConfig, version string) error {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memorySoftMax)
	}
	c := node.Config{
		DataDir: cfg.DataDir, Name: cfg.Name, Site: cfg.Site, Labels: cfg.Labels,
		Listen: cfg.Listen, Advertise: cfg.Advertise,
		API: cfg.API.Addr, APIToken: cfg.API.Token, APICert: cfg.API.CertFile, APIKey: cfg.API.KeyFile, APIHosts: cfg.API.AllowedHosts,
		Join: cfg.Join, Token: cfg.Token, Capacity: cfg.Capacity, GPUs: cfg.GPUs, Price: cfg.Price, WorkAddress: cfg.WorkAddress,
		BackWithin: cfg.BackWithin, Bridges: cfg.Bridges, ImagesMax: int64(cfg.ImagesMax), ImagesGrace: cfg.ImagesGrace, Upstream: cfg.Upstream,
	}
	if cfg.Position != nil {
		c.Lat, c.Lon = cfg.Position.Lat, cfg.Position.Lon
	}
	n, err := node.New(ctx, c, node.Deps{Log: cfg.NewLogger(), Version: version})
	if err != nil {
		return err
	}
	return n.Run(ctx)
}

func initMesh(_ context.Context, cfg cli.InitConfig) (cli.InitResult, error) {
	if cfg.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return cli.InitResult{}, fmt.Errorf("--name is needed: %w", err)
		}
		cfg.Name, _, _ = strings.Cut(strings.ToLower(host), ".")
	}
	if cfg.Site == "" {
		cfg.Site = cfg.Name
	}
	r, err := node.Init(node.InitConfig{DataDir: cfg.DataDir, Name: cfg.Name, Site: cfg.Site, RootDir: cfg.RootDir})
	if err != nil {
		return cli.InitResult{}, err
	}
	return cli.InitResult{
		Peer: api.PeerRef{ID: r.Peer, Name: cfg.Name, Site: cfg.Site},
		Root: r.Mesh, RootKey: r.RootDir, DataDir: cfg.DataDir,
	}, nil
}

func joinMesh(ctx context.Context, cfg cli.JoinConfig) (cli.JoinResult, error) {
	r, err := node.Join(ctx, node.Config{DataDir: cfg.DataDir, Name: cfg.Name, Site: cfg.Site, Join: cfg.Join, Token: cfg.Token})
	if err != nil {
		return cli.JoinResult{}, err
	}
	return cli.JoinResult{Peer: api.PeerRef{ID: r.Peer, Name: r.Name, Site: r.Site}, Root: r.Mesh, DataDir: cfg.DataDir}, nil
}

func runDev(ctx context.Context, cfg cli.DevConfig, version string) error {
	for port := cfg.Port; port != 0 && port < cfg.Port+cfg.Sites; port++ { // told before anything is started
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return fmt.Errorf("port %d is in use: choose other ones with --api-port, or 0 for any: %w", port, err)
		}
		if err := l.Close(); err != nil {
			return err
		}
	}
	dir := cfg.Dir
	if dir != "" {
		var err error
		if dir, err = filepath.Abs(dir); err != nil {
			return err
		}
	}
	// A round trip of zero is dev's default, and --rtt 0 is none.
	m, err := dev.New(dev.Config{
		Sites: cfg.Sites, RTT: max(cfg.RTT, 1), Socket: cfg.Socket, APIPort: cfg.Port, DataDir: dir, Log: cfg.Log, Version: version,
		Ready: func(peers []dev.Peer) {
			var out []cli.DevPeer
			for _, p := range peers {
				out = append(out, cli.DevPeer{Peer: p.Name, Site: p.Site, API: "http://" + p.API})
			}
			cfg.Ready(out)
		},
	})
	if err != nil {
		return err
	}
	return m.Run(ctx)
}

func controlDev(ctx context.Context, cmd cli.DevCommand) (string, error) {
	if _, err := dev.Control(ctx, cmd.Socket, dev.Order{Verb: cmd.Verb, Sites: cmd.Sites}); err != nil {
		return "", err
	}
	sites := strings.Join(cmd.Sites, ", ")
	switch cmd.Verb {
	case "partition":
		return sites + " cut off from all others", nil
	case "heal":
		return "every cut mended", nil
	case "kill":
		return sites + " killed, work included", nil
	case "restart":
		return sites + " restarted", nil
	}
	return "", errors.New("unknown order " + cmd.Verb)
}

func checkBackup(r io.Reader) (cli.BackupInfo, error) {
	info, err := node.CheckBackup(r)
	return cli.BackupInfo{Mesh: info.Mesh, Incarnation: info.Incarnation, At: info.At, Records: info.Records}, err
}

func restore(ctx context.Context, cfg cli.RestoreConfig, backup io.ReadSeeker) (cli.RestoreResult, error) {
	r, err := node.Restore(ctx, node.RestoreConfig{DataDir: cfg.DataDir, PutAside: cfg.PutAside}, backup)
	return cli.RestoreResult{
		Peer: api.PeerRef{ID: r.Peer, Name: r.Name, Site: r.Site}, Mesh: r.Mesh, At: r.At, Records: r.Records,
		Identity: r.Identity, DataDir: cfg.DataDir,
	}, err
}
