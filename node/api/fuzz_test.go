package api

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/hansa-mesh/hansa/placement"
)

func FuzzCursor(f *testing.F) {
	for _, key := range []string{"", "a", "default/shop", "äö", strings.Repeat("x", cursorKeyMax)} {
		f.Add(key)
		f.Add(encodeCursor(key))
	}
	f.Add("eyJ2IjoyLCJrIjoiYSJ9")
	f.Fuzz(func(t *testing.T, text string) {
		// Whatever a client sends: a key, or a problem that names the cursor.
		if _, err := decodeCursor(text); err != nil && NewProblem(err).Status != 422 {
			t.Errorf("%q: %v", text, err)
		}
		if utf8.ValidString(text) && len(text) <= cursorKeyMax {
			if key, err := decodeCursor(encodeCursor(text)); len(encodeCursor(text)) <= cursorBytesMax && (err != nil || key != text) {
				t.Errorf("%q became %q: %v", text, key, err)
			}
		}
	})
}

func FuzzParams(f *testing.F) {
	for _, s := range []string{"", "*", `"a"`, `W/"a"`, `"`, `"a","b"`, "10m", "-1s", "2026-01-31T12:00:00Z", "sha256:", "Bearer x", "[::1]:7"} {
		f.Add(s)
	}
	now := time.Unix(1e9, 0)
	f.Fuzz(func(t *testing.T, s string) {
		if tag, _, err := preconditions(s, ""); err == nil && strings.ContainsAny(tag, "\", \t") {
			t.Errorf("If-Match %q became %q", s, tag)
		}
		if at, err := parseSince(s, now); err == nil && s != "" && at.IsZero() && !strings.HasPrefix(s, "0001-01-01") {
			t.Errorf("since %q is no time", s)
		}
		if d, err := parseDigest(s); err == nil && (len(d) != 71 || d != s) {
			t.Errorf("digest %q became %q", s, d)
		}
		_, _ = bearer(s)
		if host := hostOnly(s); isLoopback(host) && strings.Contains(strings.ToLower(s), "evil") {
			t.Errorf("host %q is taken for %q", s, host)
		}
		if l := ParseLogLine(s); l.Time.IsZero() && l.Text != s {
			t.Errorf("log line %q lost text: %+v", s, l)
		}
		if strings.ContainsAny(oneLine(s), "\r\n") {
			t.Errorf("%q breaks the framing of a stream", s)
		}
		if cut := short(s); len(cut) > shownValueMax+len("…") {
			t.Errorf("%q is not short", cut)
		}
		_ = Nearest(s, []string{"replicas", "resources"})
	})
}

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"app":"a","components":{"b":{"server":{"image":"x"}}}}`))
	f.Add([]byte("app: a\ncomponents:\n  b: {server: {image: x}}\n---\napp: c\n"))
	f.Add([]byte("a: &a [1]\nb: [*a, *a]\n<<: *a\n"))
	f.Add([]byte("? ? ? a\n"))
	f.Add([]byte("!!binary x: &x *x\n"))
	f.Add([]byte("- - - |\n  x\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		apps, err := ParseManifests(data)
		if err != nil {
			if !errors.Is(err, placement.ErrInvalid) {
				t.Fatalf("not the client's mistake: %v", err)
			}
			return
		}
		for _, app := range apps {
			if app.Validate() != nil {
				continue
			}
			text, err := json.Marshal(app)
			if err != nil {
				t.Fatal(err)
			}
			again, err := decodeApp(text)
			if err != nil {
				t.Fatalf("what was written can't be read: %v: %s", err, text)
			}
			if second, _ := json.Marshal(again); string(second) != string(text) {
				t.Fatalf("%s became %s", text, second)
			}
		}
	})
}
