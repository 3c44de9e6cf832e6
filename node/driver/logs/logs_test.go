package logs_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/logs"
)

func open(t *testing.T, dir string, sizeMax int64) *logs.Writer {
	t.Helper()
	w, err := logs.Open(dir, sizeMax)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	return w
}

func read(t *testing.T, dir string, o driver.LogOptions) []driver.LogLine {
	t.Helper()
	r, err := logs.Read(t.Context(), dir, o, func() bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var lines []driver.LogLine
	scan := bufio.NewScanner(r)
	for scan.Scan() {
		l, err := driver.ParseLogLine(scan.Text())
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	if scan.Err() != nil {
		t.Fatal(scan.Err())
	}
	return lines
}

func TestLinesAndPieces(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, 1<<20)
	out, errs := w.Stream("stdout"), w.Stream("stderr")
	long := strings.Repeat("x", 40_000)
	fmt.Fprint(out, "one\ntw")
	fmt.Fprint(errs, "oops\r\n\n")
	fmt.Fprint(out, "o\n"+long+"\nlast")
	out.Close()
	errs.Close()
	var got []string
	whole := ""
	for _, l := range read(t, dir, driver.LogOptions{}) {
		whole += l.Text
		if !l.Partial {
			got = append(got, l.Stream+":"+whole)
			whole = ""
		}
	}
	want := "stdout:one stderr:oops stderr: stdout:two stdout:" + long + " stdout:last"
	if s := strings.Join(got, " "); s != want {
		t.Errorf("lines %.200q, want %.200q", s, want)
	}
}

func TestBoundHolds(t *testing.T) {
	dir := t.TempDir()
	const bound = 256 << 10
	w := open(t, dir, bound)
	s := w.Stream("stdout")
	const n = 50_000
	for i := range n {
		fmt.Fprintf(s, "line %d\n", i)
	}
	var size int64
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		size += st.Size()
	}
	if size > bound {
		t.Errorf("the log takes %d bytes, over %d", size, bound)
	}
	lines := read(t, dir, driver.LogOptions{})
	for i, l := range lines {
		if want := fmt.Sprint("line ", n-len(lines)+i); l.Text != want {
			t.Fatalf("line %d of %d is %q, want %q", i, len(lines), l.Text, want)
		}
	}
	for _, tail := range []int{1, 10, 3000, len(lines), len(lines) + 10} {
		if got := read(t, dir, driver.LogOptions{Tail: tail}); len(got) != min(tail, len(lines)) || got[len(got)-1].Text != fmt.Sprint("line ", n-1) {
			t.Errorf("tail %d gave %d lines", tail, len(got))
		}
	}
}

// A flood of empty lines takes fifty times its bytes in times and names, and
// the bound holds all the same.
func TestBoundHoldsForShortLines(t *testing.T) {
	dir := t.TempDir()
	const bound = 64 << 10
	w := open(t, dir, bound)
	s := w.Stream("stdout")
	for range 4 {
		fmt.Fprint(s, strings.Repeat("\n", 64<<10)) // as much as a pipe holds
	}
	fmt.Fprintln(s, "last")
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	var size int64
	for _, f := range files {
		st, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		size += st.Size()
	}
	if size > bound || size < bound/2 {
		t.Errorf("the log takes %d bytes, of %d", size, bound)
	}
	if lines := read(t, dir, driver.LogOptions{}); lines[len(lines)-1].Text != "last" {
		t.Errorf("the last line is %+v", lines[len(lines)-1])
	}
}

// A note that is longer than a line comes in pieces, and what follows it is
// still read.
func TestLongNote(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, 1<<20)
	long := strings.Repeat("n", 60_000)
	w.Note("%s", long)
	w.Note("%s", "two\nlines")
	fmt.Fprintln(w.Stream("stdout"), "after")
	got := ""
	for _, l := range read(t, dir, driver.LogOptions{}) {
		if got += l.Text; !l.Partial {
			got += "|"
		}
	}
	if got != long+"|two|lines|after|" {
		t.Errorf("%d bytes, the end is %q", len(got), got[max(0, len(got)-30):])
	}
}

// A follower sees every line exactly once though the log rotates under it.
func TestFollowAcrossRotation(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, 0)
	var done atomic.Bool
	r, err := logs.Read(t.Context(), dir, driver.LogOptions{Follow: true}, done.Load)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := w.Stream("stdout")
	scan := bufio.NewScanner(r)
	const n = 5000
	for i := range n {
		fmt.Fprintf(s, "line %d\n", i)
		if i%100 == 99 { // the reader keeps pace
			for j := i - 99; j <= i; j++ {
				if !scan.Scan() || !strings.HasSuffix(scan.Text(), fmt.Sprint(" line ", j)) {
					t.Fatalf("line %d reads %q, %v", j, scan.Text(), scan.Err())
				}
			}
		}
	}
	done.Store(true)
	if scan.Scan() || scan.Err() != nil {
		t.Errorf("after the end: %q, %v", scan.Text(), scan.Err())
	}
}

// A follower that is overtaken is told so, and goes on.
func TestOvertaken(t *testing.T) {
	dir := t.TempDir()
	w := open(t, dir, 0)
	s := w.Stream("stdout")
	fmt.Fprintln(s, "first")
	r, err := logs.Read(t.Context(), dir, driver.LogOptions{Follow: true}, func() bool { return true })
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	buf := bufio.NewReader(r)
	if l, err := buf.ReadString('\n'); err != nil || !strings.HasSuffix(l, "first\n") {
		t.Fatalf("%q %v", l, err)
	}
	for i := range 10_000 {
		fmt.Fprintf(s, "line %d\n", i)
	}
	rest, err := io.ReadAll(buf)
	if err != nil || strings.Count(string(rest), "lines are missing here") != 1 || !strings.HasSuffix(string(rest), "line 9999\n") {
		t.Errorf("%d bytes, %v", len(rest), err)
	}
}

// A torn last line of an earlier life disturbs nothing.
func TestTornLine(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "00000001.log"), []byte("2026-01-02T15:04:05.000000000Z stdout F whole\n2026-01-02T15:04"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := open(t, dir, 1<<20)
	fmt.Fprintln(w.Stream("stdout"), "next")
	got := read(t, dir, driver.LogOptions{})
	if len(got) != 2 || got[0].Text != "whole" || got[1].Text != "next" {
		t.Errorf("%+v", got)
	}
	if late := read(t, dir, driver.LogOptions{Since: time.Date(2026, 1, 3, 0, 0, 0, 0, time.UTC)}); len(late) != 1 {
		t.Errorf("since gave %+v", late)
	}
}

func BenchmarkStream(b *testing.B) {
	w, err := logs.Open(b.TempDir(), 16<<20)
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	s := w.Stream("stdout")
	chunk := []byte(strings.Repeat(strings.Repeat("x", 127)+"\n", 256))
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		_, _ = s.Write(chunk)
	}
}
