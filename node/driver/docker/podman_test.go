package docker_test

import "testing"

func TestConformanceOnPodman(t *testing.T) {
	if testing.Short() {
		t.Skip("Podman takes a second for each answer: not with -short")
	}
	conform(t, "podman")
}
