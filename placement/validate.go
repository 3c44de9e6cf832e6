package placement

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Bounds of an app. They are far above what is useful, and keep any one app
// from being a burden to the peers that hold it.
const (
	ComponentsMax = 256
	portsMax      = 64
	envMax        = 256
	envBytesMax   = 64 << 10
	wordsMax      = 256 // of a command
	wordsBytesMax = 64 << 10
	prefersMax    = 32
	cpuMax        = 1 << 20 // milli: a thousand cores
	bytesMax      = 1 << 42 // times SlotsMax it fits in an int64
	timeoutMax    = time.Hour
	handlerMax    = 255 // bytes of a name
	graceMax      = time.Hour
	appBytesMax   = 128 << 10 // encoded; an intent has more around it (intentBytesMax)
	valueShown    = 80
)

// FieldError says what is wrong with one field of an app, and what to write
// instead.
type FieldError struct {
	Field   string // "components.api.replicas"
	Value   any    // what it holds; nil when that says nothing
	Problem string
	Fix     string
}

// Error is one line.
func (e FieldError) Error() string {
	text := e.Field
	if e.Value != nil {
		text += fmt.Sprintf(" %.*v", valueShown, e.Value)
	}
	text += ": " + e.Problem
	if e.Fix != "" {
		text += ": " + e.Fix
	}
	return text
}

// FieldErrors are all that is wrong with an app. It wraps ErrInvalid.
type FieldErrors []FieldError

// Error is a line for each.
func (e FieldErrors) Error() string {
	lines := make([]string, len(e))
	for i, f := range e {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap says that it is the person's mistake.
func (e FieldErrors) Unwrap() error { return ErrInvalid }

var (
	nameForm  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	envForm   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,127}$`)
	labelForm = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_./]{0,126}[A-Za-z0-9])?$`)
	// portWord is a piece of a command that is replaced: "${port.http}"; "$${"
	// is a literal "${".
	portWord = regexp.MustCompile(`\$?\$\{[^}]*\}`)
)

// StopSignals are what work can be asked to end with.
var StopSignals = []string{"SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGABRT", "SIGWINCH", "SIGKILL"}

// ownEnv are the variables that every allocation is given by the mesh; beside
// them HANSA_PORT_….
var ownEnv = []string{"HANSA_MESH", "HANSA_SITE", "HANSA_PEER", "HANSA_NAMESPACE", "HANSA_APP", "HANSA_COMPONENT",
	"HANSA_SLOT", "HANSA_ALLOCATION", "HANSA_FENCE"}

const nameRule = "1 to 63 lower-case letters, digits and hyphens, with a letter or digit at both ends"

// Validate says what is wrong with an app that is about to be submitted: nil
// or FieldErrors, all of them at once. Features that this release does not
// have are refused, so that nothing is silently left out.
func (a App) Validate() error {
	if a.recorded() || a.Key().Recorded() {
		return FieldErrors{{Field: "namespace", Value: a.Key().Namespace, Problem: "no app can be there", Fix: "choose another namespace; names of images are pushed, and policies have a call of their own"}}
	}
	return a.validate(false)
}

// bounded says what is out of bounds in an app that somebody else submitted.
// What this release does not have is none of that.
func (a App) bounded() error {
	if a.recorded() {
		return a.checkRecorded(true)
	}
	return a.validate(true)
}

func (a App) validate(lenient bool) error {
	v := &validation{lenient: lenient}
	if !lenient && a.Schema != "" && a.Schema != "hansa/v1" {
		v.bad("version", a.Schema, "not a version that this peer reads", `write "hansa/v1", or leave it out`)
	}
	v.name("app", a.Key().App)
	v.name("namespace", a.Key().Namespace)
	switch n := len(a.Components); {
	case n == 0:
		v.bad("components", nil, "an app needs at least one component", "name one, with a container, a function or a server")
	case n > ComponentsMax:
		v.bad("components", n, fmt.Sprintf("at most %d components", ComponentsMax), "make several apps")
		return v.errs
	}
	for _, name := range a.ComponentNames() {
		at := v.at("components." + clip(name))
		if !nameForm.MatchString(name) {
			at.bad("", name, "not a name", nameRule)
		}
		at.component(a.Components[name], a)
		v.errs = at.errs
	}
	if !lenient {
		v.oneSelector(a)
	}
	if !lenient && len(v.errs) == 0 {
		if n := len(Encode(a)); n > appBytesMax {
			v.bad("components", n, fmt.Sprintf("the app takes %d bytes, at most %d", n, appBytesMax), "make several apps, or put large values into an artifact")
		}
	}
	if n := len(a.Artifacts()); n > artifactsMax {
		v.bad("components", n, fmt.Sprintf("at most %d files", artifactsMax), "make several apps")
	}
	if len(v.errs) == 0 {
		return nil
	}
	return v.errs
}

