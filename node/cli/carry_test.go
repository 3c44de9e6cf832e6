package cli

import (
	"path/filepath"
	"testing"
)

// A package that was signed at one mesh is signed at another one that it was carried
// to, whether it was signed in the registry, as it was written, or as it was pushed;
// and not by a key that did not.
func TestSignaturesAreCarried(t *testing.T) {
	here, there := newTerminal(t), newTerminal(t)
	dir := t.TempDir()
	key := func(name string) string { return filepath.Join(dir, name) }
	manifest, file := shopFolder(t, "module"), filepath.Join(dir, "shop.tar")
	for _, term := range []*terminal{here, there} {
		term.env[passwordVar] = "canary"
	}
	for _, name := range []string{"first", "second", "third"} {
		here.ok(t, "keys", "generate", key(name))
	}
	here.ok(t, "pack", manifest, "-t", "shop:1.4")
	here.ok(t, "sign", "shop:1.4", "--key", key("first.key"))
	here.ok(t, "pull", "shop:1.4", "--output", file)
	there.ok(t, "push", file, "--sign", key("second.key"))
	there.ok(t, "verify", "shop:1.4", "--key", key("first.pub"))
	there.ok(t, "verify", "shop:1.4", "--key", key("second.pub"))
	there.fails(t, 1, "not signed by any of the keys", "verify", "shop:1.4", "--key", key("third.pub"))
	there.ok(t, "push", file) // the second signature stays
	there.ok(t, "verify", "shop:1.4", "--key", key("second.pub"))

	written := filepath.Join(dir, "written.tar")
	here.ok(t, "pack", shopFolder(t, "another"), "-t", "shop:1.5", "--output", written, "--sign", key("third.key"))
	there.ok(t, "push", written)
	there.ok(t, "verify", "shop:1.5", "--key", key("third.pub"))
	there.ok(t, "push", written, "-t", "elsewhere:1.5") // it was signed as shop
	there.fails(t, 1, "signed as", "verify", "elsewhere:1.5", "--key", key("third.pub"))
}
