package pack

import (
	"strings"

	digests "github.com/opencontainers/go-digest"

	"github.com/hansa-mesh/hansa/placement"
)

// Check says what is wrong with an app that is to be packed, as placement will
// when it is deployed. What it names is not looked at.
func Check(app placement.App) error {
	any := digests.Digest("sha256:" + strings.Repeat("0", 64))
	app = clone(app)
	for name, c := range app.Components {
		for _, field := range Fields(&c) {
			switch {
			case field.Value == "":
			case field.Kind == KindFile:
				field.Set(string(any))
			default:
				field.Set(Ref{Repository: "package"}.Pin(any).String())
			}
		}
		app.Components[name] = c
	}
	return app.Validate()
}
