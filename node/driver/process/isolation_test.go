//go:build linux

package process_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/drivertest"
	"github.com/hansa-mesh/hansa/node/driver/process"
)

// apart skips the test where programs are not kept apart.
func apart(t *testing.T) {
	t.Helper()
	if l := open(t, process.Config{Dir: t.TempDir()}).Probe(t.Context()).Limits["isolation"]; !l.Enforced {
		t.Skipf("programs are not kept apart on this machine: %s", l.Detail)
	}
}

// shell is a task of an app that runs a script of the machine's shell.
func shell(id, app, script string) driver.Task {
	return driver.Task{
		ID: id, Kind: driver.KindServer, Env: map[string]string{"HANSA_NAMESPACE": "default", "HANSA_APP": app},
		Process: &driver.Process{Command: []string{"sh", "-c", script}},
	}
}

// said is what a task that ends wrote, without the log's own columns.
func said(t testing.TB, d *process.Driver, task driver.Task) string {
	t.Helper()
	start(t, d, task)
	ended(t, d, task.ID)
	var b strings.Builder
	for line := range strings.Lines(drivertest.LogText(t, d, task.ID)) {
		l, err := driver.ParseLogLine(line)
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(l.Text + "\n")
	}
	return b.String()
}

// A program runs as a user that is its app's alone, for good.
func TestUserOfAnApp(t *testing.T) {
	apart(t)
	d := running(t, process.Config{})
	const who = "id -u; id -G; grep NoNewPrivs /proc/self/status | tr -d '\\t'; grep CapEff /proc/self/status | tr -d '\\t'"
	first := said(t, d, shell("c/0", "shop", who))
	var uid int
	if _, err := fmt.Sscan(first, &uid); err != nil || uid < 0x48000000 || uid >= 0x49000000 {
		t.Errorf("it runs as %q, %v", first, err)
	}
	if !strings.Contains(first, "NoNewPrivs:1\n") || !strings.Contains(first, "CapEff:0000000000000000\n") || strings.Fields(first)[1] != fmt.Sprint(uid) {
		t.Errorf("its privileges are %q", first)
	}
	if again := said(t, d, shell("d/7", "shop", who)); again != first {
		t.Errorf("another task of the app runs as %q, not %q", again, first)
	}
	if other := said(t, d, shell("e/0", "bank", who)); other == first {
		t.Errorf("another app runs as the same user %q", other)
	}
	elsewhere := shell("f/0", "shop", who)
	elsewhere.Env["HANSA_NAMESPACE"] = "staging"
	if other := said(t, d, elsewhere); other == first {
		t.Errorf("an app of another namespace runs as the same user %q", other)
	}
}

// Many programs write their log to these names.
func TestOutputByName(t *testing.T) {
	d := running(t, process.Config{})
	if got := said(t, d, shell("c/0", "shop", "echo one > /dev/stdout; echo two > /dev/stderr")); got != "one\ntwo\n" && got != "two\none\n" {
		t.Errorf("it says %q", got)
	}
}

func TestUserThatIsNamed(t *testing.T) {
	apart(t)
	d := running(t, process.Config{})
	for i, tc := range []struct{ user, want string }{
		{"root", "0 0\n"}, {"nobody", "65534 65534\n"}, {"1234", "1234 1234\n"}, {"1234:56", "1234 56\n"}, {"nobody:0", "65534 0\n"},
	} {
		task := shell(fmt.Sprint("c/", i), "shop", "echo $(id -u) $(id -g)")
		task.Process.User = tc.user
		if got := said(t, d, task); got != tc.want {
			t.Errorf("user %q is %q, want %q", tc.user, got, tc.want)
		}
	}
	for user, part := range map[string]string{
		"no-such-user": `"no-such-user"`, "root:no-such-group": `"no-such-group"`, "-1": `"-1"`, ":": `""`, "99999999999": `"99999999999"`,
	} {
		task := shell("d/0", "shop", "true")
		task.Process.User = user
		if _, err := d.Start(t.Context(), task); !errors.Is(err, driver.ErrInvalid) || !strings.Contains(err.Error(), part) {
			t.Errorf("user %q: %v, want ErrInvalid", user, err)
		}
	}
}

// A program finds of the daemon's folders only its own, and can't reach who
// keeps it.
func TestWhatAProgramCannotReach(t *testing.T) {
	apart(t)
	dir := dataDir(t)
	d := running(t, process.Config{Dir: dir})
	start(t, d, program(t, "other/0", "run"))
	got := said(t, d, shell("c/0", "shop", fmt.Sprintf(
		"for p in other.0 c.0/logs c.0/spec.json c.0/lock c.0/work; do test -e %s/tasks/$p && echo $p; done; kill -9 $PPID 2>/dev/null || echo kept; touch $HOME/mine && echo wrote", dir)))
	if got != "c.0/work\nkept\nwrote\n" {
		t.Errorf("it finds\n%s", got)
	}
}

