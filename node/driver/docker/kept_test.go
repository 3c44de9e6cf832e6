package docker_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/docker"
	"github.com/hansa-mesh/hansa/node/driver/drivertest"
)

// meshImage is a peer's registry with an image, which env tells from others.
func meshImage(t *testing.T, env string) (peer *registry, digest string) {
	t.Helper()
	peer = newRegistry(t)
	peer.user, peer.password = "hansa", "of-this-start"
	peer.push(t, "1", env)
	sum := sha256.Sum256(peer.manifests["1"])
	return peer, "sha256:" + hex.EncodeToString(sum[:])
}

func (p *place) from(peer *registry) {
	p.c.Registry = func() docker.Registry {
		return docker.Registry{Addr: strings.TrimPrefix(peer.URL, "http://"), User: peer.user, Password: peer.password}
	}
}

func ofMesh(id, digest string, verb ...string) driver.Task {
	job := program(id, verb...)
	job.Container.Image, job.Container.Digest = "nowhere.invalid/shop/api:1@"+digest, digest
	return job
}

// has says whether the engine has an image by some name.
func (h *host) has(t *testing.T, name string) bool {
	t.Helper()
	cli := h.client(t)
	defer cli.Close()
	_, err := cli.ImageInspect(t.Context(), name)
	return err == nil
}

func none(string, time.Duration) bool { return false }

// Images that were pulled for work of the mesh go when they are not wanted, nothing
// uses them, and by the word of the engine: not what a container of somebody else's
// is of, not another name of it, and not what was there before.
func TestPruneImages(t *testing.T) {
	for _, kind := range []string{"docker", "podman"} {
		t.Run(kind, func(t *testing.T) {
			h := engine(t, kind)
			peer, digest := meshImage(t, "pruned "+kind)
			name := peer.name("shop/api@" + digest)
			t.Cleanup(func() { h.forget(t, name) })
			p := newPlace(t, h)
			p.from(peer)
			d, stop := p.running(t, nil)
			prune := func(want bool, keep func(string, time.Duration) bool, why string) {
				t.Helper()
				gone, err := d.PruneImages(t.Context(), keep)
				if err != nil || slices.Contains(gone, digest) != want || h.has(t, name) == want {
					t.Fatalf("%s: %v went, %v", why, gone, err)
				}
			}
			if gone, err := d.PruneImages(t.Context(), none); err != nil || len(gone) > 0 {
				t.Errorf("nothing was pulled: %v, %v", gone, err)
			}
			if _, err := d.Start(t.Context(), ofMesh("c/0", digest, "run")); err != nil {
				t.Fatal(err)
			}
			prune(false, none, "it runs")
			if err := d.Stop(t.Context(), "c/0", -1); err != nil {
				t.Fatal(err)
			}
			drivertest.Eventually(t, "the container to go", func() bool { return p.containers(t, true) == 0 })
			prune(false, func(of string, idle time.Duration) bool {
				if of != digest || idle < 0 || idle > time.Hour {
					t.Errorf("%s, idle for %v", of, idle)
				}
				return true
			}, "it is wanted")

			cli := h.client(t)
			defer cli.Close()
			made, err := cli.ContainerCreate(t.Context(), client.ContainerCreateOptions{Config: &container.Config{Image: name, Cmd: []string{"/guest"}}})
			if err != nil {
				t.Fatal(err)
			}
			prune(false, none, "somebody has a container of it")
			if _, err := cli.ContainerRemove(t.Context(), made.ID, client.ContainerRemoveOptions{}); err != nil {
				t.Fatal(err)
			}

			stop() // and the next daemon knows what the last one pulled
			d, _ = p.running(t, nil)
			prune(true, none, "nothing uses it")
			if gone, err := d.PruneImages(t.Context(), none); err != nil || len(gone) > 0 {
				t.Errorf("again: %v, %v", gone, err)
			}
			if !h.has(t, guestImage) {
				t.Error("an image went that the mesh never pulled")
			}
		})
	}
}

