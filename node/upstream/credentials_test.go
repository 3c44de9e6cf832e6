package upstream_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/node/upstream"
)

// Credentials are found for the registry that is asked, and for no other; what is
// wrong with a secret is told without any of it.
func TestParseCredentials(t *testing.T) {
	const canary = "canary"
	auth := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	config := `{"auths": {
		"registry.example": {"auth": "` + auth("anna:first") + `"},
		"registry.example:5000": {"username": "bert", "password": "p:w"},
		"https://index.docker.io/v1/": {"auth": "` + auth("carl:third") + `"},
		"helped.example": {},
		"token.example": {"auth": "", "identitytoken": "` + canary + `"},
		"broken.example": {"auth": "` + canary + `!"}
	}, "credsStore": "desktop"}`
	for name, c := range map[string]struct {
		secret, host string
		want         upstream.Credentials
		ok           bool
		fails        string
	}{
		"plain":               {"anna:p:w\r\n", "any.example", upstream.Credentials{User: "anna", Password: "p:w"}, true, ""},
		"no user":             {":" + canary, "any.example", upstream.Credentials{}, false, "neither user:password"},
		"no password":         {canary, "any.example", upstream.Credentials{}, false, "neither user:password"},
		"nothing":             {"\n", "any.example", upstream.Credentials{}, false, "neither user:password"},
		"by host":             {config, "registry.example", upstream.Credentials{User: "anna", Password: "first"}, true, ""},
		"by host, in capital": {config, "Registry.Example", upstream.Credentials{User: "anna", Password: "first"}, true, ""},
		"by port":             {config, "registry.example:5000", upstream.Credentials{User: "bert", Password: "p:w"}, true, ""},
		"another port":        {config, "registry.example:5001", upstream.Credentials{}, false, ""},
		"Docker Hub":          {config, "docker.io", upstream.Credentials{User: "carl", Password: "third"}, true, ""},
		"a longer name":       {config, "registry.example.evil.example", upstream.Credentials{}, false, ""},
		"with a helper":       {config, "helped.example", upstream.Credentials{}, false, "helped.example"},
		"with a token":        {config, "token.example", upstream.Credentials{}, false, "token.example"},
		"broken":              {config, "broken.example", upstream.Credentials{}, false, "no config.json"},
		"broken JSON":         {`{"auths": ` + canary, "registry.example", upstream.Credentials{}, false, "no config.json"},
		"no entries":          {`{}`, "registry.example", upstream.Credentials{}, false, ""},
	} {
		got, ok, err := upstream.ParseCredentials([]byte(c.secret), c.host)
		if got != c.want || ok != c.ok || (err != nil) != (c.fails != "") {
			t.Errorf("%s: %+v, %v, %v", name, got, ok, err)
		}
		if err != nil && (strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), c.fails)) {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
	for name, secret := range map[string]string{"plain": "anna:" + canary, "quoted": `"anna:` + canary + `"`, "nothing": "", "a number": "1"} {
		if got, ok, err := upstream.ParseConfig([]byte(secret), "registry.example"); err == nil || ok || got != (upstream.Credentials{}) || strings.Contains(err.Error(), canary) {
			t.Errorf("as a config.json, %s: %+v, %v, %v", name, got, ok, err)
		}
	}
}
