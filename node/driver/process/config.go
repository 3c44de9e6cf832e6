package process

import (
	"log/slog"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// Name of the driver.
const Name = "process"

// The hidden subcommands, os.Args[1] of a re-execution.
const (
	superviseArg = "internal-supervise"
	launchArg    = "internal-launch"
	wardenArg    = "internal-warden"
	enterArg     = "internal-enter"
)

// Config of a Driver.
type Config struct {
	// Dir holds the tasks' folders and logs. Required; used by one driver at
	// a time.
	Dir string
	// Events receives changes of state while Run runs; nil for none.
	Events func(driver.Event)
	// Log; nil discards.
	Log *slog.Logger
	// Executable to run as supervisor; default this program.
	Executable string
	// StoppedMax bounds the bytes kept of tasks that were stopped; default
	// 256 MiB.
	StoppedMax int64
	// StartMax bounds how long a supervisor may take to get its program
	// running; default 30 s.
	StartMax time.Duration
	// ProcessesMax bounds the processes and threads of one task; default
	// 4096.
	ProcessesMax int
}

const (
	stoppedMaxDefault   = 256 << 20
	stoppedCountMax     = 256
	processesMaxDefault = 4096
	startMaxDefault     = 30 * time.Second
)

// IsSupervisor reports whether the arguments of this process are those of a
// supervisor, which SupervisorMain must handle.
func IsSupervisor(args []string) bool {
	return len(args) >= 2 && (args[1] == superviseArg || args[1] == launchArg || args[1] == wardenArg || args[1] == enterArg)
}
