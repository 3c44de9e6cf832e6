package transport

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
)

func TestFrames(t *testing.T) {
	var b bytes.Buffer
	for _, seed := range []Seed{{ID: "one", Addr: "a:1"}, {ID: "two"}} {
		if err := WriteFrame(&b, seed); err != nil {
			t.Fatal(err)
		}
	}
	b.WriteString("what follows")
	for _, want := range []Seed{{ID: "one", Addr: "a:1"}, {ID: "two"}} {
		var got Seed
		if err := ReadFrame(&b, &got, 100); err != nil || got != want {
			t.Fatalf("read %+v, %v, want %+v", got, err, want)
		}
	}
	if b.String() != "what follows" {
		t.Errorf("reading took more than the frames: %q is left", b.String())
	}
}

func TestFramesThatAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		frame string
		want  Kind
	}{
		"over the limit": {"\x00\x00\x00\x65" + strings.Repeat("x", 101), KindTooLarge},
		"of 4 GiB":       {"\xff\xff\xff\xff", KindTooLarge},
		"no CBOR":        {"\x00\x00\x00\x01\xff", KindInvalid},
		"of another":     {"\x00\x00\x00\x01\x01", KindInvalid},
	} {
		var got Seed
		if err := ReadFrame(strings.NewReader(c.frame), &got, 100); KindOf(err) != c.want {
			t.Errorf("a frame %s: %v, want kind %s", name, err, c.want)
		}
	}
	var got Seed
	if err := ReadFrame(strings.NewReader("\x00\x00\x00\x05ab"), &got, 100); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a frame that is cut: %v", err)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01\xa0"))
	f.Add([]byte("\x00\x00\x00\x01\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var got, again joinAnswer
		if ReadFrame(bytes.NewReader(data), &got, 1000) != nil {
			return
		}
		var b bytes.Buffer
		if err := WriteFrame(&b, got); err != nil {
			t.Fatal(err)
		}
		if err := ReadFrame(&b, &again, 10000); err != nil || !reflect.DeepEqual(got, again) {
			t.Fatalf("%+v is read as %+v, %v", got, again, err)
		}
	})
}
