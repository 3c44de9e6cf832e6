package driver

import (
	"context"
	"errors"
	"io"
	"time"
)

// Kinds of component, as the manifest names them.
const (
	KindFunction  = "function"
	KindServer    = "server"
	KindContainer = "container"
)

// Limits that hold for every driver.
const (
	LabelsMax   = 64       // labels of one task
	EnvMax      = 512      // variables of one task
	EnvBytesMax = 64 << 10 // names and values of all variables of one task
	PortsMax    = 64       // ports of one task
	CommandMax  = 256      // words of a command
	IDBytesMax  = 512      // an allocation's id
	FilesMax    = 192      // files of one task
	VolumesMax  = 16       // volumes of one task
	DevicesMax  = 64       // devices of one task
)

// Defaults for the zero fields of a Task.
const (
	StopSignalDefault = "SIGTERM"
	GraceDefault      = 10 * time.Second
	LogMaxDefault     = 16 << 20 // bytes of log kept for a task
	TimeoutDefault    = 30 * time.Second
	PidsDefault       = 4096 // processes and threads of a container
)

// What fences go by. Measured with five others at work on a machine of two
// cores, from the decision to kill until the last process was gone: one process
// 5 to 15 ms, or 300 ms with 2 GiB of memory; 20 that burn CPU 11 to 36 ms; 500
// processes 70 to 540 ms; 2,000 processes 150 to 870 ms.
const (
	// FenceMargin is how long before its deadline a task is ended, so that the
	// last of it is gone in time.
	FenceMargin = time.Second
	// FenceResume is how long a task whose deadline passed while the machine
	// was suspended may run after the resume: a bound for some dozens of
	// processes and a machine with a core to give. All that is late is
	// reported, whether within it or beyond.
	FenceResume = 250 * time.Millisecond
)

// Errors that callers tell apart.
var (
	// ErrUnknownTask: this driver has no task of that id.
	ErrUnknownTask = errors.New("unknown task")
	// ErrUnavailable: the driver can't run anything on this machine now;
	// Probe says why and what to do.
	ErrUnavailable = errors.New("driver is not available")
	// ErrInvalid: the task can never run as it is written; trying again
	// elsewhere or later is of no use.
	ErrInvalid = errors.New("invalid task")
	// ErrNotFound: what the task is made of does not exist where the task says that
	// it does, on the word of whoever has it; a start here that is tried again fails
	// for the same reason.
	ErrNotFound = errors.New("not found")
)

// Driver runs tasks by means of one runtime. See the package comment for the
// life of a task and the invariants.
type Driver interface {
	// Name is what the API and the CLI call the driver: "wasm", "process".
	Name() string

	// Run owns the driver's goroutines; it blocks until ctx is done and
	// returns after the last of them. Where the runtime can outlive the daemon
	// (processes, containers) the work is left running; where it can't
	// (functions) it is stopped. Run is called once.
	Run(ctx context.Context) error

	// Probe says what this machine can do. It may be called often: it looks
	// at the machine each time, and is cheap.
	Probe(ctx context.Context) Info

	// Start runs the task and returns when it is running, or has failed to.
	// It is idempotent for one ID: if the task runs already, that is the
	// answer; if it ended, it is started once more. ErrInvalid and
	// ErrUnavailable are wrapped where they apply. A done ctx ends the wait;
	// what was begun is then either running or undone, and List tells which.
	Start(ctx context.Context, t Task) (Status, error)

	// Stop ends the task and forgets it: the stop signal, then after grace
	// the kill of everything that belongs to it. A grace of 0 means the
	// task's own; below 0 kill at once. It returns when nothing runs any
	// more. An unknown id is nil. A done ctx ends the wait, not the stopping.
	Stop(ctx context.Context, id string, grace time.Duration) error

	// List returns everything that this driver runs or has left over, with
	// labels, sorted by ID. It is the base of re-adoption: an error means
	// "not known", never "nothing".
	List(ctx context.Context) ([]Status, error)

	// Logs reads the task's output as lines of the form LogLine documents.
	// It works for tasks that ended too, within the driver's budget;
	// otherwise ErrUnknownTask. A Follow ends when the task has ended and all
	// was read, when ctx is done, or on Close.
	Logs(ctx context.Context, id string, o LogOptions) (io.ReadCloser, error)
}

// Warmer is implemented by drivers that gain from preparing an artifact before
// the first Start.
type Warmer interface {
	// Warm prepares the artifact with that digest, which lies verified at
	// path. Idempotent.
	Warm(ctx context.Context, digest, path string) error
}

