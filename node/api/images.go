package api

import (
	"context"
	"net/http"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// Image is a name in the mesh's registry, and where what it stands for is.
type Image struct {
	Name       string    `json:"name" doc:"repository:tag, or repository@digest"`
	Repository string    `json:"repository"`
	Reference  string    `json:"reference" doc:"A tag, or the digest of a manifest that has none"`
	Digest     string    `json:"digest" doc:"Of the manifest"`
	MediaType  string    `json:"media_type" doc:"Of the manifest"`
	Subject    string    `json:"subject,omitempty" doc:"Digest of the manifest that this one refers to"`
	Size       int64     `json:"size" doc:"Bytes of all that it is made of"`
	Created    time.Time `json:"created,omitzero" doc:"When the name was made"`
	Keepers    []PeerRef `json:"keepers" doc:"That hold all of it, or are to"`
	Holders    []Holder  `json:"holders" doc:"Peers that say that they hold all of it, or all that runs there; the nearest first"`
	Conflict   []string  `json:"conflict,omitempty" doc:"Digests that stand side by side under the name; the first is followed"`
	AsOf       time.Time `json:"as_of,omitzero"`
}

// Holder is a peer that holds an image.
type Holder struct {
	PeerRef
	State string `json:"state" doc:"Of the peer, as this one sees it"`
}

// ImageKey orders images by name.
func ImageKey(i Image) string { return i.Repository + "\x00" + i.Reference }

// ImageQuery selects images; an empty field is all.
type ImageQuery struct {
	Repository string
	Reference  string
	Page
}

// Matches says whether i passes the query's filters; it looks at no page.
func (q ImageQuery) Matches(i Image) bool {
	return (q.Repository == "" || q.Repository == i.Repository) && (q.Reference == "" || q.Reference == i.Reference)
}

// StageRequest is a person's wish to have an image somewhere ahead of its work.
type StageRequest struct {
	Image string `json:"image" minLength:"1" maxLength:"512" doc:"repository:tag, or repository@digest"`
	Where string `json:"where,omitempty" maxLength:"4096" doc:"Labels of the peers, as in a manifest's place.where; empty is every peer"`
}

// StageResult is how far a staging is.
type StageResult struct {
	Image  string      `json:"image"`
	Digest string      `json:"digest"`
	Done   bool        `json:"done" doc:"All peers have it"`
	Peers  []StagePeer `json:"peers"`
	AsOf   time.Time   `json:"as_of"`
}

// StagePeer is how far one peer is.
type StagePeer struct {
	PeerRef
	State  string `json:"state" enum:"here,fetching,failed,unreachable" doc:"failed: it is tried again when it is asked for again"`
	Bytes  int64  `json:"bytes" doc:"That are there"`
	Total  int64  `json:"total" doc:"Of what is known of it; it grows as manifests come"`
	Reason string `json:"reason,omitempty"`
}

// The states of a staging.
const (
	StageHere        = "here"
	StageFetching    = "fetching"
	StageFailed      = "failed"
	StageUnreachable = "unreachable"
)

// ImageBackend shows where images are, and sends them ahead.
type ImageBackend interface {
	// Images is sorted by ImageKey.
	Images(ctx context.Context, q ImageQuery) (Listing[Image], error)
	// Stage has peers fetch an image that do not hold it, and says how far they are.
	// It waits for none of it: whoever wants to see the end asks again.
	Stage(ctx context.Context, req StageRequest) (StageResult, error)
}

func (s *Server) imageRoutes() {
	type imagesInput struct {
		PageParams
		Repository string `query:"repository" maxLength:"255"`
		Reference  string `query:"reference" maxLength:"256" doc:"A tag, or a digest"`
	}
	get(s, "/v1/images", "list-images", "Names in the registry, and which peers hold what they stand for", func(ctx context.Context, in *imagesInput) (*listOutput[Image], error) {
		page, err := in.page()
		if err != nil {
			return nil, err
		}
		return answerList(s.backend.Images(ctx, ImageQuery{Repository: in.Repository, Reference: in.Reference, Page: page}))
	})
	type stageInput struct{ Body StageRequest }
	op := operation(http.MethodPost, "/v1/images/stage", "stage-image", "Have peers fetch an image ahead; asked again it says how far they are")
	register(s, op, func(ctx context.Context, in *stageInput) (*bodyOutput[StageResult], error) {
		if _, err := placement.ParseSelector(in.Body.Where); err != nil {
			return nil, &manifestError{FieldProblem: FieldProblem{Field: "where", Value: short(in.Body.Where), Message: err.Error(),
				Fix: "a label selector, for instance: tier=edge, region in (fra, nyc)"}}
		}
		return answer(s.backend.Stage(ctx, in.Body))
	})
}

// Images are names in the registry, of what q selects.
func (c *Client) Images(ctx context.Context, q ImageQuery) (List[Image], error) {
	return all[Image](ctx, c, "/v1/images", values("repository", q.Repository, "reference", q.Reference), q.Page)
}

// Stage has peers fetch an image ahead, and says how far they are.
func (c *Client) Stage(ctx context.Context, req StageRequest) (StageResult, error) {
	var out StageResult
	_, _, err := c.json(ctx, jsonCall(http.MethodPost, pathOf("v1", "images", "stage"), req), &out)
	return out, err
}