// What an earlier start left in the working folder leads the daemon nowhere.
func TestLinksInTheWorkingFolder(t *testing.T) {
	apart(t)
	d := running(t, process.Config{})
	outside := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	said(t, d, shell("c/0", "shop", fmt.Sprintf("ln -s %s bin; ln -s %s/file link", outside, outside)))
	task := program(t, "c/0", "exit", "0")
	task.Process.Command[0], task.Process.Artifact = "bin/meter", "sha256:aa"
	task.Artifacts = map[string]string{"sha256:aa": self}
	if _, err := d.Start(t.Context(), task); err == nil {
		t.Error("an artifact was placed through a link")
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("outside of it there is %v", left)
	}
}

// A /tmp is the program's own, unless the daemon's folder is in the machine's.
func TestTmpIsItsOwn(t *testing.T) {
	apart(t)
	dir, err := os.MkdirTemp("/var/tmp", "hansa-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := running(t, process.Config{Dir: dir})
	marker := fmt.Sprintf("mine-%d", os.Getpid())
	for _, id := range []string{"c/0", "c/1"} {
		task := shell(id, "shop", "ls -A /tmp; touch /tmp/"+marker+"; ls $TMPDIR; sleep 1000")
		start(t, d, task)
		waitLine(t, d, id, marker)
		if text := drivertest.LogText(t, d, id); strings.Count(text, "\n") != 1 {
			t.Errorf("%s finds in /tmp what is not its own:\n%s", id, text)
		}
	}
	if exists("/tmp/" + marker) {
		t.Error("its file is in the machine's /tmp")
	}
	for _, id := range []string{"c/0", "c/1"} {
		if err := d.Stop(t.Context(), id, -1); err != nil {
			t.Error(err)
		}
	}
}

// Files and volumes may be anywhere, and the machine's folders stay as they are.
func TestPlacesOfFiles(t *testing.T) {
	apart(t)
	d := running(t, process.Config{})
	places := []string{"/hansa-new/a/b", "/hansa-top", "/etc/hansa-test.yaml", "/etc/hostname", "/usr/local/share/hansa/x", "/data/config"}
	task := shell("c/0", "shop", "cat "+strings.Join(places, " ")+"; cat /etc/passwd | head -1; ls -d /proc/self /usr/bin /data; touch /data/kept")
	for i, path := range places {
		task.Files = append(task.Files, driver.File{Path: path, Content: []byte(fmt.Sprintln(i)), Mode: 0o400})
	}
	source := t.TempDir()
	task.Volumes = []driver.Volume{{Name: "data", Path: "/data", Source: source}}
	hostname, _ := os.ReadFile("/etc/hostname")
	passwd, _ := os.ReadFile("/etc/passwd")
	firstLine, _, _ := strings.Cut(string(passwd), "\n")
	if got := said(t, d, task); got != "0\n1\n2\n3\n4\n5\n"+firstLine+"\n/data\n/proc/self\n/usr/bin\n" {
		t.Errorf("it finds\n%s", got)
	}
	for _, path := range []string{"/hansa-new", "/hansa-top", "/etc/hansa-test.yaml", "/usr/local/share/hansa", "/data"} {
		if exists(path) {
			t.Errorf("the machine has %s now", path)
		}
	}
	if now, _ := os.ReadFile("/etc/hostname"); string(now) != string(hostname) {
		t.Errorf("the machine's hostname is %q now", now)
	}
	if !exists(filepath.Join(source, "kept")) {
		t.Error("what was written to the volume is not kept")
	}
	for _, path := range []string{"relative", "/", "/proc/x", "/etc/../proc/1"} {
		task.ID, task.Files, task.Volumes = "d/0", []driver.File{{Path: path}}, nil
		if _, err := d.Start(t.Context(), task); !errors.Is(err, driver.ErrInvalid) {
			t.Errorf("a file at %q: %v, want ErrInvalid", path, err)
		}
	}
	for _, path := range []string{"/usr", "/etc/passwd/x"} { // a folder, and below a file
		task.Files = []driver.File{{Path: path}}
		if _, err := d.Start(t.Context(), task); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("a file at %q: %v", path, err)
		}
	}
}

