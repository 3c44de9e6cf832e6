package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/hansa-mesh/hansa/placement"
)

// PutOptions are for PutApp and PutManifest; the zero value asks for nothing
// special.
type PutOptions struct {
	IfMatch        string // an ETag without quotes, or "*"
	IfNoneMatch    bool
	IdempotencyKey string
	MinCopies      int
}

// PutApp deploys an app.
func (c *Client) PutApp(ctx context.Context, app placement.App, o PutOptions) (PutResult, error) {
	data, err := json.Marshal(app)
	if err != nil {
		return PutResult{}, fmt.Errorf("put app %s: %w", app.Key(), err)
	}
	return c.PutManifest(ctx, app.Key(), data, o)
}

// PutManifest deploys an app from its manifest as JSON, unknown fields and all.
func (c *Client) PutManifest(ctx context.Context, key placement.AppKey, manifest []byte, o PutOptions) (PutResult, error) {
	header := http.Header{"Content-Type": {"application/json"}}
	conditions(header, o.IfMatch, o.IdempotencyKey)
	if o.IfNoneMatch {
		header.Set("If-None-Match", "*")
	}
	query := url.Values{}
	var out PutResult
	rq := call{method: http.MethodPut, path: appURL(key), query: query, header: header, body: bytes.NewReader(manifest), length: int64(len(manifest))}
	minCopies(&rq, o.MinCopies)
	_, _, err := c.json(ctx, rq, &out)
	return out, err
}

// App is an app as it is wanted.
func (c *Client) App(ctx context.Context, key placement.AppKey) (AppDetail, error) {
	return getJSON[AppDetail](ctx, c, appURL(key), nil)
}

// DeleteApp removes an app; an ifMatch of "" is any version.
func (c *Client) DeleteApp(ctx context.Context, key placement.AppKey, ifMatch string) (DeleteResult, error) {
	return c.RemoveApp(ctx, DeleteRequest{Key: key, IfMatch: ifMatch})
}

// RemoveApp is DeleteApp with all that can be asked for.
func (c *Client) RemoveApp(ctx context.Context, req DeleteRequest) (DeleteResult, error) {
	var out DeleteResult
	rq := call{method: http.MethodDelete, path: appURL(req.Key), header: http.Header{}, query: url.Values{}}
	conditions(rq.header, req.IfMatch, req.IdempotencyKey)
	minCopies(&rq, req.MinCopies)
	_, _, err := c.json(ctx, rq, &out)
	return out, err
}

func minCopies(rq *call, n int) {
	if n <= 0 {
		return
	}
	if rq.query == nil {
		rq.query = url.Values{}
	}
	rq.query.Set("min_copies", strconv.Itoa(n))
}

// conditions sets the headers that make an edit conditional, and its retries
// one edit.
func conditions(h http.Header, ifMatch, idempotencyKey string) {
	if ifMatch == "*" {
		h.Set("If-Match", "*")
	} else if ifMatch != "" {
		h.Set("If-Match", quoteETag(ifMatch))
	}
	if idempotencyKey != "" {
		h.Set("Idempotency-Key", idempotencyKey)
	}
}

// Resolve decides a conflict. Of req the path and the headers are those of a
// Resolution, the body is its Take or its App.
func (c *Client) Resolve(ctx context.Context, req Resolution) (ResolveResult, error) {
	rq := jsonCall(http.MethodPost, pathOf("v1", "conflicts", req.ID, "resolve"), ResolveRequest{Take: req.Take, App: req.App})
	conditions(rq.header, req.IfMatch, req.IdempotencyKey)
	var out ResolveResult
	_, _, err := c.json(ctx, rq, &out)
	return out, err
}

// Plan says what a deploy would do.
func (c *Client) Plan(ctx context.Context, app placement.App) (Plan, error) {
	var out Plan
	_, _, err := c.json(ctx, jsonCall(http.MethodPost, "/v1/plan", app), &out)
	return out, err
}

// Status is what is wanted of an app, and what is.
func (c *Client) Status(ctx context.Context, key placement.AppKey) (Status, error) {
	return getJSON[Status](ctx, c, appURL(key, "status"), nil)
}

