package docker_test

import "testing"

func TestConformanceOnPodman(t *testing.T) {
	if testing.Short() {
		t.Skip("Podman takes a second for each answer: not with -short")
	}
	conform(t, "podman", map[string]string{
		"ManyStartsAndStopsLeakNothing": "they take Podman minutes, and what could leak is the same with Docker",
		"MemoryHogIsReportedAsOOM":      "Podman's monitor does not see it where cgroups v1 hold the limits: the program is killed, and reported as that",
	})
}
