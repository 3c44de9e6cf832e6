package docker

import (
	"errors"
	"testing"

	cerrdefs "github.com/containerd/errdefs"

	"github.com/hansa-mesh/hansa/node/driver"
)

// Only a registry's own word makes an image one that does not exist: one that is not
// reached, that refuses, or this peer, which may have it soon, is asked again.
func TestNotFoundIsTheRegistrysWord(t *testing.T) {
	for text, want := range map[string]bool{
		"Error response from daemon: manifest for r.example/shop:2 not found: manifest unknown": true,
		"failed to resolve reference \"r.example/shop:2\": r.example/shop:2: not found":         true,
		"dial tcp: lookup r.example: host not found":                                            false,
		"Get https://r.example/v2/: dial tcp 192.0.2.1:443: connect: connection refused":        false,
		"pull access denied for shop, repository does not exist":                                false,
		"500 Internal Server Error":                                                             false,
		// What is not found is the engine's own.
		"content digest sha256:0123: not found":                                             false,
		"failed to extract layer: snapshot sha256:0123 does not exist: not found":           false,
		"blob sha256:0123 expected at /var/lib/containerd/io.containerd.content: not found": false,
		"no such image: r.example/shop:2: image not found":                                  false,
	} {
		err := refused(cerrdefs.ErrNotFound.WithMessage(text), "")
		if got := errors.Is(err, driver.ErrNotFound); got != want {
			t.Errorf("%q is final: %t", text, got)
		}
		if errors.Is(notYet(err), driver.ErrNotFound) {
			t.Errorf("%q of this peer is final", text)
		}
	}
}

// TestVanished: an engine that can't read a process that is gone is no engine that
// refuses to start one.
func TestVanished(t *testing.T) {
	for text, want := range map[string]bool{
		"read /proc/9860/cgroup: no such process":           true,
		"exec: \"run\": executable file not found in $PATH": false,
		"no such process": false,
		"mount /proc/self/fd/7: operation not permitted":            false,
		"open /proc/12/cgroup: no such process: container exited 3": true,
	} {
		if got := vanished(errors.New(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
}
