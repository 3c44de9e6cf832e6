package node

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport"
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

// countMax is how long the files of all volumes are counted for one answer.
const countMax = time.Second

type volumesQuery struct{}

type volumesAnswer struct {
	Volumes []placement.VolumeView `json:"volumes"`
	Bytes   map[string]int64       `json:"bytes,omitempty"` // by id: what files take, of those that were counted in time
}

func (n *Node) serveVolumes() {
	transport.HandleTyped(n.link, methodVolumes, func(ctx context.Context, _ string, _ volumesQuery) (volumesAnswer, error) {
		return n.ownVolumes(ctx)
	})
}

// ownVolumes is what slots keep at this peer.
func (n *Node) ownVolumes(ctx context.Context) (volumesAnswer, error) {
	a := volumesAnswer{Bytes: map[string]int64{}}
	if err := n.loop.look(ctx, func(core *placement.Peer) { a.Volumes = core.Volumes() }); err != nil {
		return a, err
	}
	ctx, cancel := context.WithTimeout(ctx, countMax)
	defer cancel()
	for _, v := range a.Volumes {
		if used, err := n.volumes.Used(ctx, v.ID); err == nil {
			a.Bytes[v.ID.String()] = used
		}
	}
	return a, nil
}

// Volumes is what slots keep at all peers that answer.
func (n backend) Volumes(ctx context.Context, q api.VolumeQuery) (api.Listing[api.Volume], error) {
	own, err := n.ownVolumes(ctx)
	if err != nil {
		return api.Listing[api.Volume]{}, err
	}
	now := time.Now().UTC()
	answers := append(ask[volumesQuery, volumesAnswer](ctx, n.Node, n.others(), methodVolumes, volumesQuery{}),
		reply[volumesAnswer]{peer: n.id.ID(), answer: own})
	asOf := map[string]time.Time{}
	var rows []api.Volume
	for _, a := range answers {
		if a.err != nil {
			continue
		}
		asOf[a.peer] = now
		for _, v := range a.answer.Volumes {
			rows = append(rows, n.volumeRow(a.peer, v, a.answer.Bytes, now))
		}
	}
	rows = slices.DeleteFunc(rows, func(v api.Volume) bool { return !q.Matches(v) })
	return api.NewListing(rows, api.VolumeKey, q.Page, asOf), nil
}

func (n *Node) volumeRow(peer string, v placement.VolumeView, bytes map[string]int64, at time.Time) api.Volume {
	row := api.Volume{
		ID: v.ID.String(), Namespace: v.Key.Namespace, App: v.Key.App, Component: v.ID.Component, Slot: int(v.ID.Slot),
		Peer: peer, PeerName: n.nameOf(peer), Sizes: v.Sizes, Created: time.UnixMilli(v.Created).UTC(), AsOf: at,
	}
	if m, ok := n.memberOf(peer); ok {
		row.Site = m.Site
	}
	if used, counted := bytes[row.ID]; counted {
		row.Bytes = &used
	}
	switch {
	case v.Dropped:
		row.State = api.VolumeDeleting
	case v.Parked > 0:
		row.State, row.Left = api.VolumeParked, v.Left.Round(time.Minute).String()
	case v.InUse:
		row.State = api.VolumeUsed
	case v.Behind:
		row.State = api.VolumeBehind
	default:
		row.State = api.VolumeKept
	}
	return row
}

// DeleteVolume deletes a volume of this machine. Only who asks this peer itself
// can: no other peer has a word in it.
func (n backend) DeleteVolume(ctx context.Context, id placement.VolumeID) error {
	found, used := false, false
	if err := n.loop.look(ctx, func(core *placement.Peer) {
		found = slices.ContainsFunc(core.Volumes(), func(v placement.VolumeView) bool { return v.ID == id })
		used = core.VolumeInUse(id)
	}); err != nil {
		return err
	}
	switch {
	case !found:
		return fmt.Errorf("volume %s: %w at this peer: 'hansa volumes' shows where it is; ask that peer", id, placement.ErrNotFound)
	case used:
		return fmt.Errorf("volume %s: %w: its slot is granted here; scale the component down or remove the app first", id, placement.ErrConflict)
	}
	n.loop.post(placement.DeleteVolume{ID: id})
	return nil
}
