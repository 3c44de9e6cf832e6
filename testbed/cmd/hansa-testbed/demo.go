package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/testbed/scenario"
)

func demoCommand() *cobra.Command {
	var hansa, shop string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Deploy once at any peer, lose a site, cut a site off, heal",
		Long: `Starts a throw-away mesh of three sites with 'hansa dev', deploys a shop, and
lets happen to it what happens to meshes: the first site dies, another is cut
off, the link heals. Says what it does and checks what it says.`,
		Example: "  hansa-testbed demo --hansa bin/hansa --shop examples/shop/shop.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo(cmd.Context(), cmd.OutOrStdout(), hansa, shop)
		},
	}
	cmd.Flags().StringVar(&hansa, "hansa", "hansa", "the hansa binary")
	cmd.Flags().StringVar(&shop, "shop", "examples/shop/shop.yaml", "the manifest of the shop, its programs built")
	return cmd
}

// devMesh is a mesh that 'hansa dev' runs.
type devMesh struct {
	hansa  string
	socket string
	sites  []scenario.Site
	cmd    *exec.Cmd
	errs   *bytes.Buffer
}

func demo(ctx context.Context, out io.Writer, hansa, shop string) error {
	hansa, err := exec.LookPath(hansa)
	if err != nil {
		return fmt.Errorf("no hansa binary: run 'make build' first: %w", err)
	}
	if hansa, err = filepath.Abs(hansa); err != nil {
		return err
	}
	begin := time.Now()
	fmt.Fprintln(out, "$ hansa dev --sites 3        # three regions, 40 ms apart, in one process")
	mesh, err := startDev(ctx, hansa)
	if err != nil {
		return err
	}
	defer mesh.stop()
	figures, err := scenario.Run(ctx, mesh, scenario.Options{Hansa: hansa, Manifest: shop, Out: out})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, `
Done in %.0f s. What was shown:
  deployed at one peer, running at three sites   %5.1f s
  first site killed, its work running elsewhere  %5.1f s
  cut healed, no duplicate and nothing lost      %5.1f s
  calls of the function, every one answered      %5d
To play with such a mesh yourself: hansa dev
`, time.Since(begin).Seconds(), figures.Deploy.Seconds(), figures.Failover.Seconds(), figures.Heal.Seconds(), figures.Calls)
	return nil
}

// startDev starts the mesh and reads the addresses of its peers.
func startDev(ctx context.Context, hansa string) (*devMesh, error) {
	dir, err := os.MkdirTemp("", "hansa-demo-")
	if err != nil {
		return nil, err
	}
	m := &devMesh{hansa: hansa, socket: filepath.Join(dir, "dev.sock"), errs: &bytes.Buffer{}}
	m.cmd = exec.CommandContext(ctx, hansa, "dev", "--sites", "3", "--api-port", "0", "-o", "json")
	m.cmd.Env = m.env()
	m.cmd.Stderr = m.errs
	m.cmd.Cancel = func() error { return m.cmd.Process.Signal(syscall.SIGTERM) }
	m.cmd.WaitDelay = 30 * time.Second
	stdout, err := m.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := m.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(stdout)
	for len(m.sites) < 3 && lines.Scan() {
		var peer struct{ Site, API string }
		if err := json.Unmarshal(lines.Bytes(), &peer); err != nil {
			m.stop()
			return nil, fmt.Errorf("hansa dev printed %q: %w", lines.Text(), err)
		}
		m.sites = append(m.sites, scenario.Site{Name: peer.Site, API: strings.TrimPrefix(peer.API, "http://")})
	}
	if len(m.sites) < 3 {
		m.stop()
		return nil, fmt.Errorf("hansa dev ended early:\n%s", m.errs)
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	return m, nil
}

func (m *devMesh) env() []string { return append(os.Environ(), "HANSA_DEV_SOCKET="+m.socket) }

// stop ends the mesh and removes what it left.
func (m *devMesh) stop() {
	_ = m.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	_ = m.cmd.Wait()                          // its exit code says nothing more
	_ = os.RemoveAll(filepath.Dir(m.socket))  // a temporary folder
}

func (m *devMesh) control(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, m.hansa, append([]string{"dev"}, args...)...)
	cmd.Env = m.env()
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("hansa dev %s: %w\n%s%s", strings.Join(args, " "), err, out, m.errs)
	}
	return nil
}

func (m *devMesh) Sites() []scenario.Site { return m.sites }
func (m *devMesh) Kill(ctx context.Context, site string) error {
	return m.control(ctx, "kill", site)
}
func (m *devMesh) Restart(ctx context.Context, site string) error {
	return m.control(ctx, "restart", site)
}
func (m *devMesh) Cut(ctx context.Context, site string) error {
	return m.control(ctx, "partition", site)
}
func (m *devMesh) Heal(ctx context.Context) error { return m.control(ctx, "heal") }
