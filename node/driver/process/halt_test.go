//go:build linux

package process_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/drivertest"
	"github.com/hansa-mesh/hansa/node/driver/process"
)

// A program that is halted is listed as ended, and begins anew where it was.
func TestHaltKeepsTheFolder(t *testing.T) {
	d := open(t, process.Config{Dir: dataDir(t)})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = d.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	task := driver.Task{ID: "claim/0", Kind: driver.KindServer, Process: &driver.Process{
		Command: []string{"/bin/sh", "-c", "echo once >>note; wc -l <note; exec sleep 1000"},
	}}
	for turn := 1; turn <= 2; turn++ {
		s, err := d.Start(ctx, task)
		if err != nil || s.State != driver.StateRunning || s.Starts != turn {
			t.Fatalf("start %d: %+v, %v", turn, s, err)
		}
		drivertest.Eventually(t, "it has written", func() bool {
			return len(logOf(t, d, task.ID)) >= turn
		})
		if err := d.Halt(ctx, task.ID, 5*time.Second); err != nil {
			t.Fatal(err)
		}
		list, err := d.List(ctx)
		if err != nil || len(list) != 1 || !list[0].State.Ended() {
			t.Fatalf("listed as %+v, %v", list, err)
		}
	}
	if lines := logOf(t, d, task.ID); lines[len(lines)-1] != "2" {
		t.Errorf("it wrote %q: its folder was not kept", lines)
	}
	if err := d.Halt(ctx, "claim/9", 0); err != nil {
		t.Errorf("halt of what is not there: %v", err)
	}
	if err := d.Stop(ctx, task.ID, 0); err != nil {
		t.Fatal(err)
	}
	if list, err := d.List(ctx); err != nil || len(list) != 0 {
		t.Errorf("after a stop: %+v, %v", list, err)
	}
}

// logOf is the lines of a task's log so far.
func logOf(t *testing.T, d *process.Driver, id string) []string {
	t.Helper()
	logs, err := d.Logs(t.Context(), id, driver.LogOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer logs.Close()
	data, err := io.ReadAll(logs)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, text := range strings.Split(strings.TrimSpace(string(data)), "\n") {
		if l, err := driver.ParseLogLine(text); err == nil && l.Stream == "stdout" {
			lines = append(lines, l.Text)
		}
	}
	return lines
}

// A Stop that finds the program running once more says so, and has not forgotten
// it: what is started after a Stop that succeeded is a first start.
func TestStopAndStartAtOnce(t *testing.T) {
	d := open(t, process.Config{Dir: dataDir(t)})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = d.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	task := driver.Task{ID: "claim/0", Kind: driver.KindServer, Process: &driver.Process{Command: []string{"/bin/sleep", "1000"}}}
	for round := range 20 {
		if _, err := d.Start(ctx, task); err != nil {
			t.Fatal(err)
		}
		stopped := make(chan error, 1)
		go func() { stopped <- d.Stop(ctx, task.ID, -1) }()
		var s driver.Status
		for over := false; !over; {
			var err error
			if s, err = d.Start(ctx, task); err != nil {
				t.Fatal(err)
			}
			select {
			case err = <-stopped:
				over = true
				if again := s.State == driver.StateRunning && s.Starts > 1; again && err == nil {
					t.Fatalf("round %d: Stop succeeded, and the task runs on: %+v", round, s)
				}
			default:
			}
		}
		if err := d.Stop(ctx, task.ID, -1); err != nil {
			t.Fatal(err)
		}
	}
}