// An image that somebody gave another name keeps that; one that somebody pulled before
// the mesh wanted it stays theirs.
func TestPruneLeavesImagesOfOthers(t *testing.T) {
	h := engine(t, "docker")
	cli := h.client(t)
	defer cli.Close()
	run := func(d *docker.Driver, digest string) {
		t.Helper()
		if _, err := d.Start(t.Context(), ofMesh("c/0", digest, "env")); err != nil {
			t.Fatal(err)
		}
		ended(t, d, "c/0")
		if err := d.Stop(t.Context(), "c/0", -1); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("another name", func(t *testing.T) {
		peer, digest := meshImage(t, "named")
		p := newPlace(t, h)
		p.from(peer)
		d, _ := p.running(t, nil)
		run(d, digest)
		name := peer.name("shop/api@" + digest)
		if _, err := cli.ImageTag(t.Context(), client.ImageTagOptions{Source: name, Target: "mine/api:1"}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.forget(t, "mine/api:1") })
		drivertest.Eventually(t, "the container to go", func() bool { return p.containers(t, true) == 0 })
		if _, err := d.PruneImages(t.Context(), none); err != nil || !h.has(t, "mine/api:1") || h.has(t, name) {
			t.Errorf("mine %v, of the mesh %v: %v", h.has(t, "mine/api:1"), h.has(t, name), err)
		}
	})
	t.Run("pulled before", func(t *testing.T) {
		peer, digest := meshImage(t, "theirs")
		other := newRegistry(t)
		other.blobs, other.manifests = peer.blobs, peer.manifests
		theirs := other.name("team/api@" + digest)
		if err := h.pull(t, theirs); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.forget(t, theirs) })
		p := newPlace(t, h)
		p.from(peer)
		d, _ := p.running(t, nil)
		run(d, digest)
		drivertest.Eventually(t, "the container to go", func() bool { return p.containers(t, true) == 0 })
		if gone, err := d.PruneImages(t.Context(), none); err != nil || len(gone) > 0 || !h.has(t, theirs) {
			t.Errorf("%v went, %v", gone, err)
		}
	})
}

// Starts and prunings at once: no start fails for want of its image.
func TestPruneWhileStarting(t *testing.T) {
	h := engine(t, "docker")
	peer, digest := meshImage(t, "raced")
	t.Cleanup(func() { h.forget(t, peer.name("shop/api@"+digest)) })
	p := newPlace(t, h)
	p.from(peer)
	d, _ := p.running(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int)
	go func() {
		n := 0
		for ctx.Err() == nil {
			gone, err := d.PruneImages(context.Background(), none)
			if n += len(gone); err != nil {
				t.Error(err)
			}
		}
		done <- n
	}()
	for range 8 {
		if _, err := d.Start(t.Context(), ofMesh("c/0", digest, "run")); err != nil {
			t.Error(err)
		}
		if err := d.Stop(t.Context(), "c/0", -1); err != nil {
			t.Error(err)
		}
	}
	cancel()
	t.Logf("it was pruned %d times", <-done)
}

// A list that can't be read stops neither work nor pruning; its images stay.
func TestPruneWithoutItsList(t *testing.T) {
	h := engine(t, "docker")
	peer, digest := meshImage(t, "unlisted")
	p := newPlace(t, h)
	p.from(peer)
	if err := os.WriteFile(filepath.Join(p.c.Dir, "images.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	d, _ := p.running(t, nil)
	if gone, err := d.PruneImages(t.Context(), none); err != nil || len(gone) > 0 {
		t.Errorf("%v went, %v", gone, err)
	}
	if _, err := d.Start(t.Context(), ofMesh("c/0", digest, "env")); err != nil {
		t.Fatal(err)
	}
	if err := d.Stop(t.Context(), "c/0", -1); err != nil {
		t.Fatal(err)
	}
	drivertest.Eventually(t, "the container to go", func() bool { return p.containers(t, true) == 0 })
	if gone, err := d.PruneImages(t.Context(), none); err != nil || !slices.Equal(gone, []string{digest}) {
		t.Errorf("%v went, %v", gone, err)
	}
}

// A start was given up while its image is pulled, and the pull goes on: what it brings
// is known as the mesh's when it is there.
func TestPruneWhilePulling(t *testing.T) {
	h := engine(t, "docker")
	peer, digest := meshImage(t, "coming")
	peer.hang = true
	p := newPlace(t, h)
	p.from(peer)
	d, _ := p.running(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := d.Start(ctx, ofMesh("c/0", digest, "run"))
		ended <- err
	}()
	drivertest.Eventually(t, "the pull to begin", func() bool {
		peer.mu.Lock()
		defer peer.mu.Unlock()
		return peer.asked > 0
	})
	cancel()
	if err := <-ended; err == nil {
		t.Fatal("it started without its image")
	}
	if gone, err := d.PruneImages(t.Context(), none); err != nil || len(gone) > 0 {
		t.Errorf("%v went, %v", gone, err)
	}
	list, err := os.ReadFile(filepath.Join(p.c.Dir, "images.json"))
	if err != nil || !strings.Contains(string(list), digest) {
		t.Errorf("what is being pulled is not on the list: %s, %v", list, err)
	}
}