// Execer is implemented by drivers whose tasks can be entered.
type Execer interface {
	// Exec runs a command beside a running task, with its surroundings (folders,
	// environment, user, limits, network), or attaches to its console. It blocks
	// until the command has ended and all that it wrote was taken, and returns
	// its exit code. ErrUnknownTask is wrapped if the task does not run,
	// ErrInvalid if the task can't be entered this way. When ctx is done the
	// command is killed.
	Exec(ctx context.Context, id string, x Exec) (code int, err error)
}

// Exec is one command to run beside a task.
type Exec struct {
	Command []string // empty for the shell of the task's surroundings
	// Console attaches to the task's own console instead, where it has one; then
	// Exec returns when Stdin ends.
	Console bool
	// TTY gives the command a terminal: what it writes to standard error then
	// comes on Stdout too.
	TTY    bool
	Size   Size        // of the terminal at first
	Resize <-chan Size // and later; nil for never
	Stdin  io.Reader   // nil is empty
	Stdout io.Writer
	Stderr io.Writer
}

// Size is that of a terminal, in characters.
type Size struct {
	Rows uint16 `json:"rows"`
	Cols uint16 `json:"cols"`
}

// Meter is implemented by drivers that measure what tasks use.
type Meter interface {
	// Usage is what each running task uses, by its id. It is cheap, for it is
	// asked for often; what is not known is left out.
	Usage(ctx context.Context) (map[string]Usage, error)
}

// Teller is implemented by drivers whose starts may take long.
type Teller interface {
	// Starting says what the Start of a task that is under way waits for, in words;
	// "" when there is nothing to say. It never blocks.
	Starting(id string) string
}

// DiskMeter is implemented by drivers that hold no task to its disk by themselves,
// and can say what it takes: who is over is ended.
type DiskMeter interface {
	// DiskUsed is what a task has written beside its volumes, in bytes. It may
	// take a while.
	DiskUsed(ctx context.Context, id string) (int64, error)
}

// Usage is what a task has used since it was started last.
type Usage struct {
	CPU      time.Duration `json:"cpu"`                // time on a core, of all that belongs to it
	Memory   int64         `json:"memory"`             // bytes now
	Tasks    int           `json:"tasks,omitempty"`    // processes and threads now, 0 where they are not counted
	Requests uint64        `json:"requests,omitempty"` // that a function answered
	At       time.Time     `json:"at"`                 // when this was measured
}

// Halter is implemented by drivers whose tasks have what a restart should find
// again: a folder, a disk, a container.
type Halter interface {
	// Halt ends the task as Stop does, but keeps it: it is listed as one that
	// ended, until Start begins it anew in the same place, or Stop forgets it. An
	// unknown id is nil.
	Halt(ctx context.Context, id string, grace time.Duration) error
}

// Collector is implemented by drivers that can leave things behind which List
// does not name: folders, overlays, networks, containers of a daemon that died.
type Collector interface {
	// Collect removes what is left of the tasks for which gone says so: those
	// ids were ended, on the word of a ledger. What gone does not say is left
	// alone, also if it is unknown.
	Collect(ctx context.Context, gone func(id string) bool) error
}

// Imager is implemented by drivers whose runtime keeps images of its own beside the
// mesh's.
type Imager interface {
	// PruneImages removes from the runtime what the driver brought there from the
	// mesh, nothing uses, and keep does not want: by the digest that tasks name it
	// by (Container.Digest), and for how long no task has used it. It says what went,
	// also with an error.
	PruneImages(ctx context.Context, keep func(digest string, idle time.Duration) bool) (gone []string, err error)
}

// Fencer is implemented by drivers that can end a task at a deadline without
// the daemon's help, and whose Info says Fence.
type Fencer interface {
	// Extend moves the deadline of a running task, Task.Fence.Until, to a later
	// one; an earlier one than it has changes nothing. It returns nil only if
	// whoever ends the task goes by the new one. ErrUnknownTask is wrapped if
	// the task does not run (any more), ErrInvalid if it has no deadline.
	Extend(ctx context.Context, id string, until time.Duration) error
	// Boottime is CLOCK_BOOTTIME as this driver reads it: what Until is
	// compared with. A fake's may be another, and virtual.
	Boottime() time.Duration
}

// Fence bounds how long a task may run whatever happens to the daemon.
type Fence struct {
	// Number rises with each right to run; the program gets it as HANSA_FENCE.
	Number uint64 `json:"number"`
	// Until is when nothing of the task may run any more, as the machine's
	// CLOCK_BOOTTIME, which goes on in suspend. Extend moves it.
	Until time.Duration `json:"until"`
}