// validation gathers what is wrong below one field.
type validation struct {
	path    string
	lenient bool // what only another release has is let pass
	errs    FieldErrors
}

func (v *validation) at(field string) *validation {
	return &validation{path: v.path + field, lenient: v.lenient, errs: v.errs}
}

func (v *validation) bad(field string, value any, problem, fix string) {
	if s, ok := value.(string); ok && len(s) > valueShown {
		value = s[:valueShown] + "…"
	}
	v.errs = append(v.errs, FieldError{Field: v.path + field, Value: value, Problem: problem, Fix: fix})
}

func (v *validation) name(field, value string) {
	if !nameForm.MatchString(value) {
		v.bad(field, value, "not a name", nameRule)
	}
}

func (v *validation) component(c Component, a App) {
	kinds := 0
	for _, set := range []bool{c.Container != nil, c.Function != nil, c.Server != nil} {
		if set {
			kinds++
		}
	}
	if kinds != 1 && !v.lenient {
		v.bad("", nil, fmt.Sprintf("a component is one of container, function and server, not %d of them", kinds), "give exactly one")
		return
	}
	if kinds == 1 {
		v.kind(c)
	}
	if n := c.Wanted(); n < 0 || n > SlotsMax {
		v.bad(".replicas", n, "out of range", fmt.Sprintf("0 to %d", SlotsMax))
	}
	v.resources(c.Resources)
	v.gpu(c)
	v.ports(c)
	v.env(c.Env)
	v.contract(c)
	v.place(c.Place, a)
	v.ending(c)
	v.exclusive(c)
}

func (v *validation) kind(c Component) {
	switch {
	case c.Container != nil:
		v.container(c.Container)
	case c.Function != nil:
		v.file(".function.module", c.Function.Module, true)
		if h := c.Function.Handler; len(h) > handlerMax || strings.ContainsFunc(h, func(r rune) bool { return r <= ' ' || r > '~' }) {
			v.bad(".function.handler", h, "not the name of an exported function", fmt.Sprintf("at most %d letters, digits and signs, as the module exports it", handlerMax))
		}
		if t := time.Duration(c.Function.Timeout); t < 0 || t > timeoutMax {
			v.bad(".function.timeout", t.String(), "out of range", "more than 0, at most "+timeoutMax.String())
		}
	case c.Server.Process == nil:
		v.machine(c.Server)
	case c.Server.Image != "" || c.Server.Kernel != "":
		v.bad(".server", nil, "a server is a machine or a process, not both", "leave image and kernel out, or process")
	default:
		v.process(c.Server.Process, c.Ports)
	}
}

func (v *validation) process(p *Process, ports map[string]int) {
	const field = ".server.process"
	for i, word := range p.Command {
		for _, piece := range portWord.FindAllString(word, -1) {
			name, isPort := strings.CutPrefix(strings.TrimSuffix(piece, "}"), "${port.")
			if _, known := ports[name]; !strings.HasPrefix(piece, "$$") && (!isPort || !known) {
				v.bad(fmt.Sprintf("%s.command[%d]", field, i), piece, "it names no port of the component",
					`"${port.NAME}" with a name from ports, or "$${" for a literal "${"`)
			}
		}
	}
	v.words(field+".command", p.Command, true)
	v.user(field+".user", p.User)
	if p.Artifact != "" {
		v.packageFile(field+".artifact", p.Artifact)
	}
}

// file is a digest; files by path are for who uploads them first.
func (v *validation) file(field, name string, needed bool) {
	switch {
	case strings.HasPrefix(field, ".server.image") && pinnedTo(name) != "":
		if err := checkPinned(name); err != nil && !v.lenient {
			v.bad(field, name, "not a name in the registry", `"NAME@sha256:…", as hansa deploy of a package makes it`)
		}
	case strings.HasPrefix(name, "sha256:"):
		if d, err := hex.DecodeString(name[len("sha256:"):]); err != nil || len(d) != 32 || strings.ToLower(name) != name {
			v.bad(field, name, "not a digest", `write "sha256:" and 64 hexadecimal digits in lower case`)
		}
	case strings.HasPrefix(name, ".") || strings.HasPrefix(name, "/"):
		v.bad(field, name, "a file can't be named here", "upload it to /v1/artifacts and name its digest; hansa deploy does so by itself")
	case needed:
		v.bad(field, name, "a function needs a module by its digest", `"sha256:…", or a "./path" with hansa deploy`)
	default:
		v.bad(field, name, "not a digest", `"sha256:…", or a "./path" with hansa deploy`)
	}
}

