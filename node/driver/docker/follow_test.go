package docker

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/logs"
)

// What an engine hands out again is copied once, and what it had dropped under the
// reader before does not come after what is younger.
func TestRecall(t *testing.T) {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	record := func(ms int, text string) []byte {
		return fmt.Appendf(nil, "%s %s\n", begin.Add(time.Duration(ms)*time.Millisecond).Format(time.RFC3339Nano), text)
	}
	dir := t.TempDir()
	w, err := logs.Resume(dir, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	var p position
	var batch []byte
	batch = p.appendRecord(batch, stdout, record(0, "a"))
	batch = p.appendRecord(batch, stdout, record(10, "b")) // the engine changes files: c at 20 is lost
	batch = p.appendRecord(batch, stdout, record(30, "d"))
	batch = p.appendRecord(batch, stdout, record(40, "e"))
	batch = p.appendRecord(batch, stdout, record(40, "e")) // one of three of that time
	w.Lines(batch)

	p, err = recall(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	batch = nil
	for _, r := range []struct {
		stream, ms int
		text       string
	}{
		{stdout, 0, "a"}, {stdout, 10, "b"}, {stdout, 20, "c"}, {stdout, 30, "d"},
		{stderr, 35, "x"}, // stamped before what the other stream brought first
		{stdout, 40, "e"}, {stdout, 40, "e"}, {stdout, 40, "e"}, {stdout, 50, "f"},
	} {
		batch = p.appendRecord(batch, r.stream, record(r.ms, r.text))
	}
	w.Lines(batch)
	w.Close()

	r, err := logs.Read(t.Context(), dir, driver.LogOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	all, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for line := range bytes.Lines(all) {
		l, err := driver.ParseLogLine(string(bytes.TrimSuffix(line, []byte("\n"))))
		if err != nil {
			t.Fatal(err)
		}
		got += l.Text
	}
	if got != "abdeexef" {
		t.Errorf("the copy reads %q, want %q", got, "abdeexef")
	}
}
