package docker_test

import "testing"

func TestConformanceOnPodman(t *testing.T) { conform(t, "podman") }
