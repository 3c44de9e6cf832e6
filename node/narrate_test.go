package node

import (
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/placement"
)

func TestKeyName(t *testing.T) {
	digest := "sha256:" + strings.Repeat("0", 64)
	for key, want := range map[placement.AppKey]string{
		{Namespace: "prod", App: "shop"}:                      "prod/shop",
		placement.ImageKey("shop/api", "1.4"):                 "image shop/api:1.4",
		placement.ImageKey("shop/api", digest):                "image shop/api@" + digest,
		{Namespace: placement.NamespacePolicies, App: "prod"}: "the policy of namespace prod",
	} {
		if got := keyName(key); got != want {
			t.Errorf("%v is called %q, not %q", key, got, want)
		}
	}
}
