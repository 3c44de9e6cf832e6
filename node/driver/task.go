package driver

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Validate reports why no driver could run the task; the error wraps
// ErrInvalid.
func (t *Task) Validate() error {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("%w %q: %s", ErrInvalid, t.ID, fmt.Sprintf(format, args...))
	}
	switch {
	case t.ID == "":
		return invalid("it has no id")
	case len(t.ID) > IDBytesMax:
		return fmt.Errorf("%w: its id is %d bytes long, over %d", ErrInvalid, len(t.ID), IDBytesMax)
	case len(t.Labels) > LabelsMax:
		return invalid("%d labels are over %d", len(t.Labels), LabelsMax)
	case len(t.Env) > EnvMax:
		return invalid("%d variables are over %d", len(t.Env), EnvMax)
	case len(t.Ports) > PortsMax:
		return invalid("%d ports are over %d", len(t.Ports), PortsMax)
	case t.Fence != nil && t.Fence.Until <= 0:
		return invalid("its fence has no deadline")
	case len(t.Files) > FilesMax || len(t.Volumes) > VolumesMax || len(t.Devices) > DevicesMax:
		return invalid("more than %d files, %d volumes or %d devices", FilesMax, VolumesMax, DevicesMax)
	case t.CPU < 0 || t.Memory < 0 || t.Disk < 0 || t.Grace < 0 || t.LogMax < 0:
		return invalid("cpu, memory, disk, grace and the log's size can't be negative")
	case t.runs() != 1:
		return invalid("it must have exactly one of function, process, container and machine")
	}
	size := 0
	for k, v := range t.Env {
		if k == "" || strings.ContainsAny(k, "=\x00") || strings.ContainsRune(v, 0) {
			return invalid("the variable %q has a name or a value that no environment can hold", k)
		}
		size += len(k) + len(v) + 2
	}
	if size > EnvBytesMax {
		return invalid("its environment has %d bytes, over %d", size, EnvBytesMax)
	}
	for name, p := range t.Ports {
		if _, err := p.number(); err != nil {
			return invalid("port %q: %v", name, err)
		}
	}
	for _, digest := range t.needs() {
		if t.Artifacts[digest] == "" {
			return invalid("the artifact %q is not among the artifacts", digest)
		}
	}
	switch {
	case t.Function != nil && t.Function.Timeout < 0:
		return invalid("the timeout can't be negative")
	case t.Container != nil && t.Container.Image == "":
		return invalid("it has no image")
	case t.Machine != nil && t.Machine.Image == "" && t.Machine.Kernel == "":
		return invalid("it has neither an image nor a kernel")
	case t.Process == nil:
		return nil
	}
	p := t.Process
	if len(p.Command) == 0 || p.Command[0] == "" {
		return invalid("it has no command")
	}
	if len(p.Command) > CommandMax {
		return invalid("%d words of command are over %d", len(p.Command), CommandMax)
	}
	for _, word := range p.Command {
		if strings.ContainsRune(word, 0) {
			return invalid("a word of the command holds a NUL byte")
		}
	}
	return nil
}

// runs is how many things the task is to run.
func (t *Task) runs() (n int) {
	for _, set := range []bool{t.Function != nil, t.Process != nil, t.Container != nil, t.Machine != nil} {
		if set {
			n++
		}
	}
	return n
}

// needs is the digests that the task's runtime opens.
func (t *Task) needs() []string {
	var all []string
	switch {
	case t.Function != nil:
		return []string{t.Function.Module}
	case t.Process != nil:
		all = []string{t.Process.Artifact}
	case t.Machine != nil:
		all = []string{t.Machine.Image, t.Machine.Kernel, t.Machine.Initrd}
	}
	return slices.DeleteFunc(all, func(digest string) bool { return digest == "" })
}

