//go:build linux

package process_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/drivertest"
	"github.com/hansa-mesh/hansa/node/driver/process"
)

const patience = 30 * time.Second

// running is a driver that runs until the end of the test.
func running(t testing.TB, c process.Config) *process.Driver {
	t.Helper()
	if c.Dir == "" {
		c.Dir = dataDir(t)
	}
	d := open(t, c)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return d
}

func start(t testing.TB, d *process.Driver, task driver.Task) driver.Status {
	t.Helper()
	s, err := d.Start(t.Context(), task)
	if err != nil {
		t.Fatalf("Start: %v", err)
	}
	return s
}

func status(t testing.TB, d *process.Driver, id string) driver.Status {
	t.Helper()
	all, err := d.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.ID == id {
			return s
		}
	}
	return driver.Status{}
}

func ended(t testing.TB, d *process.Driver, id string) driver.Status {
	t.Helper()
	drivertest.Eventually(t, "the end of "+id, func() bool { return status(t, d, id).State.Ended() })
	return status(t, d, id)
}

func waitLine(t testing.TB, d *process.Driver, id, part string) string {
	t.Helper()
	var text string
	drivertest.Eventually(t, "the line "+part, func() bool { text = drivertest.LogText(t, d, id); return strings.Contains(text, part) })
	return text
}

func enforced(t *testing.T, d *process.Driver, limit string) {
	t.Helper()
	if l := d.Probe(t.Context()).Limits[limit]; !l.Enforced {
		t.Skipf("the limit on %s is not enforced on this machine: %s", limit, l.Detail)
	}
}

// A child that made a session of its own goes with the program.
func TestEscapedChildrenAreKilled(t *testing.T) {
	for _, end := range []string{"stop", "crash"} {
		dir := dataDir(t)
		d := running(t, process.Config{Dir: dir})
		task := program(t, "c/0", "fork")
		task.Grace = 100 * time.Millisecond
		start(t, d, task)
		text := waitLine(t, d, "c/0", "child ")
		waitLine(t, d, "c/0", "ready")
		if n := len(guests(t, dir)); n != 2 {
			t.Fatalf("%d processes run, want 2: %s", n, text)
		}
		if end == "stop" {
			if err := d.Stop(t.Context(), "c/0", 0); err != nil {
				t.Fatal(err)
			}
		} else {
			child := childPid(t, text)
			for _, pid := range guests(t, dir) {
				if pid != child {
					unix.Kill(pid, unix.SIGKILL)
				}
			}
			if s := ended(t, d, "c/0"); s.ExitCode != 137 || s.OOM {
				t.Errorf("killed from outside it is %+v", s)
			}
		}
		if pids := guests(t, dir); len(pids) != 0 {
			t.Errorf("after a %s processes %v are left", end, pids)
		}
	}
}

func childPid(t *testing.T, log string) int {
	t.Helper()
	_, rest, _ := strings.Cut(log, "child ")
	pid, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

func TestArtifactAndFolders(t *testing.T) {
	dir := dataDir(t)
	d := running(t, process.Config{Dir: dir})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"./meter", "meter", "bin/meter"} {
		id := fmt.Sprintf("c/%d", i)
		task := program(t, id, "where")
		task.Process.Command[0] = name
		task.Process.Artifact = "sha256:aa"
		task.Artifacts = map[string]string{"sha256:aa": self}
		start(t, d, task)
		ended(t, d, id)
		want := filepath.Join(dir, "tasks", driver.SafeID(id), "work")
		if text := drivertest.LogText(t, d, id); !strings.Contains(text, want+" <nil>") {
			t.Errorf("%s ran in %q, want %s", name, text, want)
		}
	}
	absolute := program(t, "c/9", "where")
	absolute.Process.Artifact, absolute.Artifacts = "sha256:aa", map[string]string{"sha256:aa": self}
	if _, err := d.Start(t.Context(), absolute); !errors.Is(err, driver.ErrInvalid) {
		t.Errorf("an artifact with an absolute command: %v", err)
	}
	// A climbing name stays inside.
	climbing := program(t, "c/8", "where")
	climbing.Process.Command[0], climbing.Process.Dir = "../../../../meter", "../../../up"
	climbing.Process.Artifact, climbing.Artifacts = "sha256:aa", map[string]string{"sha256:aa": self}
	start(t, d, climbing)
	ended(t, d, "c/8")
	if text := drivertest.LogText(t, d, "c/8"); !strings.Contains(text, filepath.Join(driver.SafeID("c/8"), "work", "up")) {
		t.Errorf("it ran in %q", text)
	}
}

