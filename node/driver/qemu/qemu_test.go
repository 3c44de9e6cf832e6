package qemu_test

import (
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/qemu"
)

// A machine from its start to its end: it answers at its port, finds its
// environment and files, outlives the daemon, and ends at the power button.
func TestMachine(t *testing.T) {
	dir := dataDir(t)
	d := open(t, qemu.Config{Dir: dir})
	stop := run(t, d)
	task := listening(t, guest(t, "shop/0", "run"))
	task.Labels = map[string]string{"app": "shop"}
	task.Env = map[string]string{"GREETING": "it's\n\"me\" $x"}
	task.Files = []driver.File{{Path: "/etc/shop.yaml", Content: []byte("port: 1\n"), Mode: 0o640, Secret: true}}
	s := mustStart(t, d, task)
	if s.State != driver.StateRunning || s.Starts != 1 || s.StartedAt.IsZero() {
		t.Errorf("started it is %+v", s)
	}
	if got := ask(t, s, "/"); got != "hello" {
		t.Errorf("it answers %q", got)
	}
	if got, want := ask(t, s, "/seed/env"), "GREETING='it'\\''s\n\"me\" $x'\nHANSA_PORT_HTTP='8081'\n"; got != want {
		t.Errorf("its environment is %q, want %q", got, want)
	}
	if got := ask(t, s, "/file?path=/etc/shop.yaml"); got != "0640 port: 1\n<nil>" {
		t.Errorf("its file is %q", got)
	}
	stop()

	d = open(t, qemu.Config{Dir: dir})
	stop = run(t, d)
	defer stop()
	again, ok := status(t, d, task.ID)
	if !ok || again.State != driver.StateRunning || !again.StartedAt.Equal(s.StartedAt) || again.Labels["app"] != "shop" || again.Ports["http"] != s.Ports["http"] {
		t.Errorf("the next daemon finds %+v, want %+v", again, s)
	}
	if s := mustStart(t, d, task); s.Starts != 1 {
		t.Errorf("started once more it is %+v", s)
	}
	if err := d.Stop(t.Context(), task.ID, 0); err != nil {
		t.Fatal(err)
	}
	if !hasLine(t, d, task.ID, "guest: bye") {
		t.Errorf("it did not end by itself:\n%s", tail(d, task.ID))
	}
	if _, ok := status(t, d, task.ID); ok {
		t.Error("it is listed after its stop")
	}
}

// A kernel that panics ends in a state with the reason, with a driver for
// pvpanic and without one.
func TestPanic(t *testing.T) {
	for name, arg := range map[string]string{"told": " hansa.pvpanic=1", "on the console": "", "rebooting": " panic=-1"} {
		t.Run(name, func(t *testing.T) {
			d := open(t, qemu.Config{Dir: dataDir(t)})
			defer run(t, d)()
			task := guest(t, "c/0", "panic")
			task.Machine.Append += arg
			mustStart(t, d, task)
			s := waitEnd(t, d, "c/0")
			if s.State != driver.StateFailed || !strings.HasPrefix(s.Reason, "kernel panic: sysrq") {
				t.Errorf("it ended as %+v", s)
			}
		})
	}
}