// Task is one allocation to run.
type Task struct {
	// ID is opaque text, "<claim>/<slot>"; see SafeID for file names.
	ID string `json:"id"`
	// Labels are kept by the driver and given back by List: mesh, app uid,
	// namespace, app, component, slot, claim, revision, resources and
	// whatever else the node needs to re-book the task from nothing.
	Labels map[string]string `json:"labels,omitempty"`
	// Kind is one of the Kind constants, for drivers that serve several.
	Kind string `json:"kind"`

	// Exactly one of these says what to run.
	Function  *Function  `json:"function,omitempty"`
	Process   *Process   `json:"process,omitempty"`
	Container *Container `json:"container,omitempty"`
	Machine   *Machine   `json:"machine,omitempty"`

	// Artifacts maps a digest ("sha256:<hex>") to a local file that is
	// present and verified before Start. Drivers read these files, and never
	// run them in place or write to them.
	Artifacts map[string]string `json:"artifacts,omitempty"`
	// Env is the whole environment apart from what the kind adds.
	Env map[string]string `json:"env,omitempty"`
	// Ports by name.
	Ports map[string]Port `json:"ports,omitempty"`
	// Files are written before the task starts, anew at each start.
	Files []File `json:"files,omitempty"`
	// Volumes are folders of the host that exist before Start and outlive the task.
	Volumes []Volume `json:"volumes,omitempty"`
	// Host is the one of the driver's hosts to run it on, for drivers that have
	// several; "" is this machine.
	Host string `json:"host,omitempty"`
	// Devices are the accelerators that the task may use, as the host names them.
	Devices []string `json:"devices,omitempty"`

	CPU    int64 `json:"cpu,omitempty"`    // milli-CPU; 0 is no limit
	Memory int64 `json:"memory,omitempty"` // bytes; 0 is no limit
	Disk   int64 `json:"disk,omitempty"`   // bytes that it may write beside its volumes; 0 is no limit

	StopSignal string        `json:"stop_signal,omitempty"` // "SIGTERM"; default StopSignalDefault
	Grace      time.Duration `json:"grace,omitempty"`       // from stop signal to kill; default GraceDefault
	LogMax     int64         `json:"log_max,omitempty"`     // bytes of log kept; default LogMaxDefault

	// Fence is set for exclusive work, which only a Fencer gets. Nothing of the
	// task runs once Until has come, and it is not started then. Start of a
	// task that runs already extends it as Extend does.
	Fence *Fence `json:"fence,omitempty"`
}

// Function is a WebAssembly module that answers HTTP.
type Function struct {
	Module  string        `json:"module"`            // digest, a key of Task.Artifacts
	Timeout time.Duration `json:"timeout,omitempty"` // of one call; default TimeoutDefault
	// Handler names an exported function that answers requests one after another
	// in one instance; empty for an instance for each request.
	Handler string `json:"handler,omitempty"`
}

// Container is an OCI image to run.
type Container struct {
	Image string `json:"image"` // reference
	// Digest is that of the image's manifest when the mesh has it: it is taken from
	// there, and no registry is asked. Else "".
	Digest string `json:"digest,omitempty"`
	// Username and Password are for the image's registry. They are never
	// written down or logged.
	Username string   `json:"-"`
	Password string   `json:"-"`
	Command  []string `json:"command,omitempty"` // instead of the image's entry point
	Args     []string `json:"args,omitempty"`    // instead of the image's command
	User     string   `json:"user,omitempty"`
	Dir      string   `json:"dir,omitempty"`
	ReadOnly bool     `json:"read_only,omitempty"`
	CapAdd   []string `json:"cap_add,omitempty"`
	CapDrop  []string `json:"cap_drop,omitempty"`
	// Tmpfs are paths inside with the size of what can be written there; 0 is
	// the engine's default.
	Tmpfs map[string]int64 `json:"tmpfs,omitempty"`
	Pids  int              `json:"pids,omitempty"` // default PidsDefault
	// Network is shared by the tasks that name it at this host, in which Alias
	// is a name of this one.
	Network string `json:"network,omitempty"`
	Alias   string `json:"alias,omitempty"`
}

// Machine is a virtual machine. Files are digests, keys of Task.Artifacts.
type Machine struct {
	Image     string     `json:"image,omitempty"` // backing file of its first disk
	Kernel    string     `json:"kernel,omitempty"`
	Initrd    string     `json:"initrd,omitempty"`
	Append    string     `json:"append,omitempty"`
	CloudInit *CloudInit `json:"cloud_init,omitempty"` // nil without a seed
	Bridge    string     `json:"bridge,omitempty"`     // empty for user-mode networking
}

// CloudInit is what a NoCloud seed says.
type CloudInit struct {
	UserData string   `json:"user_data,omitempty"`
	SSHKeys  []string `json:"ssh_keys,omitempty"`
	Hostname string   `json:"hostname"`
}