// What a program is given is on no disk, and still there for who enters later.
func TestEnvironmentIsOnNoDisk(t *testing.T) {
	dir := dataDir(t)
	d := running(t, process.Config{Dir: dir})
	task := program(t, "c/0", "run")
	task.Env["PASSWORD"] = "the-word-that-is-on-no-disk"
	start(t, d, task)
	waitLine(t, d, "c/0", "ready")
	out, err := exec.Command("grep", "-rl", task.Env["PASSWORD"], dir).CombinedOutput()
	if err == nil || len(out) > 0 {
		t.Errorf("the variable is in %s", out)
	}
}

// Links that a program left in its volume lead whoever makes mount points in it
// nowhere else.
func TestLinksInAVolume(t *testing.T) {
	apart(t)
	d := running(t, process.Config{})
	source, outside := t.TempDir(), t.TempDir()
	for link, to := range map[string]string{"folder": outside, "file": filepath.Join(outside, "new")} {
		if err := os.Symlink(to, filepath.Join(source, link)); err != nil {
			t.Fatal(err)
		}
	}
	for i, path := range []string{"/data/folder/x", "/data/file"} {
		task := shell(fmt.Sprint("c/", i), "shop", "cat "+path)
		task.Volumes = []driver.Volume{{Name: "data", Path: "/data", Source: source}}
		task.Files = []driver.File{{Path: path, Content: []byte("content\n"), Mode: 0o444}}
		if _, err := d.Start(t.Context(), task); err == nil { // or it is refused
			ended(t, d, task.ID)
		}
		if left, _ := os.ReadDir(outside); len(left) != 0 {
			t.Errorf("for %s the machine has %v now", path, left)
		}
	}
}

func TestDevicesInTheEnvironment(t *testing.T) {
	d := running(t, process.Config{})
	task := shell("c/0", "shop", "echo $CUDA_VISIBLE_DEVICES $NVIDIA_VISIBLE_DEVICES")
	task.Devices = []string{"0", "GPU-7"}
	if got := said(t, d, task); got != "0,GPU-7 0,GPU-7\n" {
		t.Errorf("it is told of %q", got)
	}
	if got := said(t, d, shell("c/1", "shop", "echo $CUDA_VISIBLE_DEVICES")); got != "\n" {
		t.Errorf("without devices it is told of %q", got)
	}
}

// More processes than it may have it does not get.
func TestForkBomb(t *testing.T) {
	dir := dataDir(t)
	d := running(t, process.Config{Dir: dir, ProcessesMax: 20})
	enforced(t, d, "pids")
	task := shell("c/0", "shop", "i=0; while [ $i -lt 100 ]; do sleep 1000 & i=$((i+1)); done; echo all; wait")
	start(t, d, task)
	if s := ended(t, d, "c/0"); s.ExitCode == 0 || strings.Contains(drivertest.LogText(t, d, "c/0"), " all\n") {
		t.Errorf("it has a hundred: %+v", s)
	}
	if n := len(guests(t, dir)); n != 0 {
		t.Errorf("%d processes are left", n)
	}
}

