package cli

import (
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

func TestAbout(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0", 64)
	for want, e := range map[string]api.Event{
		"-":                  {},
		"shop/api[0-2]":      {Namespace: "default", App: "shop", Component: "api", Slots: "0-2"},
		"shop/api:1.4":       {Namespace: placement.NamespaceImages, App: "shop/api:1.4"},
		"shop/api@" + digest: {Namespace: placement.NamespaceImages, App: "shop/api:" + digest},
	} {
		if got := about(e); got != want {
			t.Errorf("%+v is about %q, not %q", e, got, want)
		}
	}
}