func (v *validation) resources(r Resources) {
	for _, q := range []struct {
		field   string
		n, most int64
		text    fmt.Stringer
		fix     string
	}{
		{".resources.cpu", int64(r.CPU), cpuMax, r.CPU, "at most 1048 cores, for instance 250m or 2"},
		{".resources.memory", int64(r.Memory), bytesMax, r.Memory, "at most 4Ti, for instance 64Mi or 2Gi"},
		{".resources.disk", int64(r.Disk), bytesMax, r.Disk, "at most 4Ti, for instance 10Gi"},
	} {
		switch {
		case q.n < 0:
			v.bad(q.field, q.text.String(), "below 0", "leave out what is not needed")
		case q.n > q.most:
			v.bad(q.field, q.text.String(), "more than any host has", q.fix)
		}
	}
}

func (v *validation) ports(c Component) {
	if len(c.Ports) > portsMax {
		v.bad(".ports", len(c.Ports), "too many", fmt.Sprintf("at most %d", portsMax))
		return
	}
	if c.Function != nil && len(c.Ports) > 0 {
		v.bad(".ports", nil, "a function is called, and listens on no port", "leave them out; hansa invoke calls it")
	}
	for _, name := range sortedKeys(c.Ports) {
		if !nameForm.MatchString(name) {
			v.bad(".ports", name, "not a name", nameRule)
		}
		if n := c.Ports[name]; n < 1 || n > 65535 {
			v.bad(".ports."+clip(name), n, "not a port", "1 to 65535")
		}
	}
}

func (v *validation) env(env map[string]string) {
	size := 0
	for _, name := range sortedKeys(env) {
		value := env[name]
		size += len(name) + len(value)
		if v.variable(".env", name) && strings.ContainsRune(value, 0) {
			v.bad(".env."+name, nil, "it holds a NUL", "write it without")
		}
	}
	if len(env) > envMax || size > envBytesMax {
		v.bad(".env", len(env), "too large", fmt.Sprintf("at most %d variables of %d bytes in all", envMax, envBytesMax))
	}
}

// variable checks the name of one.
func (v *validation) variable(field, name string) bool {
	switch {
	case !envForm.MatchString(name):
		v.bad(field, name, "not the name of a variable", "letters, digits and underscores, not a digit first")
	case slices.Contains(ownEnv, name) || strings.HasPrefix(name, "HANSA_PORT_"):
		v.bad(field, name, "the mesh sets this variable itself", "choose another name")
	default:
		return true
	}
	return false
}

func (v *validation) place(p Place, a App) {
	if _, err := ParseSelector(p.Where); err != nil {
		v.bad(".place.where", p.Where, "not a selector: "+err.Error(), `for instance "tier=edge", "region in (eu, us)", "!gpu"`)
	}
	if len(p.Prefer) > prefersMax {
		v.bad(".place.prefer", len(p.Prefer), "too many", fmt.Sprintf("at most %d", prefersMax))
		return
	}
	for _, text := range sortedKeys(p.Prefer) {
		if _, err := ParseSelector(text); err != nil || text == "" {
			v.bad(".place.prefer", text, "not a selector", `for instance "tier=edge"`)
		}
		if w := p.Prefer[text]; w < -100 || w > 100 {
			v.bad(".place.prefer."+clip(text), w, "out of range", "-100 to 100; below 0 is to be avoided")
		}
	}
	if p.Spread != "" && !labelForm.MatchString(p.Spread) {
		v.bad(".place.spread", p.Spread, "not the name of a label", `"site", "region", "peer", or a label of yours`)
	}
	if n := p.Near; n != nil {
		switch {
		case (n.Component == "") == (n.Site == ""):
			v.bad(".place.near", nil, "it is near one thing", "give component or site, and not both")
		case n.Component != "" && v.path == "components."+n.Component:
			v.bad(".place.near.component", n.Component, "it would be near itself", "name another component, or a site")
		case n.Component != "" && a.Components[n.Component].Kind() == "":
			v.bad(".place.near.component", n.Component, "the app has no such component", "one of "+strings.Join(a.ComponentNames(), ", "))
		case n.RTT < 0:
			v.bad(".place.near.rtt", time.Duration(n.RTT).String(), "below 0", "for instance 20ms; leave it out for a wish only")
		}
	}
}

// ending is how work stops, and what becomes of it when its site is cut off.
func (v *validation) ending(c Component) {
	if s := c.Stop.Signal; s != "" && !slices.Contains(StopSignals, s) {
		v.bad(".stop.signal", s, "not a signal that ends work", "one of "+strings.Join(StopSignals, ", "))
	}
	if g := time.Duration(c.Stop.Grace); g < 0 || g > graceMax {
		v.bad(".stop.grace", g.String(), "out of range", "0 to "+graceMax.String())
	}
	v.disconnect(c.Disconnect)
}
