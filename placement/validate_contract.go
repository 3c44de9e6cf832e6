package placement

import (
	"fmt"
	"path"
	"regexp"
	"strings"
	"time"
)

// Bounds of what is the same for all kinds of component.
const (
	filesMax      = 64
	fileBytesMax  = 64 << 10 // of all files of a component; the app's own bound is appBytesMax
	secretsMax    = 64
	volumesMax    = 16
	thresholdMax  = 100
	checkTimeMax  = 10 * time.Minute
	startTimeMax  = time.Hour
	budgetMax     = 1000
	pathMax       = 1024
	userDataMax   = 32 << 10
	sshKeysMax    = 32
	deadlineMax   = 24 * time.Hour
	tmpfsMax      = 32
	capsMax       = 64
	pidsMax       = 1 << 20
	appendMax     = 1024
	imageBytesMax = 512
)

var (
	userForm   = regexp.MustCompile(`^[A-Za-z0-9_][-A-Za-z0-9_.]{0,63}(:[A-Za-z0-9_][-A-Za-z0-9_.]{0,63})?$`)
	capForm    = regexp.MustCompile(`^[A-Z_]{1,40}$`)
	bridgeForm = regexp.MustCompile(`^[A-Za-z0-9][-A-Za-z0-9_.]{0,14}$`)
)

// contract checks what is the same for all kinds.
func (v *validation) contract(c Component) {
	v.health(c)
	v.restart(c.Restart)
	v.update(c.Update)
	taken := map[string]string{} // by path inside: the field
	v.files(c, taken)
	v.secrets(c, taken)
	v.volumes(c, taken)
	v.architecture(c)
}

// Architectures are those that a component may name, as Go does.
var Architectures = []string{"amd64", "arm64", "arm", "386", "riscv64", "ppc64le", "s390x", "loong64"}

func (v *validation) health(c Component) {
	h := c.Health
	if h == nil {
		return
	}
	kinds, ports := 0, "give it ports"
	if len(c.Ports) > 0 {
		ports = "one of " + strings.Join(sortedKeys(c.Ports), ", ")
	}
	port := func(field, name string) {
		kinds++
		_, known := c.Ports[name]
		switch {
		case name == "" && c.Function == nil && len(c.Ports) != 1:
			v.bad(field, nil, "which port is meant is not clear", ports)
		case name != "" && !known:
			v.bad(field, name, "the component has no such port", ports)
		}
	}
	if h.HTTP != nil {
		port(".health.http.port", h.HTTP.Port)
		if p := h.HTTP.Path; p != "" && (!strings.HasPrefix(p, "/") || len(p) > pathMax || strings.ContainsAny(p, " \r\n\x00")) {
			v.bad(".health.http.path", p, "not a path", `it begins with "/" and holds no spaces`)
		}
	}
	if h.TCP != nil {
		port(".health.tcp.port", h.TCP.Port)
		if c.Function != nil {
			v.bad(".health.tcp", nil, "a function listens on no port", "ask it by http")
		}
	}
	if h.Exec != nil {
		kinds++
		v.words(".health.exec.command", h.Exec.Command, true)
		if c.Function != nil || c.Server != nil && c.Server.Process == nil {
			v.bad(".health.exec", nil, "nothing can be run inside a "+c.Kind()+" from outside", "ask it by http or tcp")
		}
	}
	if kinds != 1 && !v.lenient {
		v.bad(".health", nil, fmt.Sprintf("a check is one of http, tcp and exec, not %d of them", kinds), "give exactly one")
	}
	v.span(".health.start_period", h.StartPeriod, startTimeMax)
	v.span(".health.interval", h.Interval, checkTimeMax)
	v.span(".health.timeout", h.Timeout, checkTimeMax)
	v.count(".health.threshold", h.Threshold, thresholdMax)
}

func (v *validation) restart(r *Restart) {
	if r == nil {
		return
	}
	if r.Budget != nil {
		v.count(".restart.budget", *r.Budget, budgetMax)
	}
	v.span(".restart.window", r.Window, deadlineMax)
	v.span(".restart.backoff", r.Backoff, startTimeMax)
	v.span(".restart.backoff_max", r.BackoffMax, startTimeMax)
}

func (v *validation) update(u *Update) {
	if u == nil {
		return
	}
	for _, a := range []struct {
		field string
		Amount
	}{{".update.max_unavailable", u.MaxUnavailable}, {".update.max_surge", u.MaxSurge}} {
		if a.N < 0 || a.N > SlotsMax || a.Percent && a.N > 100 {
			v.bad(a.field, a.String(), "out of range", `for instance 1 or "25%"`)
		}
	}
	if u.MaxUnavailable.Set && u.MaxUnavailable.N == 0 && u.MaxSurge.Set && u.MaxSurge.N == 0 {
		v.bad(".update", nil, "nothing could ever be replaced", "let max_unavailable or max_surge be at least 1")
	}
	if u.MinHealthy != nil {
		v.span(".update.min_healthy", *u.MinHealthy, startTimeMax)
	}
	if u.Deadline != nil {
		v.span(".update.deadline", *u.Deadline, deadlineMax)
	}
}

