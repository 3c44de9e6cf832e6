package logs_test

import (
	"bufio"
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/logs"
)

// Who does not follow reads what there was, however fast the log goes on: else
// the log of what writes without end would have none either.
func TestReadEndsWithWhatThereWas(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, 1<<20)
	out := w.Stream("stdout")
	more := func(text string) {
		t.Helper()
		if _, err := out.Write([]byte(text + "\n")); err != nil {
			t.Fatal(err)
		}
	}
	more("first")
	r, err := logs.Read(t.Context(), dir, driver.LogOptions{}, func() bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	more("late")
	lines := 0
	for scan := bufio.NewScanner(r); scan.Scan(); lines++ {
		if !strings.HasSuffix(scan.Text(), "first") {
			t.Fatalf("read %q", scan.Text())
		}
		more("later")
	}
	if lines != 1 {
		t.Errorf("%d lines", lines)
	}

	// The same where it goes on into another file.
	r, err = logs.Read(t.Context(), dir, driver.LogOptions{}, func() bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for range 100 {
		more(strings.Repeat("x", 10_000))
	}
	for scan := bufio.NewScanner(r); scan.Scan(); lines++ {
		if lines > 10 {
			t.Fatalf("read %.40q", scan.Text())
		}
	}
}
