package logs_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/logs"
)

// TestResume is a daemon that restarts often: nothing of a small log is pushed
// out by that, and a line that was torn glues itself to no other.
func TestResume(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	var want strings.Builder
	for life := range 10 {
		w, err := logs.Resume(dir, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		line := driver.LogLine{Time: at, Stream: "stdout", Text: fmt.Sprint("life ", life)}.Append(nil)
		want.Write(line)
		w.Lines(line)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(filepath.Join(dir, "00000001.log"), os.O_WRONLY|os.O_APPEND, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("2026-01-02T03:04:05Z stdout F torn"); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	w, err := logs.Resume(dir, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r, err := logs.Read(context.Background(), dir, driver.LogOptions{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil || string(got) != want.String() {
		t.Errorf("the log is\n%s%v, want\n%s", got, err, want.String())
	}
}
