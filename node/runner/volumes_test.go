package runner

import (
	"errors"
	"testing"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/placement"
)

// A task gets the folders of its slot, and is not built without them.
func TestVolumesOfATask(t *testing.T) {
	spec := placement.WorkSpec{Component: "db", Spec: placement.Component{
		Server:  &placement.Server{Process: &placement.Process{Command: []string{"db"}}},
		Volumes: map[string]placement.Volume{"log": {Path: "/log", Size: 1}, "data": {Path: "/data", Size: 2}},
	}}
	r := New(Config{Volumes: func(id placement.AllocationID, _ placement.WorkSpec) (map[string]string, error) {
		return map[string]string{"data": "/host/data", "log": "/host/log"}, nil
	}})
	built, err := r.build(anID, &task{}, spec)
	want := []driver.Volume{{Name: "data", Path: "/data", Source: "/host/data", Size: 2}, {Name: "log", Path: "/log", Source: "/host/log", Size: 1}}
	if err != nil || len(built.Volumes) != 2 || built.Volumes[0] != want[0] || built.Volumes[1] != want[1] {
		t.Fatalf("%+v, %v", built.Volumes, err)
	}
	broken := errors.New("the disk is full")
	r.cfg.Volumes = func(placement.AllocationID, placement.WorkSpec) (map[string]string, error) { return nil, broken }
	if _, err := r.build(anID, &task{}, spec); !errors.Is(err, broken) {
		t.Errorf("built without its volumes: %v", err)
	}
	r.cfg.Volumes = nil
	if _, err := r.build(anID, &task{}, spec); err == nil {
		t.Error("built without its volumes")
	}
}
