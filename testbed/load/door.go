package load

import (
	"context"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// Door is one peer as people reach it. *api.Client is one.
type Door interface {
	PutApp(ctx context.Context, app placement.App, o api.PutOptions) (api.PutResult, error)
	DeleteApp(ctx context.Context, key placement.AppKey, ifMatch string) (api.DeleteResult, error)
	App(ctx context.Context, key placement.AppKey) (api.AppDetail, error)
	Apps(ctx context.Context, q api.AppQuery) (api.List[api.App], error)
	Mesh(ctx context.Context) (api.Mesh, error)
}

var _ Door = (*api.Client)(nil)

// Through is the door of a peer in this process, without HTTP.
func Through(b api.Backend) Door { return backendDoor{b} }

type backendDoor struct{ b api.Backend }

func (d backendDoor) PutApp(ctx context.Context, app placement.App, o api.PutOptions) (api.PutResult, error) {
	return d.b.PutApp(ctx, api.PutRequest{
		App: app, IfMatch: o.IfMatch, IfNoneMatch: o.IfNoneMatch, IdempotencyKey: o.IdempotencyKey, MinCopies: o.MinCopies,
	})
}

func (d backendDoor) DeleteApp(ctx context.Context, key placement.AppKey, ifMatch string) (api.DeleteResult, error) {
	return d.b.DeleteApp(ctx, api.DeleteRequest{Key: key, IfMatch: ifMatch})
}

func (d backendDoor) App(ctx context.Context, key placement.AppKey) (api.AppDetail, error) {
	return d.b.GetApp(ctx, key)
}

func (d backendDoor) Apps(ctx context.Context, q api.AppQuery) (api.List[api.App], error) {
	l, err := d.b.ListApps(ctx, q)
	return api.List[api.App]{Items: l.Items, AsOf: l.AsOf}, err
}

func (d backendDoor) Mesh(ctx context.Context) (api.Mesh, error) { return d.b.Mesh(ctx) }
