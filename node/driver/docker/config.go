package docker

import (
	"log/slog"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// Name of the driver.
const Name = "docker"

// Config of a Driver.
type Config struct {
	// Dir holds the tasks' records, files and logs. Required; used by one driver
	// at a time.
	Dir string
	// Scope tells this driver's containers from those of other daemons that use
	// the same engine: the ids of mesh and peer. Required.
	Scope string
	// Host is the engine's address ("unix:///run/docker.sock"); default
	// DOCKER_HOST, or else the usual sockets.
	Host string
	// Registry is where images of the mesh come from; nil for nowhere.
	Registry func() Registry
	// Events receives changes of state while Run runs; nil for none.
	Events func(driver.Event)
	// Log; nil discards.
	Log *slog.Logger
	// SecretsDir is a folder in memory for secret files; default one of its own
	// in /dev/shm.
	SecretsDir string
	// StoppedMax bounds the bytes kept of tasks that were stopped; default
	// 256 MiB.
	StoppedMax int64
	// PullQuiet is for how long a registry may say nothing; default 1 minute.
	PullQuiet time.Duration
	// PullMax bounds one pull; default 30 minutes.
	PullMax time.Duration
}

const (
	stoppedMaxDefault = 256 << 20
	stoppedCountMax   = 256
	pullQuietDefault  = time.Minute
	pullMaxDefault    = 30 * time.Minute
)

// What the engine is given.
const (
	callMax  = time.Minute     // one call of the engine
	probeMax = 3 * time.Second // a Probe, and other short calls
	pingMax  = 4 * time.Second // to answer at all
	undoMax  = 20 * time.Second
	// backoffMin and backoffMax are the pauses before the engine is tried again.
	backoffMin = 100 * time.Millisecond
	backoffMax = 5 * time.Second
	// lookEvery is how often everything is listed, beside what events tell.
	lookEvery = 30 * time.Second
	// killPatience is how long a killed container may take to end before the
	// kill is sent again.
	killPatience = 5 * time.Second
	// drainMax is how long the rest of a log may take to come after the end.
	drainMax = 10 * time.Second
	// inspectsMax is how many containers are looked at at once.
	inspectsMax = 8
)