func (v *validation) span(field string, d Duration, most time.Duration) {
	if d < 0 || time.Duration(d) > most {
		v.bad(field, d.String(), "out of range", "0s to "+most.String())
	}
}

func (v *validation) count(field string, n, most int) {
	if n < 0 || n > most {
		v.bad(field, n, "out of range", fmt.Sprintf("0 to %d", most))
	}
}

func (v *validation) words(field string, words []string, needed bool) {
	size := 0
	for i, word := range words {
		if size += len(word); strings.ContainsRune(word, 0) {
			v.bad(fmt.Sprintf("%s[%d]", field, i), word, "it holds a NUL", "write it without")
		}
	}
	switch {
	case needed && (len(words) == 0 || words[0] == ""):
		v.bad(field, nil, "a command is needed", "a list: the program, then its arguments")
	case len(words) > wordsMax || size > wordsBytesMax:
		v.bad(field, len(words), "too long", fmt.Sprintf("at most %d words of %d bytes in all", wordsMax, wordsBytesMax))
	}
}

// inside checks a path that something is to be found at, and that nothing else
// is there.
func (v *validation) inside(field, name string, taken map[string]string) {
	switch other := taken[path.Clean(name)]; {
	case !strings.HasPrefix(name, "/") || path.Clean(name) != name || name == "/" || len(name) > pathMax || strings.ContainsAny(name, "\x00\n:,"):
		v.bad(field, name, "not a path inside", `write for instance "/etc/shop/config.yaml": whole, and without "..", ":" and ","`)
	case other != "":
		v.bad(field, name, "it is taken by "+other, "choose another path")
	default:
		taken[name] = strings.TrimPrefix(field, ".")
	}
}

func (v *validation) files(c Component, taken map[string]string) {
	size := 0
	for _, name := range sortedKeys(c.Files) {
		f := c.Files[name]
		size += len(name) + len(f.Content)
		v.inside(".files."+clip(name), name, taken)
		if _, err := FileMode(f.Mode, 0); err != nil {
			v.bad(".files."+clip(name)+".mode", f.Mode, "not a mode", `octal, for instance "0644"`)
		}
	}
	if len(c.Files) > filesMax || size > fileBytesMax {
		v.bad(".files", len(c.Files), "too large", fmt.Sprintf("at most %d files of %d bytes in all; put large ones into the image, or an artifact", filesMax, fileBytesMax))
	}
	if c.Function != nil && len(c.Files) > 0 {
		v.bad(".files", nil, "a function has no files", "give it variables")
	}
}

func (v *validation) secrets(c Component, taken map[string]string) {
	if len(c.Secrets) > secretsMax {
		v.bad(".secrets", len(c.Secrets), "too many", fmt.Sprintf("at most %d", secretsMax))
		return
	}
	variables := map[string]string{}
	for _, name := range sortedKeys(c.Secrets) {
		use, field := c.Secrets[name], ".secrets."+clip(name)
		if !nameForm.MatchString(name) {
			v.bad(".secrets", name, "not a name", nameRule)
		}
		if use.Env == "" && use.File == "" && !v.lenient {
			v.bad(field, nil, "it appears nowhere", "give env, file or both")
		}
		if use.Env != "" {
			v.variable(field+".env", use.Env)
			if _, twice := c.Env[use.Env]; twice {
				v.bad(field+".env", use.Env, "env sets this variable too", "choose another name")
			}
			if other := variables[use.Env]; other != "" {
				v.bad(field+".env", use.Env, "secret "+other+" sets this variable too", "choose another name")
			}
			variables[use.Env] = name
		}
		if use.File != "" {
			v.inside(field+".file", use.File, taken)
			if c.Function != nil {
				v.bad(field+".file", use.File, "a function has no files", "give it a variable")
			}
		}
		if _, err := FileMode(use.Mode, 0); err != nil {
			v.bad(field+".mode", use.Mode, "not a mode", `octal, for instance "0400"`)
		}
	}
	if c.Container != nil && c.Container.Credentials != "" && !nameForm.MatchString(c.Container.Credentials) {
		v.bad(".container.credentials", c.Container.Credentials, "not the name of a secret", nameRule)
	}
}

func (v *validation) volumes(c Component, taken map[string]string) {
	if len(c.Volumes) > volumesMax {
		v.bad(".volumes", len(c.Volumes), "too many", fmt.Sprintf("at most %d", volumesMax))
		return
	}
	if c.Function != nil && len(c.Volumes) > 0 {
		v.bad(".volumes", nil, "a function keeps nothing between requests", "let a server or a container keep it")
	}
	if n := c.Need().Disk; n < 0 || int64(n) > bytesMax {
		v.bad(".volumes", len(c.Volumes), "too large with resources.disk", "at most 4Ti in all")
	}
	for _, name := range sortedKeys(c.Volumes) {
		vol, field := c.Volumes[name], ".volumes."+clip(name)
		if !nameForm.MatchString(name) {
			v.bad(".volumes", name, "not a name", nameRule)
		}
		if vol.Path != "" || c.Server == nil || c.Server.Process != nil {
			v.inside(field+".path", vol.Path, taken)
		}
		if vol.Size <= 0 || int64(vol.Size) > bytesMax {
			v.bad(field+".size", vol.Size.String(), "out of range", "more than 0, at most 4Ti, for instance 10Gi")
		}
	}
}

