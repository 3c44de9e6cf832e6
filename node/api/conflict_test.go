package api_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/api/apitest"
	"github.com/hansa-mesh/hansa/placement"
)

const shopManifest = `{"app": "shop", "components": {"x": {"server": {"process": {"command": ["run"]}}, "replicas": 2}}}`

func TestResolve(t *testing.T) {
	b := serve(t, nil)
	b.backend.Torn = map[string]bool{"shop": true}
	key := placement.AppKey{Namespace: "default", App: "shop"}
	for _, replicas := range []string{"2", "3"} {
		body := strings.Replace(shopManifest, `"replicas": 2`, `"replicas": `+replicas, 1)
		if _, err := b.client.PutManifest(t.Context(), key, []byte(body), api.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	l, err := b.client.Conflicts(t.Context(), api.Page{})
	if err != nil || len(l.Items) != 1 {
		t.Fatal(l, err)
	}
	c := l.Items[0]
	path := "/v1/conflicts/" + c.ID + "/resolve"
	take := `{"take": "` + c.Sides[1].Revision + `"}`
	for _, w := range []struct {
		what, path, body, header string
		status                   int
		kind                     api.Kind
		says                     string
	}{
		{"nothing", path, `{}`, "", 422, api.KindInvalid, "one of take and app"},
		{"both", path, `{"take": "x", "app": ` + shopManifest + `}`, "", 422, api.KindInvalid, "one of take and app"},
		{"another field", path, `{"tkae": "x"}`, "", 400, api.KindMalformed, "tkae"},
		{"two decisions", path, take + take, "", 400, api.KindMalformed, "more after"},
		{"no JSON", path, `take: x`, "", 400, api.KindMalformed, "what decides a conflict"},
		{"a wrong manifest", path, `{"app": {"app": "shop", "componets": {}}}`, "", 422, api.KindInvalid, `componets`},
		{"a side that is none", path, `{"take": "x"}`, "", 422, api.KindInvalid, "no side"},
		{"another ETag", path, take, `If-Match="fedcba"`, 412, api.KindConflict, "others now"},
		{"a weird ETag", path, take, `If-Match=a b`, 422, api.KindInvalid, "If-Match"},
		{"no such conflict", "/v1/conflicts/default.shop.000000000000/resolve", take, "", 404, api.KindNotFound, ""},
	} {
		header, value, _ := strings.Cut(w.header, "=")
		headers := []string{"Content-Type", "application/json"}
		if header != "" {
			headers = append(headers, header, value)
		}
		t.Run(w.what, func(t *testing.T) {
			resp, body := b.do(t, http.MethodPost, w.path, w.body, headers...)
			problem(t, resp, body, w.status, w.kind, w.says)
		})
	}
	r, err := b.client.Resolve(t.Context(), api.Resolution{ID: c.ID, Take: c.Sides[1].Revision, IfMatch: c.ETag, IdempotencyKey: "k"})
	if err != nil || r.Removed || r.Revision == "" {
		t.Errorf("%+v %v", r, err)
	}
	if d, err := b.client.App(t.Context(), key); err != nil || d.Spec.Components["x"].Wanted() != 2 || d.Conflict {
		t.Errorf("%+v %v", d, err)
	}
}

func TestRemoveMinCopies(t *testing.T) {
	b := serve(t, nil)
	key := placement.AppKey{Namespace: "default", App: "shop"}
	if _, err := b.client.PutManifest(t.Context(), key, []byte(shopManifest), api.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	b.backend.Short = true
	if _, err := b.client.RemoveApp(t.Context(), api.DeleteRequest{Key: key, MinCopies: 2}); !api.IsKind(err, api.KindTooFew) {
		t.Errorf("below min_copies: %v", err)
	}
	if _, err := b.client.RemoveApp(t.Context(), api.DeleteRequest{Key: key, IfMatch: "another"}); !api.IsKind(err, api.KindConflict) {
		t.Errorf("another ETag: %v", err)
	}
	if _, err := b.client.RemoveApp(t.Context(), api.DeleteRequest{Key: key, MinCopies: 1, IfMatch: "*"}); err != nil {
		t.Error(err)
	}
}

func TestForgetForced(t *testing.T) {
	b := serve(t, nil)
	if resp, _ := b.do(t, http.MethodDelete, "/v1/peers/nyc-1", ""); resp.StatusCode != http.StatusNoContent {
		t.Errorf("without force: %s", resp.Status)
	}
	r, err := b.client.ForgetForced(t.Context(), "syd-1", false)
	if err != nil || r.Peer.ID != "syd-1" || len(r.Refused) != 1 || r.Refused[0].Reason == "" || r.Refused[0].App != "kept" {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := b.client.ForgetForced(t.Context(), "nobody", true); !api.IsKind(err, api.KindNotFound) {
		t.Errorf("a peer that is none: %v", err)
	}
}

// brokenBackup fails before the first byte, or after it.
type brokenBackup struct {
	*apitest.Backend
	after bool
}

func (b brokenBackup) Backup(_ context.Context, w io.Writer) error {
	if b.after {
		if _, err := w.Write(make([]byte, 100_000)); err != nil {
			return err
		}
	}
	return errors.Join(placement.ErrFull, errors.New("the disk failed"))
}

// A backup that fails is a problem, or a stream that ends with an error: never
// one that looks whole.
func TestBackupStream(t *testing.T) {
	b := serve(t, nil)
	var out bytes.Buffer
	if n, err := b.client.Backup(t.Context(), &out); err != nil || n != int64(out.Len()) || !strings.HasPrefix(out.String(), "hansa backup") {
		t.Errorf("%d bytes, %v: %q", n, err, out.String())
	}
	for _, after := range []bool{false, true} {
		b := serve(t, func(c *api.Config) { c.Backend = brokenBackup{apitest.New(), after} })
		_, err := b.client.Backup(t.Context(), io.Discard)
		if err == nil || !after && !api.IsKind(err, api.KindFull) {
			t.Errorf("after the first byte %t: %v", after, err)
		}
	}
	b = serve(t, func(c *api.Config) { c.Token = "a-token-of-sixteen" })
	if resp, _ := b.do(t, http.MethodGet, "/v1/backup", "", "Authorization", "Bearer wrong-token-wrong"); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without the token: %s", resp.Status)
	}
}
