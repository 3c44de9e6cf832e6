package runner

import (
	"errors"
	"maps"
	"slices"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/placement"
)

// volumesOf has the folders made that an allocation finds again.
func (r *Runner) volumesOf(id placement.AllocationID, spec placement.WorkSpec) ([]driver.Volume, error) {
	wanted := spec.Spec.Volumes
	if len(wanted) == 0 {
		return nil, nil
	}
	if r.cfg.Volumes == nil {
		return nil, errors.New("this peer keeps no volumes")
	}
	paths, err := r.cfg.Volumes(id, spec)
	if err != nil {
		return nil, err
	}
	var out []driver.Volume
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		out = append(out, driver.Volume{Name: name, Path: wanted[name].Path, Source: paths[name], Size: int64(wanted[name].Size)})
	}
	return out, nil
}
