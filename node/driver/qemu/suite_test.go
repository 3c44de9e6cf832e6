package qemu_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/drivertest"
	"github.com/hansa-mesh/hansa/node/driver/qemu"
)

// processes are those with a word of their command line that ok finds.
func processes(ok func(word string) bool) (pids []int) {
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		for word := range strings.SplitSeq(string(b), "\x00") {
			if ok(word) {
				var pid int
				for _, c := range strings.Split(f, "/")[2] {
					pid = pid*10 + int(c-'0')
				}
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

// machines are the qemus that run in a driver's folder.
func machines(dir string) (pids []int) {
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, l := range links {
		if to, err := os.Readlink(l); err == nil && strings.HasPrefix(to, filepath.Join(dir, "machines")+"/") {
			var pid int
			for _, c := range strings.Split(l, "/")[2] {
				pid = pid*10 + int(c-'0')
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

const (
	noCode = "a machine has no exit code"
	slowly = "a machine boots for longer than this test has"
)

func TestConformance(t *testing.T) {
	drivertest.Run(t, drivertest.Harness{
		Patience: patience,
		Cannot: map[string]string{
			"ExitCodes":                noCode,
			"CrashThenStartAgain":      noCode,
			"StopSignalThenExitCode":   noCode,
			"EndWhileNobodyWatched":    noCode,
			"FencedTaskEndsByItself":   noCode,
			"ReadoptAfterRestart":      noCode + ": TestMachine has the rest",
			"CommandThatNamesNoPort":   "a machine has no command",
			"MemoryHogIsReportedAsOOM": "the guest's own kernel ends who takes too much: the machine goes on",
			"EscapedChildrenEnd":       "what a guest forks is not to be seen from outside, and ends with it",
			"VolumeSurvives":           "a volume is a disk to a machine, not a folder: TestDisks has it",
			"DiskHogIsHeld":            "the guest of the suite lives in memory: TestDisks has the size of disks",
			"CPUHogIsHeldToItsShare":   slowly + " at a fifth of a core: the group is that of the process driver",
			"GraceEndsAtTheDeadline":   slowly + " until its deadline",
			"FencedWithoutADaemon":     slowly + " until its deadline: TestFencedWithoutADaemon",
			"AdoptedWithItsDeadline":   slowly + " until its deadline",
			// The clock of the guest is its own.
			"NothingRunsPastTheDeadlineUnnoticed": "the guest has another clock than the host",
		},
		New: func(t *testing.T) drivertest.Machine {
			dir := dataDir(t)
			return drivertest.Machine{
				Open: func(t *testing.T, events func(driver.Event)) driver.Driver {
					return open(t, qemu.Config{Dir: dir, Events: events})
				},
				Program: func(t *testing.T, id string, verb ...string) driver.Task {
					task := guest(t, id, verb...)
					task.Grace = 100 * time.Millisecond
					return task
				},
				Damage: func(t *testing.T, id string) {
					want := filepath.Join(dir, "programs", "tasks", driver.SafeID(id))
					for _, pid := range processes(func(word string) bool { return word == want }) {
						if err := unix.Kill(pid, unix.SIGKILL); err != nil {
							t.Fatal(err)
						}
					}
				},
				Leftovers: func(*testing.T) int { return len(machines(dir)) },
				Litter: func(t *testing.T, id string) {
					at := filepath.Join(dir, "machines", driver.SafeID(id))
					if err := os.MkdirAll(at, 0o700); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(filepath.Join(at, "machine.json"), []byte(`{"id":"`+id+`"}`), 0o600); err != nil {
						t.Fatal(err)
					}
				},
				Littered: func(_ *testing.T, id string) bool {
					_, err := os.Stat(filepath.Join(dir, "machines", driver.SafeID(id)))
					return err == nil
				},
				Network: true,
				Disk:    dir,
				Flood:   1 << 20, // a serial port is no pipe
				Many:    30,
			}
		},
	})
}
