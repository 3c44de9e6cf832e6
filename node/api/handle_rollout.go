package api

import (
	"context"
	"net/http"

	"github.com/hansa-mesh/hansa/placement"
)

// rolloutRoutes are the past of an app, and the way back to it.
func (s *Server) rolloutRoutes() {
	type historyInput struct{ KeyParams }
	get(s, appPath+"/history", "get-app-history", "The last revisions of an app, newest first",
		func(ctx context.Context, in *historyInput) (*listOutput[Revision], error) {
			key, err := in.key()
			if err != nil {
				return nil, err
			}
			return answerList(s.backend.History(ctx, key))
		})
	type rollbackInput struct {
		KeyParams
		IfMatch        string `header:"If-Match" maxLength:"512" doc:"Only over the version with this ETag"`
		IdempotencyKey string `header:"Idempotency-Key" maxLength:"128" doc:"Makes retries one edit"`
		MinCopies      int    `query:"min_copies" minimum:"0" maximum:"9" doc:"Refuse when fewer keepers than that can hold it"`
		Body           RollbackBody
	}
	op := operation(http.MethodPost, appPath+"/rollback", "rollback-app", "Deploy an earlier revision of an app anew")
	op.Description = "A new revision, whose app is the earlier one. 412 when another edit was first; 202 when fewer than a majority of its keepers hold it yet."
	op.Errors = []int{400, 404, 412, 422, 429, 503, 507}
	register(s, op, func(ctx context.Context, in *rollbackInput) (*putOutput, error) {
		ifMatch, _, err := preconditions(in.IfMatch, "")
		if err != nil {
			return nil, err
		}
		key, err := in.key()
		if err != nil {
			return nil, err
		}
		result, err := s.backend.Rollback(ctx, Rollback{Key: key, Revision: in.Body.Revision, IfMatch: ifMatch, IdempotencyKey: in.IdempotencyKey, MinCopies: in.MinCopies})
		if err != nil {
			return nil, err
		}
		return &putOutput{Status: putStatus(result), ETag: quoteETag(result.ETag), Body: result}, nil
	})
}

// History are the last revisions of an app, newest first.
func (c *Client) History(ctx context.Context, key placement.AppKey) (List[Revision], error) {
	return getJSON[List[Revision]](ctx, c, appURL(key, "history"), nil)
}

// Rollback deploys an earlier revision of an app anew.
func (c *Client) Rollback(ctx context.Context, req Rollback) (PutResult, error) {
	rq := jsonCall(http.MethodPost, appURL(req.Key, "rollback"), RollbackBody{Revision: req.Revision})
	conditions(rq.header, req.IfMatch, req.IdempotencyKey)
	minCopies(&rq, req.MinCopies)
	var out PutResult
	_, _, err := c.json(ctx, rq, &out)
	return out, err
}
