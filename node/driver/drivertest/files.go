package drivertest

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/node/driver"
)

// secretText is looked for on the driver's disk, where it must not be.
const secretText = "the-word-that-is-on-no-disk"

// volumeSource is a folder of the host that a task may have as a volume.
func volumeSource(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for _, p := range []string{filepath.Dir(dir), dir} { // as the node's are
		if err := os.Chmod(p, 0o711); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// findOnDisk is the file below dir that holds the text, or "".
func findOnDisk(t *testing.T, dir, text string) (found string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil // gone meanwhile
		}
		if b, err := os.ReadFile(path); err == nil && bytes.Contains(b, []byte(text)) {
			found = path
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

var fileTests = []test{
	{"Files", func(t *testing.T, m Machine) {
		d := start(t, m)
		files := []driver.File{
			{Path: m.path("shop.yaml"), Content: []byte("a: 1\nb: \"ü\"\n"), Mode: 0o640},
			{Path: m.path("deep/er/empty"), Mode: 0o444},
			{Path: m.path("deep/bytes"), Content: []byte{0, 1, 255, '\n'}, Mode: 0o600},
		}
		verb := []string{"read"}
		want := ""
		for _, f := range files {
			verb = append(verb, f.Path)
			want += fmt.Sprintf("%04o %s %q\n", f.Mode, f.Path, f.Content)
		}
		task := m.Program(t, "c/0", verb...)
		task.Files = files
		d.mustStart(task)
		s := d.waitEnd("c/0")
		if got := texts(d.lines("c/0", driver.LogOptions{})); s.ExitCode != 0 || got != want {
			t.Errorf("it ended as %+v, and read\n%swant\n%s", s, got, want)
		}
		d.mustStop("c/0", 0)
		if _, err := os.Stat(files[0].Path); err == nil {
			t.Errorf("a task's file %s is the machine's too", files[0].Path)
		}
	}},
	{"FilesAreTheTasksOwn", func(t *testing.T, m Machine) {
		d := start(t, m)
		for _, id := range []string{"c/0", "c/1"} {
			task := m.Program(t, id, "read", m.path("name"))
			task.Files = []driver.File{{Path: m.path("name"), Content: []byte(id), Mode: 0o644}}
			d.mustStart(task)
		}
		for _, id := range []string{"c/0", "c/1"} {
			d.waitEnd(id)
			if got := texts(d.lines(id, driver.LogOptions{})); !strings.Contains(got, fmt.Sprintf("%q", id)) {
				t.Errorf("%s reads %s", id, got)
			}
		}
	}},
	{"FilesAnewAtEachStart", func(t *testing.T, m Machine) {
		d := start(t, m)
		file := driver.File{Path: m.path("name"), Content: []byte("first"), Mode: 0o644}
		task := m.Program(t, "c/0", "write", file.Path, "scribble")
		task.Files = []driver.File{file}
		d.mustStart(task)
		d.waitEnd("c/0")
		for _, content := range []string{"first", "second"} {
			file.Content = []byte(content)
			task = m.Program(t, "c/0", "read", file.Path)
			task.Files = []driver.File{file}
			s := d.mustStart(task)
			d.waitEvent("c/0", func(e driver.Status) bool { return e.Starts == s.Starts && e.State.Ended() })
			if got := texts(d.lines("c/0", driver.LogOptions{Tail: 1})); !strings.Contains(got, fmt.Sprintf("%q", content)) {
				t.Errorf("start %d reads %s, want %q", s.Starts, got, content)
			}
		}
	}},
	{"SecretFileIsOnNoDisk", func(t *testing.T, m Machine) {
		if m.Disk == "" {
			t.Skip("this driver keeps nothing on disk")
		}
		d := start(t, m)
		task := m.Program(t, "c/0", "run")
		task.Files = []driver.File{{Path: m.path("key"), Content: []byte(secretText), Mode: 0o400, Secret: true}}
		d.mustRun(task)
		if at := findOnDisk(t, m.Disk, secretText); at != "" {
			t.Errorf("the secret is in %s", at)
		}
		d.mustStop("c/0", -1)
		task = m.Program(t, "c/1", "read", m.path("key"))
		task.Files = []driver.File{{Path: m.path("key"), Content: []byte(secretText), Mode: 0o400, Secret: true}}
		d.mustStart(task)
		s := d.waitEnd("c/1")
		if got := texts(d.lines("c/1", driver.LogOptions{})); s.ExitCode != 0 || got != fmt.Sprintf("0400 %s %q\n", m.path("key"), secretText) {
			t.Errorf("its owner reads %s, and ended as %+v", got, s)
		}
	}},
	{"VolumeSurvives", func(t *testing.T, m Machine) {
		d := start(t, m)
		source := volumeSource(t)
		var want string
		run := func(id, line string) {
			t.Helper()
			task := m.Program(t, id, "append", m.path("data/book"), line)
			if task.Env == nil {
				task.Env = map[string]string{}
			}
			task.Env["HANSA_NAMESPACE"], task.Env["HANSA_APP"] = "default", "shop" // whose volume it is
			task.Volumes = []driver.Volume{{Name: "data", Path: m.path("data"), Source: source, Size: 1 << 20}}
			s := d.mustStart(task)
			d.waitEvent(id, func(e driver.Status) bool { return e.Starts == s.Starts && e.State.Ended() })
			want += line + "\n"
			if got := texts(d.lines(id, driver.LogOptions{Tail: strings.Count(want, "\n")})); got != want {
				t.Errorf("%s at start %d has %q, want %q", id, s.Starts, got, want)
			}
		}
		run("c/0", "first")
		run("c/0", "started again")
		d.mustStop("c/0", 0)
		run("d/0", "of another task") // the next allocation of the same slot
		d.mustStop("d/0", 0)
		if b, err := os.ReadFile(filepath.Join(source, "book")); err != nil || string(b) != want {
			t.Errorf("the host's folder holds %q, %v, want %q", b, err, want)
		}
	}},
	{"DiskHogIsHeld", func(t *testing.T, m Machine) {
		d := start(t, m)
		d.enforced("disk")
		task := m.Program(t, "c/0", "fill", "filled", fmt.Sprint(64<<20))
		task.Disk = 16 << 20
		d.mustStart(task)
		s := d.waitEnd("c/0")
		if got := texts(d.lines("c/0", driver.LogOptions{})); s.ExitCode == 0 || strings.Contains(got, "wrote") {
			t.Errorf("with 16 MiB it wrote 64 MiB: %s %+v", got, s)
		}
	}},
}
