package fleet

import (
	"context"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/testbed/load"
)

// door leads to whatever life of the peer is up.
type door struct{ p *Peer }

// through asks the peer, if it is up.
func through[T any](d door, ask func(load.Door) (T, error)) (T, error) {
	n := d.p.Node()
	if n == nil {
		var none T
		return none, errDown
	}
	return ask(load.Through(n.Backend()))
}

func (d door) PutApp(ctx context.Context, app placement.App, o api.PutOptions) (api.PutResult, error) {
	return through(d, func(l load.Door) (api.PutResult, error) { return l.PutApp(ctx, app, o) })
}

func (d door) DeleteApp(ctx context.Context, key placement.AppKey, ifMatch string) (api.DeleteResult, error) {
	return through(d, func(l load.Door) (api.DeleteResult, error) { return l.DeleteApp(ctx, key, ifMatch) })
}

func (d door) App(ctx context.Context, key placement.AppKey) (api.AppDetail, error) {
	return through(d, func(l load.Door) (api.AppDetail, error) { return l.App(ctx, key) })
}

func (d door) Apps(ctx context.Context, q api.AppQuery) (api.List[api.App], error) {
	return through(d, func(l load.Door) (api.List[api.App], error) { return l.Apps(ctx, q) })
}

func (d door) Mesh(ctx context.Context) (api.Mesh, error) {
	return through(d, func(l load.Door) (api.Mesh, error) { return l.Mesh(ctx) })
}
