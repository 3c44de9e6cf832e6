package placement

import (
	"fmt"
	"testing"
)

// However many edits without a key follow, as of a program that deploys all the time, one
// that a person gave a key to is known when it is sent again; and so are the last of the
// others, which may be sent on to another driver.
func TestEditsWithoutKeysLeaveRoomForOthers(t *testing.T) {
	v := version{intent: Intent{UID: "u", Version: Version{Millis: 1, Peer: "a"}, Request: "key"}}
	last := ""
	for n := range 3 * pastMax {
		last = reqName(requestID{"a", 1, uint64(n)})
		v = version{intent: Intent{UID: "u", Version: Version{Millis: int64(n) + 2, Peer: "a"}, Past: pasts([]version{v}), Request: last}}
		if len(v.intent.Past) > pastMax {
			t.Fatalf("%d edits are remembered", len(v.intent.Past))
		}
	}
	if at, ok := v.intent.made("key"); !ok || at.Millis != 1 {
		t.Errorf("the edit with a key is known: %t, as version %v", ok, at)
	}
	if _, ok := v.intent.made(last); !ok {
		t.Error("the last one is not known")
	}
	after := Intent{UID: "u", Past: v.intent.past()}
	for n := 3*pastMax - pastOwnMax; n < 3*pastMax; n++ {
		if _, ok := after.made(reqName(requestID{"a", 1, uint64(n)})); !ok {
			t.Errorf("one of the last without a key is not known: %d", n)
		}
	}
	// Of those with keys the newest are known.
	for n := range pastMax + 1 {
		v = version{intent: Intent{UID: "u", Version: Version{Millis: int64(n) + 100, Peer: "a"}, Past: pasts([]version{v}), Request: fmt.Sprint("k", n)}}
	}
	if _, ok := v.intent.made("key"); ok || len(v.intent.Past) != pastMax {
		t.Errorf("%d are known", len(v.intent.Past))
	}
}
