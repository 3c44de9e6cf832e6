package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// Volume is what one slot keeps at one host.
type Volume struct {
	ID        string                     `json:"id" doc:"uid/component/slot: with the peer it names the volume"`
	Namespace string                     `json:"namespace"`
	App       string                     `json:"app"`
	Component string                     `json:"component"`
	Slot      int                        `json:"slot"`
	Peer      string                     `json:"peer"`
	PeerName  string                     `json:"peer_name,omitempty"`
	Site      string                     `json:"site,omitempty"`
	State     string                     `json:"state" enum:"used,kept,behind,parked,deleting" doc:"used: its slot is granted here; kept: for its slot, which is not; behind: its slot runs elsewhere; parked: its app was removed"`
	Sizes     map[string]placement.Bytes `json:"sizes" doc:"By name: what is reserved"`
	Bytes     *int64                     `json:"bytes,omitempty" doc:"What its files take, where that was counted in time"`
	Created   time.Time                  `json:"created,omitzero"`
	Left      string                     `json:"left,omitempty" doc:"Of a parked one: until it is deleted, while its daemon runs"`
	AsOf      time.Time                  `json:"as_of,omitzero"`
}

// The states of a volume.
const (
	VolumeUsed     = "used"
	VolumeKept     = "kept"
	VolumeBehind   = "behind"
	VolumeParked   = "parked"
	VolumeDeleting = "deleting"
)

// VolumeKey orders volumes by app, component, slot and peer.
func VolumeKey(v Volume) string {
	return fmt.Sprintf("%s/%s/%s/%010d/%s/%s", v.Namespace, v.App, v.Component, v.Slot, v.ID, v.Peer)
}

// VolumeQuery selects volumes; an empty field is all.
type VolumeQuery struct {
	Namespace, App string
	Peer           string // id or name
	Page
}

// Matches says whether v passes the query's filters; it looks at no page.
func (q VolumeQuery) Matches(v Volume) bool {
	same := func(want, have string) bool { return want == "" || want == have }
	return same(q.Namespace, v.Namespace) && same(q.App, v.App) && (q.Peer == "" || q.Peer == v.Peer || q.Peer == v.PeerName)
}

// VolumeBackend shows and deletes what slots keep.
type VolumeBackend interface {
	// Volumes is sorted by VolumeKey.
	Volumes(ctx context.Context, q VolumeQuery) (Listing[Volume], error)
	// DeleteVolume deletes a volume of this peer's own host. ErrNotFound when it has
	// none of that id, ErrConflict when its slot is granted there.
	DeleteVolume(ctx context.Context, id placement.VolumeID) error
}

func (s *Server) volumeRoutes() {
	type volumesInput struct {
		PageParams
		Namespace string `query:"namespace" maxLength:"63"`
		App       string `query:"app" maxLength:"63"`
		Peer      string `query:"peer" maxLength:"128" doc:"Id or name"`
	}
	get(s, "/v1/volumes", "list-volumes", "What slots keep, and where", func(ctx context.Context, in *volumesInput) (*listOutput[Volume], error) {
		page, err := in.page()
		if err != nil {
			return nil, err
		}
		return answerList(s.backend.Volumes(ctx, VolumeQuery{Namespace: in.Namespace, App: in.App, Peer: in.Peer, Page: page}))
	})
	type deleteInput struct {
		UID       string `path:"uid" minLength:"1" maxLength:"64"`
		Component string `path:"component" minLength:"1" maxLength:"63"`
		Slot      int    `path:"slot" minimum:"0"`
	}
	op := operation(http.MethodDelete, "/v1/volumes/{uid}/{component}/{slot}", "delete-volume", "Delete what a slot keeps at this peer's host, for good")
	op.DefaultStatus = http.StatusAccepted
	register(s, op, func(ctx context.Context, in *deleteInput) (*struct{}, error) {
		id, err := placement.ParseVolumeID(in.UID + "/" + in.Component + "/" + strconv.Itoa(in.Slot))
		if err != nil {
			return nil, err
		}
		return nil, s.backend.DeleteVolume(ctx, id)
	})
}

// Volumes is what slots keep, of what q selects.
func (c *Client) Volumes(ctx context.Context, q VolumeQuery) (List[Volume], error) {
	return all[Volume](ctx, c, "/v1/volumes", values("namespace", q.Namespace, "app", q.App, "peer", q.Peer), q.Page)
}

// DeleteVolume deletes what a slot keeps at the host of the peer that is asked.
func (c *Client) DeleteVolume(ctx context.Context, id placement.VolumeID) error {
	path := pathOf("v1", "volumes", string(id.UID), id.Component, strconv.FormatUint(uint64(id.Slot), 10))
	_, _, err := c.json(ctx, call{method: http.MethodDelete, path: path}, nil)
	return err
}
