package node

import (
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// This file is the volumes of this peer's machine: the core decides, package
// volume has the folders.

// volumeFolders makes the folders of an allocation's volumes.
func (n *Node) volumeFolders(id placement.AllocationID, spec placement.WorkSpec) (map[string]string, error) {
	return n.volumes.Folder(placement.VolumeID{UID: spec.UID, Component: spec.Component, Slot: id.Slot}, spec.Key, spec.Spec.Volumes, time.Now())
}

// findVolumes tells the core what lies on the disk, which the store need not
// know: it may have been lost.
func (n *Node) findVolumes() {
	found, err := n.volumes.Found()
	if err != nil {
		n.log.Warn("some volumes can't be read; they are left alone", "err", err)
	}
	if len(found) > 0 {
		n.loop.post(placement.VolumesFound{Volumes: found})
	}
}

// dropVolume deletes data. The core asks again until it is told that it is gone.
func (n *Node) dropVolume(id placement.VolumeID) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dropping[id] {
		return
	}
	n.dropping[id] = true
	n.work.Go(func() {
		err := n.volumes.Drop(id)
		n.mu.Lock()
		delete(n.dropping, id)
		n.mu.Unlock()
		if err != nil {
			n.log.Warn("a volume was not deleted; it will be tried again", "volume", id.String(), "err", err)
			return
		}
		n.loop.post(placement.VolumeGone{ID: id})
	})
}