func TestProgramThatIsNotThere(t *testing.T) {
	dir := dataDir(t)
	d := running(t, process.Config{Dir: dir})
	noFormat := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(noFormat, []byte("not a program\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"no-such-program", "/no/such/program", "./nothing", noFormat} {
		task := driver.Task{ID: "c/0", Kind: driver.KindServer, Process: &driver.Process{Command: []string{name}}}
		_, err := d.Start(t.Context(), task)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		if s := status(t, d, "c/0"); s.ID != "" {
			t.Errorf("%s is listed as %+v", name, s)
		}
	}
	// A program of the machine is found in PATH.
	task := driver.Task{ID: "c/1", Kind: driver.KindServer, Process: &driver.Process{Command: []string{"true"}}}
	start(t, d, task)
	if s := ended(t, d, "c/1"); s.ExitCode != 0 {
		t.Errorf("true ended as %+v", s)
	}
	// A restart that fails leaves nothing either.
	task.Process.Command = []string{"no-such-program"}
	if _, err := d.Start(t.Context(), task); err == nil {
		t.Error("the restart did not fail")
	}
}

// The supervisor shields itself from signals, and the program does not inherit
// that.
func TestSignalsAreAtTheirDefaults(t *testing.T) {
	d := running(t, process.Config{})
	start(t, d, driver.Task{ID: "c/0", Kind: driver.KindServer, Process: &driver.Process{
		Command: []string{"grep", "-E", "Sig(Ign|Blk)", "/proc/self/status"},
	}})
	ended(t, d, "c/0")
	lines := 0
	for line := range strings.Lines(drivertest.LogText(t, d, "c/0")) {
		fields := strings.Fields(line)
		set, err := strconv.ParseUint(fields[len(fields)-1], 16, 64)
		// Real-time signals that are ignored come from whoever runs the tests:
		// only the C library can reset them.
		if lines++; err != nil || set&(1<<31-1) != 0 {
			t.Errorf("signals are ignored or blocked: %s", line)
		}
	}
	if lines != 2 {
		t.Errorf("%d lines", lines)
	}
}

// A second Stop without grace hastens the first.
func TestStopIsHastened(t *testing.T) {
	d := running(t, process.Config{})
	task := program(t, "c/0", "stubborn")
	task.Grace = time.Hour
	start(t, d, task)
	waitLine(t, d, "c/0", "ready")
	first := make(chan error)
	go func() { first <- d.Stop(context.Background(), "c/0", 0) }()
	drivertest.Eventually(t, "stopping", func() bool { return status(t, d, "c/0").State == driver.StateStopping })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Stop(ctx, "c/0", time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("a Stop whose caller left: %v", err)
	}
	if err := d.Stop(t.Context(), "c/0", -1); err != nil {
		t.Error(err)
	}
	if err := <-first; err != nil {
		t.Error(err)
	}
}

// A record of an earlier boot, or with a recycled process id, is never taken
// for what runs now.
func TestIdentityOfAnotherTime(t *testing.T) {
	dir := dataDir(t)
	victim := exec.Command("/proc/self/exe", drivertest.GuestArg, "stubborn")
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { victim.Process.Kill(); victim.Wait() }()
	d := open(t, process.Config{Dir: dir})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- d.Run(ctx) }()
	for _, id := range []string{"c/0", "c/1"} {
		start(t, d, program(t, id, "run"))
	}
	cancel()
	<-done
	for _, id := range []string{"c/0", "c/1"} {
		if err := unix.Kill(supervisorOf(t, dir, id), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	drivertest.Eventually(t, "the programs to go with their supervisors", func() bool { return len(guests(t, dir)) == 0 })
	rewrite := func(id string, change func(string) string) {
		path := filepath.Join(dir, "tasks", driver.SafeID(id), "run.json")
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(change(string(b))), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	boot, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	rewrite("c/0", func(s string) string { return strings.ReplaceAll(s, strings.TrimSpace(string(boot)), "another-boot") })
	rewrite("c/1", func(s string) string { // the ids now belong to the victim
		return strings.NewReplacer(`"pid":`, fmt.Sprintf(`"pid":%d,"was":`, victim.Process.Pid)).Replace(s)
	})
	next := running(t, process.Config{Dir: dir})
	if s := status(t, next, "c/0"); s.State != driver.StateFailed || s.Reason != "the machine was restarted" {
		t.Errorf("of another boot: %+v", s)
	}
	if s := status(t, next, "c/1"); s.State != driver.StateFailed {
		t.Errorf("with a recycled id: %+v", s)
	}
	for _, id := range []string{"c/0", "c/1"} {
		if err := next.Stop(t.Context(), id, -1); err != nil {
			t.Error(err)
		}
	}
	if err := victim.Process.Signal(unix.Signal(0)); err != nil {
		t.Errorf("a process that only had the id was killed: %v", err)
	}
}

// A start that was cut short before its spec leaves nothing that disturbs.
func TestHalfMadeFolders(t *testing.T) {
	dir := dataDir(t)
	for name, content := range map[string]string{"empty": "", "torn": `{"task":{"id":"c`} {
		if err := os.MkdirAll(filepath.Join(dir, "tasks", name), 0o700); err != nil {
			t.Fatal(err)
		}
		if content != "" {
			if err := os.WriteFile(filepath.Join(dir, "tasks", name, "spec.json"), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	d := running(t, process.Config{Dir: dir})
	if all, err := d.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	start(t, d, program(t, "torn", "run"))
}

func TestStoppedLogsAreCollected(t *testing.T) {
	dir := dataDir(t)
	d := running(t, process.Config{Dir: dir, StoppedMax: 300 << 10})
	for i := range 6 {
		id := fmt.Sprintf("c/%d", i)
		start(t, d, program(t, id, "flood", strconv.Itoa(64<<10)))
		ended(t, d, id)
		if err := d.Stop(t.Context(), id, 0); err != nil {
			t.Fatal(err)
		}
	}
	left, _ := filepath.Glob(filepath.Join(dir, "stopped", "*"))
	if len(left) == 0 || len(left) == 6 {
		t.Errorf("%d folders are kept", len(left))
	}
	if _, err := d.Logs(t.Context(), "c/5", driver.LogOptions{}); err != nil {
		t.Errorf("the newest log: %v", err)
	}
	if _, err := d.Logs(t.Context(), "c/0", driver.LogOptions{}); !errors.Is(err, driver.ErrUnknownTask) {
		t.Errorf("the oldest log: %v", err)
	}
}

// daemonArg makes the test binary a daemon that starts a program and waits to
// be killed.
const daemonArg = "daemon-of-the-test"

func daemonMain(dir string) int {
	if os.Getenv(notRootVar) != "" {
		return notRoot(dir)
	}
	d, err := process.New(process.Config{Dir: dir})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	go d.Run(context.Background())
	if os.Getenv("MANY") != "" {
		startMany(d, guest)
	}
	if in := os.Getenv(fencedVar); in != "" {
		startFenced(d, guest, in)
	}
	for id, verb := range map[string][]string{"c/0": {"on-stop", "5"}, "c/1": {"lines", "5000", "6"}} {
		task := driver.Task{
			ID: id, Kind: driver.KindServer, Labels: map[string]string{"slot": id},
			Process: &driver.Process{Command: append([]string{guest, drivertest.GuestArg}, verb...)},
		}
		if _, err := d.Start(context.Background(), task); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	fmt.Println("up")
	select {}
}

// manyMax is how many programs a daemon of TestDaemonIsKilledMidStart starts
// at one time.
const manyMax = 12

func startMany(d *process.Driver, self string) {
	for i := range manyMax {
		go func() {
			_, err := d.Start(context.Background(), driver.Task{
				ID: fmt.Sprintf("c/%d", i), Kind: driver.KindServer, Memory: 64 << 20,
				Process: &driver.Process{Command: []string{self, drivertest.GuestArg, "run"}},
			})
			fmt.Println("started", err)
		}()
	}
	select {}
}

// Killed while it starts programs, a daemon leaves none that the next one does
// not find, and nothing that keeps it from starting them.
func TestDaemonIsKilledMidStart(t *testing.T) {
	for after := range 4 { // so many were started
		dir := dataDir(t)
		daemon := exec.Command("/proc/self/exe", daemonArg, dir)
		daemon.Env = append(os.Environ(), "MANY=1")
		out, err := daemon.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := daemon.Start(); err != nil {
			t.Fatal(err)
		}
		if after == 0 { // while the first folders are made
			drivertest.Eventually(t, "a folder", func() bool {
				entries, _ := os.ReadDir(filepath.Join(dir, "tasks"))
				return len(entries) > 0
			})
		}
		scan := bufio.NewScanner(out)
		for range after {
			if !scan.Scan() || scan.Text() != "started <nil>" {
				t.Fatalf("the daemon says %q, %v", scan.Text(), scan.Err())
			}
		}
		daemon.Process.Kill()
		daemon.Wait()
		d := running(t, process.Config{Dir: dir})
		all, err := d.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		runs := 0
		for _, s := range all {
			if s.State == driver.StateRunning {
				runs++
			}
			if s.State != driver.StateRunning && s.State != driver.StateFailed {
				t.Errorf("found %+v", s)
			}
		}
		if n := len(guests(t, dir)); runs < after || n != runs {
			t.Errorf("%d are found running, %d do, and %d were told of", runs, n, after)
		}
		for i := range manyMax {
			start(t, d, program(t, fmt.Sprintf("c/%d", i), "run"))
		}
		for i := range manyMax {
			if err := d.Stop(t.Context(), fmt.Sprintf("c/%d", i), -1); err != nil {
				t.Error(err)
			}
		}
		if pids := guests(t, dir); len(pids) != 0 {
			t.Errorf("left: %v", pids)
		}
	}
}

// The real thing: kill -9 of a daemon process breaks nothing.
func TestDaemonIsKilled(t *testing.T) {
	dir := dataDir(t)
	daemon := exec.Command("/proc/self/exe", daemonArg, dir)
	out, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	n, err := out.Read(buf)
	if err != nil || string(buf[:n]) != "up\n" {
		t.Fatalf("the daemon says %q, %v", buf[:n], err)
	}
	daemon.Process.Kill()
	daemon.Wait()
	d := running(t, process.Config{Dir: dir})
	if s := status(t, d, "c/0"); s.State != driver.StateRunning || s.Labels["slot"] != "c/0" {
		t.Errorf("after kill -9 of the daemon: %+v", s)
	}
	if s := ended(t, d, "c/1"); s.ExitCode != 6 || strings.Count(drivertest.LogText(t, d, "c/1"), "\n") != 5000 {
		t.Errorf("what ended meanwhile: %+v", s)
	}
	waitLine(t, d, "c/0", "ready")
	if err := d.Stop(t.Context(), "c/0", patience); err != nil {
		t.Error(err)
	}
}

// A repeated order to stop only ever hastens the end.
func TestStopIsNotPutOff(t *testing.T) {
	d := running(t, process.Config{})
	task := program(t, "c/0", "stubborn")
	start(t, d, task)
	waitLine(t, d, "c/0", "ready")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.Stop(ctx, "c/0", time.Second); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := d.Stop(ctx, "c/0", time.Hour); err != nil {
		t.Error(err)
	}
}

// abandoned starts a program with an escaped child, and returns when its
// driver has gone.
func abandoned(t *testing.T, dir string) driver.Task {
	t.Helper()
	d := open(t, process.Config{Dir: dir})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- d.Run(ctx) }()
	task := program(t, "c/0", "fork")
	start(t, d, task)
	waitLine(t, d, "c/0", "ready")
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return task
}

// A task whose spec was damaged while it ran is ended, children included: its
// folder is evidence that it is ours, and nobody can tell whose slot it is.
func TestSpecIsDamagedWhileItRuns(t *testing.T) {
	dir := dataDir(t)
	task := abandoned(t, dir)
	spec := filepath.Join(dir, "tasks", driver.SafeID(task.ID), "spec.json")
	if err := os.WriteFile(spec, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := running(t, process.Config{Dir: dir})
	if all, err := d.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	drivertest.Eventually(t, "the program to go", func() bool { return len(guests(t, dir)) == 0 })
	if s := start(t, d, task); s.Starts != 1 {
		t.Errorf("started anew it is %+v", s)
	}
}

// A supervisor that never reported is ended after StartMax, and does not keep
// the task from starting again.
func TestSupervisorThatHangs(t *testing.T) {
	dir := dataDir(t)
	enforced(t, open(t, process.Config{Dir: dir}), "pids") // by its cgroup alone an escaped child is found
	task := abandoned(t, dir)
	if err := os.Remove(filepath.Join(dir, "tasks", driver.SafeID(task.ID), "run.json")); err != nil {
		t.Fatal(err)
	}
	d := running(t, process.Config{Dir: dir, StartMax: 50 * time.Millisecond})
	if s := status(t, d, task.ID); s.State != driver.StateFailed || s.Reason == "" {
		t.Errorf("it is %+v", s)
	}
	drivertest.Eventually(t, "the program to go", func() bool { return len(guests(t, dir)) == 0 })
	next := running(t, process.Config{Dir: dir})
	if s := start(t, next, task); s.Starts != 2 {
		t.Errorf("started anew it is %+v", s)
	}
}

// Stop is done when nothing runs, though something of the folder can't be
// deleted.
func TestFolderThatCannotBeDeleted(t *testing.T) {
	dir := dataDir(t)
	d := running(t, process.Config{Dir: dir})
	start(t, d, program(t, "c/0", "run"))
	waitLine(t, d, "c/0", "ready")
	at := filepath.Join("work", "mounted")
	from := filepath.Join(dir, "tasks", driver.SafeID("c/0"), at)
	if err := os.Mkdir(from, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", from, "tmpfs", 0, ""); err != nil {
		t.Skipf("no right to mount: %v", err)
	}
	stopped := filepath.Join(dir, "stopped", driver.SafeID("c/0"), at)
	defer unix.Unmount(stopped, unix.MNT_DETACH)
	if err := d.Stop(t.Context(), "c/0", -1); err != nil {
		t.Error(err)
	}
	if all, err := d.List(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
	waitLine(t, d, "c/0", "ready") // of the log that is kept
}

// A folder that can't be read means "not known", and the driver waits for it.
func TestTasksFolderComesLater(t *testing.T) {
	dir := dataDir(t)
	blocked := filepath.Join(dir, "tasks")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	d := running(t, process.Config{Dir: dir})
	if all, err := d.List(t.Context()); err == nil {
		t.Errorf("an unreadable folder lists %v", all)
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	start(t, d, program(t, "c/0", "exit", "3"))
	if s := ended(t, d, "c/0"); s.ExitCode != 3 {
		t.Errorf("%+v", s)
	}
}

// Tasks that came and went leave no group and no folder.
func TestNothingIsLeftBehind(t *testing.T) {
	dir := dataDir(t)
	d := running(t, process.Config{Dir: dir})
	name := fmt.Sprintf("left%d", os.Getpid())
	groups := func() (all []string) {
		for _, at := range []string{"hansa", "*/hansa", "*/*/hansa", "*/*/*/hansa"} {
			found, _ := filepath.Glob(filepath.Join("/sys/fs/cgroup", at, "*-"+name+"*"))
			all = append(all, found...)
		}
		return all
	}
	for i, verb := range [][]string{{"run"}, {"fork"}, {"exit", "1"}, {"lines", "10"}} {
		id := fmt.Sprintf("%s/%d", name, i)
		task := program(t, id, verb...)
		task.Memory, task.CPU = 64<<20, 100
		start(t, d, task)
		if i == 0 && len(groups()) == 0 {
			t.Log("this machine has no cgroups")
		}
		if err := d.Stop(t.Context(), id, -1); err != nil {
			t.Error(err)
		}
	}
	failing := program(t, name+"/9", "run")
	failing.Process.Command = []string{"/no/such/program"}
	if _, err := d.Start(t.Context(), failing); err == nil {
		t.Error("it started")
	}
	if left := groups(); len(left) != 0 {
		t.Errorf("groups are left: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "tasks", "*")); len(left) != 0 {
		t.Errorf("folders are left: %v", left)
	}
}
