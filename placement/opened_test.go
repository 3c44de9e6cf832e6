package placement

import (
	"errors"
	"strings"
	"testing"
)

// TestOpened: what was read once is read no more, and still is whose it says it
// is: another name under the same bytes is refused, and so is a writer who may
// speak no longer.
func TestOpened(t *testing.T) {
	barred := false
	c := newCatalog(func(Signed) error {
		if barred {
			return errors.New("not admitted")
		}
		return nil
	})
	i := Intent{UID: "u", Version: Version{Millis: 1, Peer: "a"}, App: App{Name: "shop", Components: map[string]Component{
		"api": {Server: &Server{Process: &Process{Command: []string{"api"}}}},
	}}}
	i.Key = i.App.Key()
	s := Signed{Body: Encode(i), By: "a"}
	for range 2 {
		if v, err := c.readIntent(s); err != nil || v.intent.Version != i.Version {
			t.Fatalf("read %v, %v", v.intent, err)
		}
	}
	if len(c.opened.intents) != 1 {
		t.Errorf("%d intents are remembered", len(c.opened.intents))
	}
	if _, err := c.readIntent(Signed{Body: s.Body, By: "b"}); err == nil {
		t.Error("an intent is its writer's only")
	}
	barred = true
	if _, err := c.readIntent(s); err == nil {
		t.Error("a writer that may speak no longer was heard")
	}
	barred = false
	for n := range 2 * openedBytesMax / intentBytesMax {
		c.opened.add(Signed{Body: []byte(strings.Repeat(string(rune('a'+n)), intentBytesMax)), By: "a"}, i)
		if c.opened.bytes > openedBytesMax {
			t.Fatalf("%d bytes are remembered", c.opened.bytes)
		}
	}
}
