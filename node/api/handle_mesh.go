package api

import (
	"context"
	"net/http"
	"reflect"

	"github.com/danielgtaylor/huma/v2"
)

// PageParams are the parameters of every list. (huma looks only into exported
// embedded structs.)
type PageParams struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"200" doc:"At most so many items"`
	Cursor string `query:"cursor" maxLength:"1024" doc:"Where to go on, from the last answer"`
}

func (in PageParams) page() (Page, error) {
	after, err := decodeCursor(in.Cursor)
	if err != nil {
		return Page{}, err
	}
	limit := in.Limit
	if limit == 0 {
		limit = pageLimitDefault
	}
	return Page{After: after, Limit: min(limit, pageLimitMax)}, nil
}

// none is the input of an operation without parameters.
type none struct{}

type bodyOutput[T any] struct{ Body T }

type listOutput[T any] struct{ Body List[T] }

func answerList[T any](l Listing[T], err error) (*listOutput[T], error) {
	if err != nil {
		return nil, err
	}
	return &listOutput[T]{Body: l.list()}, nil
}

// list is the listing as the API answers it: never null.
func (l Listing[T]) list() List[T] {
	out := List[T]{Items: l.Items, AsOf: l.AsOf, Cursor: encodeCursor(l.Next)}
	if out.Items == nil {
		out.Items = []T{}
	}
	for peer, at := range l.AsOf {
		l.AsOf[peer] = at.UTC()
	}
	return out
}

func answer[T any](v T, err error) (*bodyOutput[T], error) {
	if err != nil {
		return nil, err
	}
	return &bodyOutput[T]{Body: v}, nil
}

func (s *Server) meshRoutes() {
	get(s, "/v1/version", "get-version", "What build answers", func(context.Context, *none) (*bodyOutput[VersionInfo], error) {
		return answer(s.cfg.Version, nil)
	})
	get(s, "/v1/mesh", "get-mesh", "The mesh as this peer sees it: settled or not, who is unheard, counts",
		func(ctx context.Context, _ *none) (*bodyOutput[Mesh], error) { return answer(s.backend.Mesh(ctx)) })
	pages(s, "/v1/peers", "list-peers", "Peers: state, round trip, age of what is known, version", s.backend.Peers)
	pages(s, "/v1/sites", "list-sites", "Sites", s.backend.Sites)
	pages(s, "/v1/hosts", "list-hosts", "Hosts and what they can run", s.backend.Hosts)
}

// pages registers a list that takes nothing but a page.
func pages[T any](s *Server, path, id, summary string, list func(context.Context, Page) (Listing[T], error)) {
	get(s, path, id, summary, func(ctx context.Context, in *PageParams) (*listOutput[T], error) {
		page, err := in.page()
		if err != nil {
			return nil, err
		}
		return answerList(list(ctx, page))
	})
}

func (s *Server) trustRoutes() {
	type inviteInput struct{ Body InviteRequest }
	op := operation(http.MethodPost, "/v1/invites", "create-invite", "A token that lets one newcomer in, once")
	op.DefaultStatus = http.StatusCreated
	op.MaxBodyBytes = 16 << 10
	register(s, op, func(ctx context.Context, in *inviteInput) (*bodyOutput[Invite], error) {
		return answer(s.backend.Invite(ctx, in.Body))
	})
	type forgetInput struct {
		Peer         string `path:"id" minLength:"1" maxLength:"128" doc:"Id or name of the peer"`
		WithAdmitted bool   `query:"with_admitted" doc:"Those that it let in as well"`
		ForceEpoch   bool   `query:"force_epoch" doc:"And go on without it where the keepers of an app have lost their majority with it, over the head of whoever might still act under them. What the lost keepers alone had acknowledged is given up."`
	}
	type forgetOutput struct {
		Status int
		Body   *ForceResult
	}
	op = operation(http.MethodDelete, "/v1/peers/{id}", "forget-peer", "Revoke a peer for ever")
	op.Description = "204; with force_epoch 200 and what became of the apps that it kept."
	op.DefaultStatus = http.StatusNoContent
	op.Responses = map[string]*huma.Response{"200": {Description: "Keepers were forced", Content: map[string]*huma.MediaType{"application/json": {
		Schema: s.huma.OpenAPI().Components.Schemas.Schema(reflect.TypeFor[ForceResult](), true, ""),
	}}}}
	register(s, op, func(ctx context.Context, in *forgetInput) (*forgetOutput, error) {
		if err := s.backend.Forget(ctx, in.Peer, in.WithAdmitted); err != nil || !in.ForceEpoch {
			return &forgetOutput{Status: http.StatusNoContent}, err
		}
		forced, err := s.backend.ForceEpoch(ctx, in.Peer)
		return &forgetOutput{Status: http.StatusOK, Body: &forced}, err
	})
}

var _ huma.StatusError = (*Problem)(nil)