// A program that fills the disk ends in order, and its end is known.
func TestDiskIsFull(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=48m"); err != nil {
		t.Skipf("no right to mount: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	d := running(t, process.Config{Dir: dir})
	task := shell("c/0", "shop", "cat /dev/zero > big; exit 9")
	start(t, d, task)
	if s := ended(t, d, "c/0"); s.State != driver.StateExited || s.ExitCode != 9 {
		t.Errorf("on a full disk it ended as %+v", s)
	}
	if err := d.Stop(t.Context(), "c/0", -1); err != nil {
		t.Errorf("Stop on a full disk: %v", err)
	}
	if got := said(t, d, shell("c/1", "shop", "echo fine")); got != "fine\n" {
		t.Errorf("the next one says %q", got)
	}
	if err := d.Stop(t.Context(), "c/1", -1); err != nil {
		t.Error(err)
	}
}

// notRootVar makes the test binary a daemon without privileges that does what
// the test after it looks at.
const notRootVar = "DAEMON_OF_THE_TEST_NOT_ROOT"

// notRoot is run as a user without privileges; it prints what it found.
func notRoot(dir string) int {
	d, err := process.New(process.Config{Dir: filepath.Join(dir, "data")})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	defer func() { cancel(); <-done }()
	source := filepath.Join(dir, "volume")
	fmt.Println("mkdir", os.Mkdir(source, 0o700))
	run := func(task driver.Task) {
		defer func() { _ = d.Stop(ctx, task.ID, -1) }()
		_, err := d.Start(ctx, task)
		if err != nil {
			fmt.Println("start", err)
			return
		}
		r, err := d.Logs(ctx, task.ID, driver.LogOptions{Follow: true})
		if err != nil {
			fmt.Println("logs", err)
			return
		}
		defer r.Close()
		_, _ = io.Copy(os.Stdout, r)
	}
	task := shell("c/0", "shop", "id -u; cat /hansa-new/file; echo more > /data/book; grep CapEff /proc/self/status | tr -d '\\t'")
	task.Files = []driver.File{{Path: "/hansa-new/file", Content: []byte("content\n"), Mode: 0o400}}
	task.Volumes = []driver.Volume{{Name: "data", Path: "/data", Source: source}}
	run(task)
	book, err := os.ReadFile(filepath.Join(source, "book"))
	fmt.Printf("book %q %v\n", book, err)
	other := shell("c/1", "shop", "id -u")
	other.Process.User = "root"
	run(other)
	plain := shell("c/2", "shop", "sleep 1000")
	if _, err := d.Start(ctx, plain); err != nil {
		fmt.Println("start", err)
	}
	code, err := d.Exec(ctx, "c/2", driver.Exec{Command: []string{"sh", "-c", "echo beside; exit 3"}, Stdout: os.Stdout, Stderr: os.Stdout})
	fmt.Println("exec", code, err)
	fmt.Println("stop", d.Stop(ctx, "c/2", -1))
	for id, fence := range map[string]*driver.Fence{"c/3": nil, "c/4": {Number: 1, Until: d.Boottime() + time.Hour}} {
		task.ID, task.Process.Command, task.Fence = id, []string{"sleep", "1000"}, fence
		if _, err := d.Start(ctx, task); err != nil {
			fmt.Println("start", err)
		}
		code, err := d.Exec(ctx, id, driver.Exec{Command: []string{"sh", "-c", "cat /hansa-new/file; grep CapEff /proc/self/status; exit 4"}, Stdout: os.Stdout, Stderr: os.Stdout})
		fmt.Println(id, "exec", code, err)
		patient, cancel := context.WithCancel(ctx)
		ready := writerFunc(func(b []byte) (int, error) { cancel(); return len(b), nil })
		_, err = d.Exec(patient, id, driver.Exec{Command: []string{"sh", "-c", "echo ready; exec sleep 1000"}, Stdout: ready, Stderr: os.Stdout})
		fmt.Println(id, "given up", err)
		fmt.Println(id, "stop", d.Stop(ctx, id, -1))
	}
	return 0
}

type writerFunc func([]byte) (int, error)

func (w writerFunc) Write(b []byte) (int, error) { return w(b) }

// A daemon that is not root has files and volumes through a user namespace, and
// says what it can't do.
func TestWithoutRoot(t *testing.T) {
	canFence(t)
	if os.Getuid() != 0 {
		t.Skip("the other tests run without root already")
	}
	dir := filepath.Join(filepath.Dir(guest), "not-root")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(guest, daemonArg, dir)
	cmd.Env = append(os.Environ(), notRootVar+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{
		" F 65534\n", " F content\n", " F CapEff:0000000000000000\n", `book "more\n" <nil>`,
		`user "root", and this daemon can't change users`, "beside\n", "exec 3 <nil>\n", "stop <nil>\n",
		"content\nCapEff:\t0000000000000000\nc/3 exec 4 <nil>\n", "c/3 given up exec in \"c/3\": context canceled\n", "c/3 stop <nil>\n",
		"content\nCapEff:\t0000000000000000\nc/4 exec 4 <nil>\n", "c/4 given up exec in \"c/4\": context canceled\n", "c/4 stop <nil>\n",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it lacks %q:\n%s", want, out)
		}
	}
}

// No more commands run beside a task than are good for the machine.
func TestExecsAreBounded(t *testing.T) {
	d := running(t, process.Config{})
	start(t, d, program(t, "c/0", "run"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	answers := make(chan error, 40)
	for range cap(answers) {
		go func() {
			_, err := d.Exec(ctx, "c/0", driver.Exec{Command: []string{"sleep", "1000"}, Stdout: io.Discard, Stderr: io.Discard})
			answers <- err
		}()
	}
	for range 8 {
		if err := <-answers; err == nil || !strings.Contains(err.Error(), "let some end first") {
			t.Errorf("beyond the bound: %v", err)
		}
	}
	cancel()
	all := []error{}
	for range 32 {
		all = append(all, <-answers)
	}
	if slices.ContainsFunc(all, func(err error) bool { return !errors.Is(err, context.Canceled) }) {
		t.Errorf("within it: %v", all)
	}
}
