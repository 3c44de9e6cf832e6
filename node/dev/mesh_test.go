package dev

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/driver/process"
	"github.com/hansa-mesh/hansa/placement"
)

func TestMain(m *testing.M) {
	if process.IsSupervisor(os.Args) { // of one program, re-executed by a peer
		os.Exit(process.SupervisorMain(os.Args))
	}
	os.Exit(m.Run())
}

// A mesh whose folder was kept goes on in it: the same peers, with the apps that they
// had, which run again; a site more is let in.
func TestMeshGoesOnInItsFolder(t *testing.T) {
	dir := t.TempDir()
	run := func(sites int, do func(peers []Peer, c *api.Client)) []Peer {
		t.Helper()
		ready := make(chan []Peer, 1)
		m, err := New(Config{Sites: sites, RTT: time.Millisecond, DataDir: dir, Socket: filepath.Join(t.TempDir(), "s"),
			Ready: func(peers []Peer) { ready <- peers }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		defer func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		select {
		case peers := <-ready:
			c, err := api.NewClient(peers[len(peers)-1].API, "", api.ClientOptions{})
			if err != nil {
				t.Fatal(err)
			}
			do(peers, c)
			return peers
		case err := <-done:
			done <- nil
			t.Fatalf("%d sites: %v", sites, err)
		case <-time.After(2 * time.Minute):
			t.Fatalf("%d sites are not up", sites)
		}
		return nil
	}
	runs := func(c *api.Client) { // each copy is there: a command beside it ends well
		t.Helper()
		var last error
		look := time.NewTicker(50 * time.Millisecond)
		defer look.Stop()
		for deadline := time.Now().Add(2 * time.Minute); time.Now().Before(deadline); <-look.C {
			list, err := c.Allocations(t.Context(), api.AllocationQuery{App: "clock", Page: api.Page{Limit: 10}})
			n := 0
			for _, a := range list.Items {
				if r, execErr := c.ExecToEnd(t.Context(), a.ID, []string{"true"}, "", time.Minute); execErr != nil || r.ExitCode != 0 {
					err = fmt.Errorf("%+v: %+v, %w", a, r, execErr)
					continue
				}
				n++
			}
			if last = err; n == 2 {
				return
			}
		}
		t.Fatalf("it does not run: %v", last)
	}
	before := run(2, func(_ []Peer, c *api.Client) {
		app := placement.App{Name: "clock", Namespace: "default", Components: map[string]placement.Component{
			"c": {Replicas: new(2), Server: &placement.Server{Process: &placement.Process{Command: []string{"sleep", "3600"}}}}}}
		if _, err := c.PutApp(t.Context(), app, api.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		runs(c)
	})
	after := run(3, func(_ []Peer, c *api.Client) {
		runs(c)
	})
	if before == nil || after[0].Peer != before[0].Peer || after[1].Peer != before[1].Peer {
		t.Errorf("the peers were %v and are %v", before, after)
	}
}
