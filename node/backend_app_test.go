package node

import (
	"testing"

	"github.com/hansa-mesh/hansa/placement"
)

func TestSummaryOfASide(t *testing.T) {
	app := func(edit func(map[string]placement.Component)) placement.App {
		a := serverApp("shop", 3)
		if edit != nil {
			edit(a.Components)
		}
		return a
	}
	followed := app(nil)
	for want, side := range map[string]placement.App{
		"web ×3":         app(nil),
		"web ×5 (not 3)": serverApp("shop", 5),
		"web ×3 (runs another spec)": app(func(c map[string]placement.Component) {
			w := c["web"]
			w.Env = map[string]string{"A": "b"}
			c["web"] = w
		}),
		"api ×3 (only here), no web": app(func(c map[string]placement.Component) { c["api"] = c["web"]; delete(c, "web") }),
	} {
		if got := summary(side, followed); got != want {
			t.Errorf("%q, not %q", got, want)
		}
	}
}
