package drivertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

var programTests = []test{
	{"ExitCodes", func(t *testing.T, m Machine) {
		d := start(t, m)
		for _, code := range []int{0, 1, 3, 255} {
			id := fmt.Sprintf("c/%d", code)
			d.mustStart(m.Program(t, id, "exit", fmt.Sprint(code)))
			s := d.waitEnd(id)
			if s.State != driver.StateExited || s.ExitCode != code || s.ExitedAt.Before(s.StartedAt) {
				t.Errorf("exit %d: %+v", code, s)
			}
			if (code != 0) != (s.Reason != "") {
				t.Errorf("exit %d has the reason %q", code, s.Reason)
			}
		}
	}},
	{"CrashThenStartAgain", func(t *testing.T, m Machine) {
		d := start(t, m)
		task := m.Program(t, "c/0", "lines", "1", "7")
		d.mustStart(task)
		first := d.waitEnd("c/0")
		second := d.mustStart(task)
		if second.Starts != 2 || second.StartedAt.Before(first.ExitedAt) {
			t.Errorf("restarted as %+v after %+v", second, first)
		}
		d.waitEvent("c/0", func(s driver.Status) bool { return s.Starts == 2 && s.State.Ended() })
		if got := texts(d.lines("c/0", driver.LogOptions{})); got != "line 0\nline 0\n" {
			t.Errorf("the log of both starts is %q", got)
		}
	}},
	{"StopSignalThenExitCode", func(t *testing.T, m Machine) {
		d := start(t, m)
		d.mustRun(m.Program(t, "c/0", "on-stop", "9"))
		d.mustStop("c/0", patience)
		s := d.waitEvent("c/0", func(s driver.Status) bool { return s.State.Ended() })
		if s.State != driver.StateExited || s.ExitCode != 9 {
			t.Errorf("ended as %+v, want exit code 9", s)
		}
	}},
	{"GraceThenKill", func(t *testing.T, m Machine) {
		d := start(t, m)
		task := m.Program(t, "c/0", "stubborn")
		task.Grace = 50 * time.Millisecond
		d.mustRun(task)
		d.mustStop("c/0", 0)
		s := d.waitEvent("c/0", func(s driver.Status) bool { return s.State.Ended() })
		if s.ExitCode != 137 || s.Reason == "" || s.OOM {
			t.Errorf("ended as %+v, want killed (137) with a reason", s)
		}
		task = m.Program(t, "c/1", "stubborn")
		task.Grace = time.Hour
		d.mustRun(task)
		d.mustStop("c/1", -1) // at once, whatever the task says
	}},
	{"LogsInOrderToTheEnd", func(t *testing.T, m Machine) {
		const n = 3000
		d := start(t, m)
		d.mustStart(m.Program(t, "c/0", "lines", fmt.Sprint(n)))
		followed := d.lines("c/0", driver.LogOptions{Follow: true}) // from here to the end
		d.waitEnd("c/0")
		after := d.lines("c/0", driver.LogOptions{})
		for what, lines := range map[string][]driver.LogLine{"followed": followed, "read after": after} {
			if len(lines) != n {
				t.Fatalf("%s: %d lines, want %d", what, len(lines), n)
			}
			for i, l := range lines {
				if l.Text != fmt.Sprint("line ", i) || l.Stream != "stdout" || l.Partial {
					t.Fatalf("%s: line %d is %+v", what, i, l)
				}
				if i > 0 && l.Time.Before(lines[i-1].Time) {
					t.Fatalf("%s: time goes back at line %d", what, i)
				}
			}
		}
		if got := texts(d.lines("c/0", driver.LogOptions{Tail: 2})); got != fmt.Sprintf("line %d\nline %d\n", n-2, n-1) {
			t.Errorf("the last two lines are %q", got)
		}
		since := after[n/2].Time
		for _, l := range d.lines("c/0", driver.LogOptions{Since: since}) {
			if l.Time.Before(since) {
				t.Fatalf("line %v is older than %v", l, since)
			}
		}
		if got := d.lines("c/0", driver.LogOptions{Since: time.Now().Add(time.Hour)}); len(got) != 0 {
			t.Errorf("%d lines are from the future", len(got))
		}
		d.mustStop("c/0", 0)
		if kept := d.lines("c/0", driver.LogOptions{}); len(kept) != n {
			t.Errorf("%d lines are kept after Stop, want %d", len(kept), n)
		}
	}},
	{"FollowSeesTheEndOfAStop", func(t *testing.T, m Machine) {
		d := start(t, m)
		d.mustRun(m.Program(t, "c/0", "farewell"))
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		r, err := d.Logs(ctx, "c/0", driver.LogOptions{Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		d.mustStop("c/0", patience)
		lines := parseLines(t, r)
		if n := len(lines); n != 101 || lines[n-1].Text != "farewell 99" {
			t.Errorf("a follower saw %d lines, want 101", n)
		}
	}},
	{"FollowEndsOnClose", func(t *testing.T, m Machine) {
		d := start(t, m)
		d.mustRun(m.Program(t, "c/0", "run"))
		r, err := d.Logs(t.Context(), "c/0", driver.LogOptions{Follow: true})
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1024)
		if n, err := r.Read(buf); err != nil || !strings.Contains(string(buf[:n]), "ready") {
			t.Fatalf("Read: %q, %v", buf[:n], err)
		}
		ended := make(chan error, 1)
		go func() { _, err := r.Read(buf); ended <- err }()
		r.Close()
		select {
		case err := <-ended:
			if err == nil {
				t.Error("a Read after Close went on")
			}
		case <-time.After(patience):
			t.Error("Read goes on after Close")
		}
	}},
	{"Environment", func(t *testing.T, m Machine) {
		t.Setenv("SECRET_OF_THE_DAEMON", "leaks")
		d := start(t, m)
		task := m.Program(t, "c/0", "env")
		if task.Env == nil {
			task.Env = map[string]string{}
		}
		task.Env["HANSA_SITE"], task.Env["ODD"], task.Env["EMPTY"] = "fra", "a \"b\" $c ü", ""
		http, xy := driver.Port{Inside: 80, Host: freePort(t)}, driver.Port{Inside: 8081, Host: freePort(t)}
		task.Ports = map[string]driver.Port{"http": http, "x-y": xy}
		d.mustStart(task)
		d.waitEnd("c/0")
		got := texts(d.lines("c/0", driver.LogOptions{}))
		for _, want := range []string{"HANSA_SITE=fra\n", "ODD=a \"b\" $c ü\n", "EMPTY=\n", "HANSA_PORT_HTTP=" + m.listens(http) + "\n", "HANSA_PORT_X_Y=" + m.listens(xy) + "\n"} {
			if !strings.Contains(got, want) {
				t.Errorf("the environment lacks %q:\n%s", want, got)
			}
		}
		if strings.Contains(got, "SECRET_OF_THE_DAEMON") {
			t.Error("the task sees the daemon's environment")
		}
	}},
	{"EnvironmentOfManyLines", func(t *testing.T, m Machine) {
		d := start(t, m)
		task := m.Program(t, "c/0", "env")
		if task.Env == nil {
			task.Env = map[string]string{}
		}
		task.Env["CERTIFICATE"] = "begin\nFAKE=1\n\tend\n"
		d.mustStart(task)
		d.waitEnd("c/0")
		if got := texts(d.lines("c/0", driver.LogOptions{})); !strings.Contains(got, "CERTIFICATE=begin\nFAKE=1\n\tend\n\n") {
			t.Errorf("a variable of many lines does not arrive whole:\n%s", got)
		}
	}},
	{"Ports", func(t *testing.T, m Machine) {
		d := start(t, m)
		host := freePort(t)
		task := m.Program(t, "c/0", "listen", "http")
		task.Ports = map[string]driver.Port{"http": {Inside: 8080, Host: host}}
		s := d.mustStart(task)
		if s.Ports["http"] != host {
			t.Errorf("the port is reported as %v, want %s", s.Ports, host)
		}
		d.waitLine("c/0", "listening")
		Eventually(t, "an answer of the program at its port", func() bool { return answers(host) })
		d.mustStop("c/0", -1)
		if answers(host) {
			t.Error("the port answers after Stop")
		}
	}},
	{"PortThatIsTaken", func(t *testing.T, m Machine) {
		d := start(t, m)
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		task := m.Program(t, "c/0", "listen", "http")
		task.Ports = map[string]driver.Port{"http": {Inside: 8080, Host: l.Addr().String()}}
		// Either the driver finds it out, or the program does.
		if _, err := d.Start(t.Context(), task); err == nil {
			if s := d.waitEnd("c/0"); s.ExitCode == 0 {
				t.Errorf("without its port it ended as %+v", s)
			}
		}
		l.Close()
		d.mustStart(task)
		Eventually(t, "an answer once the port is free", func() bool { return answers(l.Addr().String()) })
		d.mustStop("c/0", -1)
	}},
	{"CommandThatNamesNoPort", func(t *testing.T, m Machine) {
		d := start(t, m)
		bad := m.Program(t, "c/1", "listen", "http", "${port.nosuch}")
		if _, err := d.Start(t.Context(), bad); !errors.Is(err, driver.ErrInvalid) {
			t.Errorf("a command that names no port: %v, want ErrInvalid", err)
		}
	}},
	{"ReadoptAfterRestart", func(t *testing.T, m Machine) {
		first := start(t, m)
		task := m.Program(t, "c/0", "on-stop", "5")
		task.Labels = map[string]string{"claim": "c", "slot": "0"}
		task.Ports = map[string]driver.Port{"http": {Inside: 80, Host: freePort(t)}}
		before := first.mustRun(task)
		first.shutdown()

		second := start(t, m)
		s, ok := second.status("c/0")
		if !ok || s.State != driver.StateRunning || !s.StartedAt.Equal(before.StartedAt) || s.Starts != 1 {
			t.Fatalf("after a restart List has %+v, before it was %+v", s, before)
		}
		if !reflect.DeepEqual(s.Labels, before.Labels) || !reflect.DeepEqual(s.Ports, before.Ports) {
			t.Errorf("labels or ports were lost: %+v", s)
		}
		if again := second.mustStart(task); again.Starts != 1 {
			t.Errorf("Start of an adopted task ran it again: %+v", again)
		}
		second.waitLine("c/0", "ready")
		second.mustStop("c/0", patience)
		end := second.waitEvent("c/0", func(s driver.Status) bool { return s.State.Ended() })
		if end.ExitCode != 5 {
			t.Errorf("the adopted task ended as %+v, want code 5", end)
		}
		if m.Leftovers != nil && m.Leftovers(t) != 0 {
			t.Errorf("%d tasks are left over", m.Leftovers(t))
		}
	}},
	{"EndWhileNobodyWatched", func(t *testing.T, m Machine) {
		first := start(t, m)
		first.mustStart(m.Program(t, "c/0", "lines", "2000", "6"))
		first.shutdown()
		second := start(t, m)
		Eventually(t, "the end to be listed", func() bool {
			s, ok := second.status("c/0")
			return ok && s.State == driver.StateExited && s.ExitCode == 6
		})
		if n := len(second.lines("c/0", driver.LogOptions{})); n != 2000 {
			t.Errorf("%d lines of the log survived, want 2000", n)
		}
		second.shutdown()
		third := start(t, m)
		if s, ok := third.status("c/0"); !ok || s.ExitCode != 6 {
			t.Errorf("an end that nobody acknowledged is forgotten: %+v", s)
		}
		third.mustStop("c/0", 0)
		third.shutdown()
		if s, ok := start(t, m).status("c/0"); ok {
			t.Errorf("an end that was acknowledged comes back: %+v", s)
		}
	}},
	{"AdoptedTaskEndsWhileWatched", func(t *testing.T, m Machine) {
		first := start(t, m)
		first.mustRun(m.Program(t, "c/0", "run"))
		first.shutdown()
		second := start(t, m)
		if m.Damage == nil {
			t.Skip("this driver has no helpers that could be damaged")
		}
		m.Damage(t, "c/0")
		s := second.waitEvent("c/0", func(s driver.Status) bool { return s.State.Ended() })
		if s.Reason == "" {
			t.Errorf("a damaged task ended without a reason: %+v", s)
		}
	}},
	{"LeftoversOfACrash", func(t *testing.T, m Machine) {
		if m.Damage == nil {
			t.Skip("this driver has no helpers that could be damaged")
		}
		first := start(t, m)
		task := m.Program(t, "c/0", "run")
		first.mustRun(task)
		first.mustRun(m.Program(t, "c/1", "run"))
		first.shutdown()
		m.Damage(t, "c/0")
		second := start(t, m)
		Eventually(t, "the damaged task to be listed as failed, with a reason", func() bool {
			s, ok := second.status("c/0")
			return ok && s.State == driver.StateFailed && s.Reason != ""
		})
		if s, ok := second.status("c/1"); !ok || s.State != driver.StateRunning {
			t.Errorf("its neighbour is %+v, want running", s)
		}
		if again := second.mustStart(task); again.State != driver.StateRunning || again.Starts != 2 {
			t.Errorf("started again it is %+v", again)
		}
		second.mustStop("c/0", -1)
		second.mustStop("c/1", -1)
		if n := m.Leftovers(t); n != 0 {
			t.Errorf("%d tasks are left over", n)
		}
	}},
}

// freePort is an address of this machine where nobody listens.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// answers reports whether the verb listen is there: it greets.
func answers(address string) bool {
	c, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return false
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Second)) // of a connection that was just made
	b, _ := io.ReadAll(c)
	return string(b) == greeting
}