func (v *validation) container(c *Container) {
	const field = ".container"
	switch {
	case c.Image == "":
		v.bad(field+".image", nil, "a container needs an image", `a reference, for instance "nginx:1.29"`)
	case len(c.Image) > imageBytesMax || strings.ContainsAny(c.Image, " \t\r\n\x00") || strings.HasPrefix(c.Image, "-"):
		v.bad(field+".image", c.Image, "not a reference", `for instance "nginx:1.29" or "registry.example/shop/api@sha256:…"`)
	}
	v.words(field+".command", c.Command, false)
	v.words(field+".args", c.Args, false)
	v.user(field+".user", c.User)
	if c.Dir != "" && (!strings.HasPrefix(c.Dir, "/") || len(c.Dir) > pathMax) {
		v.bad(field+".dir", c.Dir, "not a whole path", `it begins with "/"`)
	}
	for _, list := range []struct {
		field string
		caps  []string
	}{{".capabilities.add", c.Capabilities.Add}, {".capabilities.drop", c.Capabilities.Drop}} {
		if len(list.caps) > capsMax {
			v.bad(field+list.field, len(list.caps), "too many", fmt.Sprintf("at most %d", capsMax))
		}
		for i, name := range list.caps[:min(len(list.caps), capsMax)] {
			if !capForm.MatchString(name) {
				v.bad(fmt.Sprintf("%s%s[%d]", field, list.field, i), name, "not a capability", `for instance "NET_BIND_SERVICE" or "ALL"`)
			}
		}
	}
	if len(c.Tmpfs) > tmpfsMax {
		v.bad(field+".tmpfs", len(c.Tmpfs), "too many", fmt.Sprintf("at most %d", tmpfsMax))
	}
	for _, name := range sortedKeys(c.Tmpfs) {
		v.inside(field+".tmpfs."+clip(name), name, map[string]string{})
		if n := c.Tmpfs[name]; n < 0 || int64(n) > bytesMax {
			v.bad(field+".tmpfs."+clip(name), n.String(), "out of range", "for instance 64Mi")
		}
	}
	v.count(field+".pids", c.Pids, pidsMax)
}

func (v *validation) user(field, user string) {
	if user != "" && !userForm.MatchString(user) {
		v.bad(field, user, "not a user", `"name", "uid" or "uid:gid"`)
	}
}

func (v *validation) machine(s *Server) {
	const field = ".server"
	if s.Image == "" && s.Kernel == "" && !v.lenient {
		v.bad(field, nil, "a server needs something to run", "give image (a disk), kernel, or process")
		return
	}
	for _, f := range []struct {
		field string
		files Package
	}{{".image", s.Image}, {".kernel", s.Kernel}, {".initrd", s.Initrd}} {
		if f.files != "" {
			v.packageFile(field+f.field, f.files)
		}
	}
	if s.Kernel == "" && (s.Initrd != "" || s.Append != "") {
		v.bad(field, nil, "initrd and append go with a kernel", "give the kernel too, or leave them out")
	}
	if len(s.Append) > appendMax || strings.ContainsAny(s.Append, "\x00\n") {
		v.bad(field+".append", len(s.Append), "not a kernel's command line", fmt.Sprintf("one line of at most %d bytes", appendMax))
	}
	if s.Bridge != "" && !bridgeForm.MatchString(s.Bridge) {
		v.bad(field+".bridge", s.Bridge, "not the name of a bridge", `for instance "br0"`)
	}
	if ci := s.CloudInit; ci != nil {
		if len(ci.UserData) > userDataMax {
			v.bad(field+".cloud_init.user_data", len(ci.UserData), "too large", fmt.Sprintf("at most %d bytes", userDataMax))
		}
		if len(ci.SSHKeys) > sshKeysMax {
			v.bad(field+".cloud_init.ssh_keys", len(ci.SSHKeys), "too many", fmt.Sprintf("at most %d", sshKeysMax))
		}
		for i, key := range ci.SSHKeys[:min(len(ci.SSHKeys), sshKeysMax)] {
			if len(key) > 8<<10 || strings.ContainsAny(key, "\r\n\x00") || len(strings.Fields(key)) < 2 {
				v.bad(fmt.Sprintf("%s.cloud_init.ssh_keys[%d]", field, i), key, "not a public key", "one line, as in authorized_keys")
			}
		}
		if ci.Hostname != "" && !nameForm.MatchString(ci.Hostname) {
			v.bad(field+".cloud_init.hostname", ci.Hostname, "not a name", nameRule)
		}
	}
}
