package cli

import (
	"bytes"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// A pair of keys is made, an image is signed and checked; another key, another
// name and a wrong password do not do, and no password is ever shown.
func TestSignAndVerify(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	image := host + "/shop/api:1.4"
	push := func(to string) {
		t.Helper()
		img, err := random.Image(100, 1)
		if err != nil {
			t.Fatal(err)
		}
		ref, err := name.ParseReference(to)
		if err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(ref, img); err != nil {
			t.Fatal(err)
		}
	}
	push(image)
	dir := t.TempDir()
	key := func(name string) string { return filepath.Join(dir, name) }
	run := func(password string, args ...string) (code int, text string) {
		t.Helper()
		term := newTerminal(t)
		var out, err bytes.Buffer
		s := &session{io: Streams{In: strings.NewReader(""), Out: &out, Err: &err}, now: func() time.Time { return noon }, runners: term.runners, uid: 1000,
			getenv: func(name string) string {
				if name == passwordVar {
					return password
				}
				return term.env[name]
			}}
		code = s.main(t.Context(), args)
		text = out.String() + err.String()
		if password != "" && strings.Contains(text, password) {
			t.Errorf("%v shows the password: %s", args, text)
		}
		return code, text
	}
	for _, step := range []struct {
		password string
		args     []string
		code     int
		want     string
	}{
		{"", []string{"keys", "generate", key("ours")}, 2, "COSIGN_PASSWORD"},
		{"canary one", []string{"keys", "generate", key("ours")}, 0, "ours.pub"},
		{"canary one", []string{"keys", "generate", key("ours")}, 1, "there already"},
		{"canary two", []string{"keys", "generate", key("theirs")}, 0, "theirs.pub"},
		{"", []string{"verify", image, "--key", key("ours.pub")}, 1, "no signature"},
		{"canary two", []string{"sign", image, "--key", key("ours.key")}, 1, "the password does not open it"},
		{"canary one", []string{"sign", image, "--key", key("ours.pub")}, 1, "a public key"},
		{"canary one", []string{"sign", image}, 2, "--key"},
		{"canary one", []string{"sign", image, "--key", key("ours.key")}, 0, "signed " + image},
		{"canary one", []string{"sign", image, "--key", key("ours.key")}, 0, "already"},
		{"", []string{"verify", image, "--key", key("ours.pub")}, 0, "is signed by"},
		{"", []string{"verify", image, "--key", key("theirs.pub")}, 1, "not signed by any of the keys"},
		{"canary two", []string{"sign", image, "--key", key("theirs.key")}, 0, "signed"},
		{"", []string{"verify", image, "--key", key("theirs.pub")}, 0, "is signed by"},
		{"", []string{"verify", image, "--key", key("ours.pub")}, 0, "is signed by"},
		{"", []string{"verify", host + "/shop/none:1", "--key", key("ours.pub")}, 1, "not found"},
		{"", []string{"verify", image, "--key", key("ours.key")}, 1, "a public key is wanted"},
	} {
		if code, text := run(step.password, step.args...); code != step.code || !strings.Contains(text, step.want) {
			t.Errorf("%v: exit code %d, want %d: %s, want %q", step.args, code, step.code, text, step.want)
		}
	}
	if info, err := os.Stat(key("ours.key")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the private key: %v %v", info, err)
	}
	push(image) // the tag moves: what it is now nobody signed
	if code, text := run("", "verify", image, "--key", key("ours.pub")); code != 1 || !strings.Contains(text, "no signature") {
		t.Errorf("after the tag moved: %d %s", code, text)
	}
}

func TestPolicyVerb(t *testing.T) {
	dir := t.TempDir()
	term := newTerminal(t)
	run := func(args ...string) (int, string) {
		var out, err bytes.Buffer
		s := &session{io: Streams{In: strings.NewReader(""), Out: &out, Err: &err}, now: func() time.Time { return noon }, runners: term.runners, uid: 1000,
			getenv: func(name string) string {
				if name == passwordVar {
					return "canary"
				}
				return term.env[name]
			}}
		return s.main(t.Context(), args), out.String() + err.String()
	}
	pub := filepath.Join(dir, "k.pub")
	for _, step := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"keys", "generate", filepath.Join(dir, "k")}, 0, "k.pub"},
		{[]string{"namespace", "policy", "prod"}, 0, "demands no signatures"},
		{[]string{"namespace", "policy", "prod", "--require-signature", filepath.Join(dir, "k.key")}, 1, "a public key is wanted"},
		{[]string{"namespace", "policy", "prod", "--require-signature", pub, "--none"}, 2, "give one of them"},
		{[]string{"namespace", "policy", "prod", "--images", "shop/*"}, 2, "--require-signature"},
		{[]string{"namespace", "policy", "prod", "--require-signature", pub}, 0, "everything"},
		{[]string{"namespace", "policy", "prod", "--require-signature", pub, "--images", "shop/*"}, 0, "images of shop/*"},
		{[]string{"namespace", "policy", "prod"}, 0, "everything"},
		{[]string{"namespace", "policy", "other"}, 0, "demands no signatures"},
		{[]string{"namespace", "policy", "prod", "--none", "--images", "shop/*"}, 0, "everything"},
		{[]string{"namespace", "policy", "prod", "--none"}, 0, "demands no signatures"},
	} {
		if code, text := run(step.args...); code != step.code || !strings.Contains(text, step.want) {
			t.Errorf("%v: exit code %d, want %d: %s, want %q", step.args, code, step.code, text, step.want)
		}
	}
}