// Clone returns a copy that shares nothing that can be changed.
func (t Task) Clone() Task {
	t.Labels, t.Artifacts = maps.Clone(t.Labels), maps.Clone(t.Artifacts)
	t.Env, t.Ports = maps.Clone(t.Env), maps.Clone(t.Ports)
	if t.Function != nil {
		f := *t.Function
		t.Function = &f
	}
	if t.Process != nil {
		p := *t.Process
		p.Command = append([]string(nil), p.Command...)
		t.Process = &p
	}
	if t.Container != nil {
		c := *t.Container
		c.Command, c.Args = slices.Clone(c.Command), slices.Clone(c.Args)
		c.CapAdd, c.CapDrop, c.Tmpfs = slices.Clone(c.CapAdd), slices.Clone(c.CapDrop), maps.Clone(c.Tmpfs)
		t.Container = &c
	}
	if t.Machine != nil {
		m := *t.Machine
		if m.CloudInit != nil {
			ci := *m.CloudInit
			ci.SSHKeys = slices.Clone(ci.SSHKeys)
			m.CloudInit = &ci
		}
		t.Machine = &m
	}
	t.Files, t.Volumes, t.Devices = slices.Clone(t.Files), slices.Clone(t.Volumes), slices.Clone(t.Devices)
	if t.Fence != nil {
		f := *t.Fence
		t.Fence = &f
	}
	return t
}

// WithDefaults returns the task with its zero fields filled in.
func (t Task) WithDefaults() Task {
	if t.StopSignal == "" {
		t.StopSignal = StopSignalDefault
	}
	if t.Grace == 0 {
		t.Grace = GraceDefault
	}
	if t.LogMax == 0 {
		t.LogMax = LogMaxDefault
	}
	if t.Container != nil && t.Container.Pids == 0 {
		c := *t.Container
		c.Pids = PidsDefault
		t.Container = &c
	}
	if t.Function != nil && t.Function.Timeout == 0 {
		f := *t.Function
		f.Timeout = TimeoutDefault
		t.Function = &f
	}
	return t
}

// HostPorts returns where each port is reached, for Status.Ports.
func (t *Task) HostPorts() map[string]string {
	if len(t.Ports) == 0 {
		return nil
	}
	m := make(map[string]string, len(t.Ports))
	for name, p := range t.Ports {
		if p.Host != "" {
			m[name] = p.Host
		} else if n, err := p.number(); err == nil {
			m[name] = net.JoinHostPort("127.0.0.1", strconv.Itoa(n))
		}
	}
	return m
}

// number is the port that a program on the bare machine must listen on: there
// is no translation, so it is the host's if one was allotted.
func (p Port) number() (int, error) {
	if p.Host == "" {
		if p.Inside < 1 || p.Inside > 65535 {
			return 0, fmt.Errorf("%d is not a port", p.Inside)
		}
		return p.Inside, nil
	}
	_, s, err := net.SplitHostPort(p.Host)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q is not a port", s)
	}
	return int(n), nil
}

// ListenPort returns the number of the named port that a program without a
// network of its own must listen on.
func (t *Task) ListenPort(name string) (int, bool) {
	p, ok := t.Ports[name]
	if !ok {
		return 0, false
	}
	n, err := p.number()
	return n, err == nil
}

// PortEnv is the name of the variable that holds the number of a port:
// "http-alt" is HANSA_PORT_HTTP_ALT.
func PortEnv(name string) string {
	return "HANSA_PORT_" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name)
}

// FenceEnv is the variable that holds Fence.Number.
const FenceEnv = "HANSA_FENCE"

// Environment returns the task's environment with HANSA_PORT_<NAME> added for
// every port, unless Task.Env sets it, and HANSA_FENCE if there is a fence,
// whatever Task.Env says: a store is to believe it.
func (t *Task) Environment() map[string]string {
	env := make(map[string]string, len(t.Env)+len(t.Ports))
	for name := range t.Ports {
		if n, ok := t.ListenPort(name); ok {
			env[PortEnv(name)] = strconv.Itoa(n)
		}
	}
	maps.Copy(env, t.Env)
	if t.Fence != nil {
		env[FenceEnv] = strconv.FormatUint(t.Fence.Number, 10)
	}
	return env
}

var placeholder = regexp.MustCompile(`\$\{[^}]*\}`)