// File is a small file inside.
type File struct {
	Path string `json:"path"` // whole, inside
	// Content is not written down or logged where it is Secret: such a file
	// lives in memory, where the runtime can have that.
	Content []byte `json:"content"`
	Mode    uint32 `json:"mode"`
	Secret  bool   `json:"secret,omitempty"`
}

// Volume is a folder of the host that a task finds at Path.
type Volume struct {
	Name   string `json:"name"`
	Path   string `json:"path,omitempty"` // inside; of a machine may be empty: it gets a disk with that name
	Source string `json:"source"`         // folder of the host
	Size   int64  `json:"size"`           // bytes
}

// Process is a program on the bare machine.
type Process struct {
	// Command is the program and its arguments. "${port.NAME}" in any word is
	// replaced by the number of the port to listen on. A relative program
	// ("./meter", "meter") that comes with an Artifact is that artifact,
	// placed under that name in the working folder.
	Command []string `json:"command"`
	// Artifact is the digest of the program, a key of Task.Artifacts; empty
	// when the machine has the program already.
	Artifact string `json:"artifact,omitempty"`
	// User is "name", "uid" or "uid:gid"; default one without privileges, where
	// the driver can change users.
	User string `json:"user,omitempty"`
	// Dir is a folder within the task's private working folder; default that
	// folder itself.
	Dir string `json:"dir,omitempty"`
}

// Port is a port that the task listens on.
type Port struct {
	Inside int    `json:"inside"`         // as the manifest has it
	Host   string `json:"host,omitempty"` // "addr:port" that was allotted on the host
}

// State of a task.
type State string

// The states; the drawing in the package comment shows the ways between them.
const (
	StateStarting State = "starting"
	StateRunning  State = "running"
	StateStopping State = "stopping"
	StateExited   State = "exited"
	StateFailed   State = "failed"
)

// Ended reports whether nothing of the task runs any more.
func (s State) Ended() bool { return s == StateExited || s == StateFailed }

// Status is what a driver knows of a task.
type Status struct {
	ID     string            `json:"id"`
	Labels map[string]string `json:"labels,omitempty"`
	State  State             `json:"state"`
	// ExitCode is 0 to 255 as the program gave it, 128 + the signal's number
	// if a signal ended it, -1 where there is none. Meaningful once Exited.
	ExitCode int `json:"exit_code"`
	// Reason is for people: "exited with code 3", "killed: out of memory
	// (limit 64Mi)". Empty while all is well.
	Reason string `json:"reason,omitempty"`
	// OOM is true if the runtime knows that the memory limit killed it.
	OOM       bool      `json:"oom,omitempty"`
	StartedAt time.Time `json:"started_at,omitzero"`
	ExitedAt  time.Time `json:"exited_at,omitzero"`
	Starts    int       `json:"starts"` // how often it was started, 1 for the first
	// Fence is the task's, with the deadline that holds now.
	Fence *Fence `json:"fence,omitempty"`
	// Fenced is true if its deadline ended it, and Overrun how long after the
	// deadline the last of it was gone, if it was: after a resume from suspend.
	Fenced  bool              `json:"fenced,omitempty"`
	Overrun time.Duration     `json:"overrun,omitempty"`
	Ports   map[string]string `json:"ports,omitempty"` // name to the "addr:port" where it is reached
}

// Event says that a task's state changed.
type Event struct {
	Driver string
	Status Status
}

// Info is what a driver offers on this machine.
type Info struct {
	Available bool   `json:"available"`
	Reason    string `json:"reason,omitempty"`  // why not, and what to do about it
	Version   string `json:"version,omitempty"` // of the runtime
	// Kinds that it serves, and the names of the runtimes within them as the
	// manifest has them ("process" and "image" of a server).
	Kinds    []string `json:"kinds"`
	Runtimes []string `json:"runtimes"`
	// Limits by resource ("cpu", "memory", "pids").
	Limits map[string]Limit `json:"limits,omitempty"`
	// Fence is true if the driver can stop a task at a deadline without the
	// daemon's help: only such a driver gets exclusive slots.
	Fence bool `json:"fence"`
	// Survives is true if tasks outlive the daemon.
	Survives bool `json:"survives"`
}

// Limit says whether a limit on a resource is enforced.
type Limit struct {
	Enforced bool   `json:"enforced"`
	Detail   string `json:"detail,omitempty"` // by what, or why not
}

// LogOptions select what Logs reads; the zero value is all that is kept.
type LogOptions struct {
	Follow bool      // go on with what comes, until the task ends
	Tail   int       // only the last so many lines; 0 is all
	Since  time.Time // only lines at or after it
}
