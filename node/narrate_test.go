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

// Ids in texts of the core are looked up, so that what a text costs does not depend on
// how many peers there are; what only looks like one stays.
func TestNamed(t *testing.T) {
	fra, ber, gone := strings.Repeat("a", 26), strings.Repeat("b2", 13), strings.Repeat("c", 26)
	asked := 0
	nameOf := func(id string) string {
		asked++
		if name := map[string]string{fra: "fra-1", ber: "ber-1"}[id]; name != "" {
			return name
		}
		return id
	}
	for text, want := range map[string]string{
		"":                               "",
		"no space left":                  "no space left",
		fra:                              "fra-1",
		"from " + fra + " to " + ber:     "from fra-1 to ber-1",
		"[" + fra + " " + gone + "], x":  "[fra-1 " + gone + "], x",
		"version 1z.0." + ber:            "version 1z.0.ber-1",
		fra + "-1-2-" + ber + "-1.0":     "fra-1-1-2-ber-1-1.0",
		"a" + fra + ", " + fra[:24]:      "a" + fra + ", " + fra[:24],
		strings.ToUpper(fra) + "ä" + fra: strings.ToUpper(fra) + "äfra-1",
	} {
		if got := named(text, nameOf); got != want {
			t.Errorf("%q is %q, not %q", text, got, want)
		}
	}
	if asked != 9 {
		t.Errorf("%d ids were looked up, and there are 9", asked)
	}
}