// ExpandCommand replaces "${port.NAME}" in the words of the process's command
// by the number of the port to listen on. Any other "${…}" is refused, since
// it would otherwise reach the program by mistake; "$${" is a literal "${".
func (t *Task) ExpandCommand() ([]string, error) {
	out := make([]string, len(t.Process.Command))
	for i, word := range t.Process.Command {
		var bad error
		pieces := strings.Split(word, "$${")
		for j := range pieces {
			pieces[j] = placeholder.ReplaceAllStringFunc(pieces[j], func(s string) string {
				name, isPort := strings.CutPrefix(s[2:len(s)-1], "port.")
				if n, ok := t.ListenPort(name); isPort && ok {
					return strconv.Itoa(n)
				}
				bad = fmt.Errorf("%w %q: %s in the command names no port of it", ErrInvalid, t.ID, s)
				return s
			})
		}
		if bad != nil {
			return nil, bad
		}
		out[i] = strings.Join(pieces, "${")
	}
	return out, nil
}

// SafeID turns an id into a name that is safe as a file, a cgroup or a label
// on every system, and different for different ids: letters, digits, "-" and
// "_" stay, "/" becomes "." and anything else forces a hash.
func SafeID(id string) string {
	const nameMax = 100
	plain := len(id) > 0 && len(id) <= nameMax && id[0] != '/' && id[0] != '-'
	var b strings.Builder
	for _, c := range []byte(id) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
			b.WriteByte(c)
		case c == '/':
			b.WriteByte('.')
		default:
			plain = false
			b.WriteByte('_')
		}
	}
	if plain {
		return b.String()
	}
	sum := sha256.Sum256([]byte(id))
	s := b.String()
	if len(s) > 40 {
		s = s[:40]
	}
	if s = strings.Trim(s, ".-"); s == "" {
		s = "id"
	}
	return s + "..." + hex.EncodeToString(sum[:12])
}

// Mark is short text that tells apart what is of one driver where others keep
// theirs too (cgroups, containers, /dev/shm): of its folder, or its scope.
func Mark(of string) string {
	sum := sha256.Sum256([]byte(of))
	return hex.EncodeToString(sum[:5])
}

// LogLine is one line of a log, as Logs gives it, in the form that Kubernetes
// uses: an RFC 3339 time with nanoseconds, the stream, "F" (whole) or "P" (a
// piece: the line goes on in the next one), and the text.
//
//	2026-01-02T15:04:05.000000006Z stdout F listening on :8080
type LogLine struct {
	Time    time.Time
	Stream  string // "stdout", "stderr", or "hansa" for what the driver itself adds
	Partial bool
	Text    string
}

const logTime = "2006-01-02T15:04:05.000000000Z07:00"

// Append adds the line in its text form, with the newline, to b.
func (l LogLine) Append(b []byte) []byte {
	b = l.Time.UTC().AppendFormat(b, logTime)
	b = append(b, ' ')
	b = append(b, l.Stream...)
	if l.Partial {
		b = append(b, " P "...)
	} else {
		b = append(b, " F "...)
	}
	b = append(b, l.Text...)
	return append(b, '\n')
}

// ParseLogLine reads a line as Append writes it, with or without the newline.
func ParseLogLine(s string) (LogLine, error) {
	s = strings.TrimSuffix(s, "\n")
	stamp, rest, ok := strings.Cut(s, " ")
	stream, rest, ok2 := strings.Cut(rest, " ")
	tag, text, ok3 := strings.Cut(rest, " ")
	if !ok || !ok2 || !ok3 || (tag != "F" && tag != "P") {
		return LogLine{}, fmt.Errorf("parse log line: %.40q is not one", s)
	}
	at, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil {
		return LogLine{}, fmt.Errorf("parse log line: %w", err)
	}
	return LogLine{Time: at, Stream: stream, Partial: tag == "P", Text: text}, nil
}

// ExitReason is the reason of a status for a program that ended with a code
// other than 0.
func ExitReason(code int) string {
	if code > 128 && code < 128+65 {
		return fmt.Sprintf("ended by signal %d", code-128)
	}
	return fmt.Sprintf("exited with code %d", code)
}

// FencedReason is the reason of a status for a task that its deadline ended,
// overrun after it.
func FencedReason(overrun time.Duration) string {
	if overrun <= 0 {
		return "its lease ran out"
	}
	return fmt.Sprintf("its lease ran out, and it ran on for %v: was the machine suspended?", overrun.Round(time.Millisecond))
}
