package apitest

import (
	"context"
	"fmt"
	"slices"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// volumes is what the slots of apps with volumes keep, each where it runs; b.mu
// is held.
func (b *Backend) volumes() []api.Volume {
	var all []api.Volume
	for key, a := range b.apps {
		for name, c := range a.spec.Components {
			sizes := map[string]placement.Bytes{}
			for volume, v := range c.Volumes {
				sizes[volume] = v.Size
			}
			for i, r := range refs {
				for _, slot := range places(c, i) {
					if len(sizes) == 0 {
						continue
					}
					id := placement.VolumeID{UID: placement.UID(a.uid), Component: name, Slot: placement.Slot(slot)}
					all = append(all, api.Volume{ID: id.String(), Namespace: key.Namespace, App: key.App, Component: name, Slot: slot,
						Peer: r.ID, PeerName: r.Name, Site: r.Site, State: api.VolumeUsed, Sizes: sizes, Created: a.updated, AsOf: b.now()})
				}
			}
		}
	}
	return all
}

// Volumes is what slots keep.
func (b *Backend) Volumes(_ context.Context, q api.VolumeQuery) (api.Listing[api.Volume], error) {
	b.mu.Lock()
	all := b.volumes()
	b.mu.Unlock()
	all = slices.DeleteFunc(all, func(v api.Volume) bool { return !q.Matches(v) })
	return api.NewListing(all, api.VolumeKey, q.Page, b.asOf()), nil
}

// DeleteVolume refuses: whatever there is is used.
func (b *Backend) DeleteVolume(_ context.Context, id placement.VolumeID) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if slices.ContainsFunc(b.volumes(), func(v api.Volume) bool { return v.ID == id.String() }) {
		return fmt.Errorf("volume %s: %w: its slot is granted here; scale the component down or remove the app first", id, placement.ErrConflict)
	}
	return fmt.Errorf("volume %s: %w at this peer: 'hansa volumes' shows where it is; ask that peer", id, placement.ErrNotFound)
}