// Explain are the last decisions about an app, newest first.
func (c *Client) Explain(ctx context.Context, key placement.AppKey, component string) (List[Decision], error) {
	return getJSON[List[Decision]](ctx, c, appURL(key, "explain"), values("component", component))
}

// scaleTries bounds how often Scale starts anew after another edit was first.
const scaleTries = 5

// Scale sets the replicas of a component. It edits only that: a concurrent
// edit of something else is kept, and so are fields that this build does not
// know.
func (c *Client) Scale(ctx context.Context, key placement.AppKey, component string, replicas int) (PutResult, error) {
	var last error
	for range scaleTries {
		var detail struct {
			ETag string         `json:"etag"`
			Spec map[string]any `json:"spec"`
		}
		raw, err := getJSON[json.RawMessage](ctx, c, appURL(key), nil)
		if err != nil {
			return PutResult{}, err
		}
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber() // a float64 would round what it passes on
		if err := dec.Decode(&detail); err != nil {
			return PutResult{}, fmt.Errorf("scale %s: read the app: %w", key, err)
		}
		components, _ := detail.Spec["components"].(map[string]any)
		spec, ok := components[component].(map[string]any)
		if !ok {
			return PutResult{}, unknownComponent(key, component, components)
		}
		spec["replicas"] = replicas
		data, err := json.Marshal(detail.Spec)
		if err != nil {
			return PutResult{}, fmt.Errorf("scale %s: %w", key, err)
		}
		result, err := c.PutManifest(ctx, key, data, PutOptions{IfMatch: detail.ETag})
		if err == nil || !IsKind(err, KindConflict) {
			return result, err
		}
		last = err
	}
	return PutResult{}, fmt.Errorf("scale %s/%s: other edits were first %d times: %w", key, component, scaleTries, last)
}

// IsKind says whether err is a *Problem of that kind.
func IsKind(err error, kind Kind) bool {
	var p *Problem
	return errors.As(err, &p) && p.Kind == kind
}

// HasArtifact says whether the peer holds an artifact.
func (c *Client) HasArtifact(ctx context.Context, digest string) (bool, error) {
	_, _, err := c.json(ctx, call{method: http.MethodHead, path: pathOf("v1", "artifacts", digest)}, nil)
	if IsKind(err, KindNotFound) {
		return false, nil
	}
	return err == nil, err
}

// PutArtifact uploads an artifact; size is -1 when it is not known. It takes as
// long as it takes: bound it by ctx.
func (c *Client) PutArtifact(ctx context.Context, digest string, size int64, r io.Reader) (ArtifactResult, error) {
	resp, err := c.do(ctx, call{method: http.MethodPut, path: pathOf("v1", "artifacts", digest), body: r, length: size,
		header: http.Header{"Content-Type": {"application/octet-stream"}}})
	if err != nil {
		return ArtifactResult{}, err
	}
	defer resp.Body.Close()
	var out ArtifactResult
	if err := json.NewDecoder(io.LimitReader(resp.Body, problemBytesMax)).Decode(&out); err != nil {
		return out, fmt.Errorf("put artifact %s: read the answer: %w", digest, err)
	}
	return out, nil
}

// Invoke calls a function. The answer is the function's own, whatever its
// status; the caller closes its body. path begins with "/" or is empty, and may
// carry a query.
func (c *Client) Invoke(ctx context.Context, key placement.AppKey, component, method, path string, header http.Header, body io.Reader) (*http.Response, error) {
	target := c.base.String() + pathOf("v1", "functions", key.Namespace, key.App, component) + path
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("invoke %s/%s: %w", key, component, err)
	}
	for name, values := range header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	req.Header.Set("User-Agent", c.agent)
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%w at %s: %w", ErrNoAnswer, c.base, err)
	}
	return resp, nil
}

func unknownComponent(key placement.AppKey, component string, have map[string]any) error {
	names := slices.Sorted(maps.Keys(have))
	return &Problem{Kind: KindNotFound, Status: http.StatusNotFound, Title: http.StatusText(http.StatusNotFound),
		Detail: fmt.Sprintf("%s has no component %q: it has %s", key, component, strings.Join(names, ", "))}
}
