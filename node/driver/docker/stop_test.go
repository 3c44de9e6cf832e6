package docker_test

import (
	"encoding/json"
	"testing"

	"github.com/moby/moby/client"

	"github.com/hansa-mesh/hansa/node/driver/drivertest"
)

// The container of an earlier start may not be removed yet when its task is
// stopped: it does not come back as the task.
func TestStopTakesEarlierStartsAlong(t *testing.T) {
	p := newPlace(t, engine(t, "docker"))
	d, _ := p.running(t, nil)
	task := program("c/0", "lines", "1")
	for range 2 {
		if _, err := d.Start(t.Context(), task); err != nil {
			t.Fatal(err)
		}
		drivertest.Eventually(t, "its end", func() bool {
			all, err := d.List(t.Context())
			return err == nil && len(all) == 1 && all[0].State.Ended()
		})
	}
	drivertest.Eventually(t, "the first start's container to go", func() bool { return p.containers(t, true) == 1 })
	cli := p.h.client(t)
	defer cli.Close()
	seen, err := cli.ContainerInspect(t.Context(), p.container(t, task.ID), client.ContainerInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	first := *seen.Container.Config
	var record map[string]any
	if err := json.Unmarshal([]byte(first.Labels["hansa.record"]), &record); err != nil {
		t.Fatal(err)
	}
	record["starts"] = 1
	label, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	first.Labels["hansa.record"] = string(label)
	made, err := cli.ContainerCreate(t.Context(), client.ContainerCreateOptions{Config: &first, HostConfig: seen.Container.HostConfig})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cli.ContainerStart(t.Context(), made.ID, client.ContainerStartOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := d.Stop(t.Context(), task.ID, -1); err != nil {
		t.Fatal(err)
	}
	if all, err := d.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("after Stop it is listed as %+v, %v", all, err)
	}
}
