package docker_test

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/docker"
	"github.com/hansa-mesh/hansa/node/driver/drivertest"
)

// TestImagesOfTheMesh come from the peer alone, by digest, and are found again
// when the peer has another port.
func TestImagesOfTheMesh(t *testing.T) {
	for _, kind := range []string{"docker", "podman"} {
		t.Run(kind, func(t *testing.T) {
			h := engine(t, kind)
			peer := newRegistry(t)
			peer.user, peer.password = "hansa", "of-this-start"
			peer.push(t, "1", "mesh")
			sum := sha256.Sum256(peer.manifests["1"])
			digest := "sha256:" + hex.EncodeToString(sum[:])
			asks := func(r *registry) int {
				r.mu.Lock()
				defer r.mu.Unlock()
				return r.asked
			}
			p := newPlace(t, h)
			from := peer
			p.c.Registry = func() docker.Registry {
				return docker.Registry{Addr: strings.TrimPrefix(from.URL, "http://"), User: from.user, Password: from.password}
			}
			d, _ := p.running(t, nil)
			task := func(id string) driver.Task {
				job := program(id, "env")
				job.Container.Image = "nowhere.invalid/shop/api:1@" + digest
				job.Container.Digest = digest
				return job
			}
			run := func(id string) {
				t.Helper()
				if _, err := d.Start(t.Context(), task(id)); err != nil {
					t.Fatal(err)
				}
				ended(t, d, id)
				if text := drivertest.LogText(t, d, id); !strings.Contains(text, "IMAGE=mesh") {
					t.Errorf("%s ran in\n%s", id, text)
				}
			}
			run("c/0")
			t.Cleanup(func() { h.forget(t, peer.name("shop/api@"+digest)) })
			if asks(peer) == 0 {
				t.Fatal("the image did not come from the peer")
			}
			from = newRegistry(t) // the peer comes back at another port
			run("c/1")
			if n := asks(from); n != 0 {
				t.Errorf("the image was there, and the peer was asked for it %d times", n)
			}
			if _, err := d.Start(t.Context(), func() driver.Task {
				job := task("c/2")
				job.Container.Digest = "sha256:" + strings.Repeat("0", 64)
				job.Container.Image = "nowhere.invalid/shop/api@" + job.Container.Digest
				return job
			}()); err == nil || !strings.Contains(err.Error(), "from this peer") || strings.Contains(err.Error(), peer.password) {
				t.Errorf("an image that the peer has not: %v", err)
			}
		})
	}
}
