package placement

import (
	"slices"
	"strings"
)

// App is what a person deploys: the manifest, with quantities and durations
// parsed. The same type is read from YAML and JSON, sent on the wire and kept
// on disk.
type App struct {
	Schema     string               `json:"version,omitempty"` // "hansa/v1", or empty for the same
	Namespace  string               `json:"namespace,omitempty"`
	Name       string               `json:"app"`
	Components map[string]Component `json:"components"`
	// Image is set for a name in the mesh's registry, and Policy for what holds in
	// a namespace: they have no components, and no manifest of a person has them.
	Image  *Image           `json:"image,omitempty" hidden:"true"`
	Policy *NamespacePolicy `json:"policy,omitempty" hidden:"true"`
}

// Key is the app's namespace and name; an empty namespace is "default".
func (a App) Key() AppKey {
	ns := a.Namespace
	if ns == "" {
		ns = DefaultNamespace
	}
	return AppKey{Namespace: ns, App: a.Name}
}

// ComponentNames are the names of the components, sorted.
func (a App) ComponentNames() []string {
	names := make([]string, 0, len(a.Components))
	for name := range a.Components {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// placingOrder is names, sorted, but each after the component that it is to be
// near: where that goes is then known. In a circle the first name comes last.
func (a App) placingOrder(names map[string]bool) []string {
	var order []string
	seen := map[string]bool{}
	var visit func(string)
	visit = func(name string) {
		if seen[name] || !names[name] {
			return
		}
		seen[name] = true
		if near := a.Components[name].Place.Near; near != nil {
			visit(near.Component)
		}
		order = append(order, name)
	}
	for _, name := range sortedKeys(names) {
		visit(name)
	}
	return order
}

// DefaultNamespace is where an app goes that names none.
const DefaultNamespace = "default"

// Component is one part of an app: exactly one of Container, Function and
// Server is set. What is the same for all kinds is in contract.go.
type Component struct {
	Container *Container `json:"container,omitempty"`
	Function  *Function  `json:"function,omitempty"`
	Server    *Server    `json:"server,omitempty"`
	Replicas  *int       `json:"replicas,omitempty"` // default 1
	// Architecture names those that it runs on, as Go does ("amd64"); empty for
	// whatever its package has.
	Architecture []string             `json:"architecture,omitempty"`
	Resources    Resources            `json:"resources,omitzero"`
	Ports        map[string]int       `json:"ports,omitempty"` // name -> port inside
	Env          map[string]string    `json:"env,omitempty"`
	Secrets      map[string]SecretUse `json:"secrets,omitempty"` // name in the namespace -> where it appears
	Files        map[string]File      `json:"files,omitempty"`   // path inside -> what it holds
	Volumes      map[string]Volume    `json:"volumes,omitempty"` // name -> where it is mounted
	Health       *Health              `json:"health,omitempty"`
	Restart      *Restart             `json:"restart,omitempty"`
	Stop         StopPolicy           `json:"stop,omitzero"`
	Update       *Update              `json:"update,omitempty"`
	Place        Place                `json:"place,omitzero"`
	Disconnect   Disconnect           `json:"disconnect,omitzero"`
	Exclusive    Exclusive            `json:"exclusive,omitzero"` // at most one copy of each slot
}

// Container is an OCI image to run.
type Container struct {
	Image string `json:"image"`
	// Credentials is the name of a secret that holds "user:password" for the
	// image's registry.
	Credentials  string           `json:"credentials,omitempty"`
	Command      []string         `json:"command,omitempty"` // instead of the image's entry point
	Args         []string         `json:"args,omitempty"`    // instead of the image's command
	User         string           `json:"user,omitempty"`    // "name", "uid" or "uid:gid"; default the image's
	Dir          string           `json:"dir,omitempty"`     // working folder; default the image's
	ReadOnly     bool             `json:"read_only,omitempty"`
	Capabilities Capabilities     `json:"capabilities,omitzero"`
	Tmpfs        map[string]Bytes `json:"tmpfs,omitempty"` // path -> size
	Pids         int              `json:"pids,omitempty"`  // processes and threads; default 4096
}

// Capabilities are those of Linux that a container has beyond or below the
// engine's usual ones; "ALL" is all of them.
type Capabilities struct {
	Add  []string `json:"add,omitempty"`
	Drop []string `json:"drop,omitempty"`
}

// Function is a WebAssembly module that answers requests.
type Function struct {
	Module  string   `json:"module"`            // "sha256:…", or "./path" before upload
	Timeout Duration `json:"timeout,omitempty"` // of one request; default 10s
	// Handler names an exported function of a module that stays in memory between
	// requests; empty for a module that is run anew for each.
	Handler string `json:"handler,omitempty"`
}

// Server is a virtual machine (Image, or Kernel and Initrd) or a program on the
// bare machine (Process).
type Server struct {
	Image     Package    `json:"image,omitempty"`  // disk, qcow2 or raw, or one of a package ("NAME@DIGEST"); each slot writes to an overlay of its own
	Kernel    Package    `json:"kernel,omitempty"` // booted directly, with or without a disk
	Initrd    Package    `json:"initrd,omitempty"`
	Append    string     `json:"append,omitempty"` // to the kernel's command line
	CloudInit *CloudInit `json:"cloud_init,omitempty"`
	Bridge    string     `json:"bridge,omitempty"` // of the host; empty for a network of the machine's own
	Process   *Process   `json:"process,omitempty"`
}

// CloudInit is what a machine finds at its first boot, as a NoCloud seed.
type CloudInit struct {
	UserData string   `json:"user_data,omitempty"`
	SSHKeys  []string `json:"ssh_keys,omitempty"` // of the default user
	Hostname string   `json:"hostname,omitempty"` // default app-component-slot
}

// Process is a program on the bare machine. When Artifact is set, the first
// word of Command that equals it, or else Command[0], is that file.
type Process struct {
	Command  []string `json:"command"`
	Artifact Package  `json:"artifact,omitempty"`
	// User is "name", "uid" or "uid:gid"; default one without privileges where
	// the daemon may choose.
	User string `json:"user,omitempty"`
}

// StopPolicy says how work is ended.
type StopPolicy struct {
	Signal string   `json:"signal,omitempty"` // default SIGTERM
	Grace  Duration `json:"grace,omitempty"`  // until it is killed; default 10s
}

// Place is where a component may and would rather run.
type Place struct {
	Where  string         `json:"where,omitempty"`  // hard: a label selector
	Prefer map[string]int `json:"prefer,omitempty"` // soft: label selector -> weight -100..100
	Spread string         `json:"spread,omitempty"` // even over the values of this label ("site", "region", "peer", …)
	Near   *Near          `json:"near,omitempty"`
}

// Near asks for a place that is close to something, by round-trip time.
type Near struct {
	Component string   `json:"component,omitempty"`
	Site      string   `json:"site,omitempty"`
	RTT       Duration `json:"rtt,omitempty"` // hard limit; 0 is only a preference
}

// Disconnect is what happens when a site is cut off, as a person wrote it. What
// is left out is by the component's kind: see Component.Policy.
type Disconnect struct {
	LostAfter *Duration `json:"lost_after,omitempty"` // beyond the dead verdict
	StopAfter OrNever   `json:"stop_after,omitempty"` // without a majority of the keepers in reach; default never
	Replace   string    `json:"replace,omitempty"`    // one of Replaces
	Reconcile string    `json:"reconcile,omitempty"`  // one of Reconciles
}

// Kinds of component, and the runtimes that serve them.
const (
	KindContainer = "container"
	KindFunction  = "function"
	KindServer    = "server"

	DriverWasm    = "wasm"
	DriverProcess = "process"
	DriverDocker  = "docker"
	DriverQemu    = "qemu"
)

// Kind is what sort of component this is, or "" when it is none.
func (c Component) Kind() string {
	switch {
	case c.Container != nil:
		return KindContainer
	case c.Function != nil:
		return KindFunction
	case c.Server != nil:
		return KindServer
	}
	return ""
}

// Driver is the runtime that a host must offer to run this component.
func (c Component) Driver() string {
	switch {
	case c.Container != nil:
		return DriverDocker
	case c.Function != nil:
		return DriverWasm
	case c.Server != nil && c.Server.Process != nil:
		return DriverProcess
	case c.Server != nil:
		return DriverQemu
	}
	return ""
}

// Wanted is the number of slots.
func (c Component) Wanted() int {
	if c.Replicas == nil {
		return 1
	}
	return *c.Replicas
}

// Artifacts are the digests of all files of a component, each once; its image is
// none of them: see ImageDigest and DiskDigest.
func (c Component) Artifacts() []string { return c.artifacts(Package.Files) }

// ArtifactsOn are the digests of the files that must be at a host of an
// architecture before this component starts there, each once.
func (c Component) ArtifactsOn(arch string) []string {
	return c.artifacts(func(p Package) []string { return []string{p.For(arch)} })
}

func (c Component) artifacts(files func(Package) []string) []string {
	var digests []string
	add := func(names ...string) {
		for _, name := range names {
			if strings.HasPrefix(name, "sha256:") && !slices.Contains(digests, name) {
				digests = append(digests, name)
			}
		}
	}
	switch {
	case c.Function != nil:
		add(c.Function.Module)
	case c.Server != nil && c.Server.Process != nil:
		add(files(c.Server.Process.Artifact)...)
	case c.Server != nil:
		for _, p := range []Package{c.Server.Image, c.Server.Kernel, c.Server.Initrd} {
			add(files(p)...)
		}
	}
	return digests
}

// ImageDigests are the digests that images of the app's containers, and disks of
// its machines, are pinned to, sorted, each once.
func (a App) ImageDigests() []string {
	var digests []string
	for _, c := range a.Components {
		digests = append(digests, c.trees()...)
	}
	slices.Sort(digests)
	return slices.Compact(digests)
}

// Artifacts are the digests of the files that the app needs, sorted, each once.
func (a App) Artifacts() []string {
	var digests []string
	for _, c := range a.Components {
		digests = append(digests, c.Artifacts()...)
	}
	slices.Sort(digests)
	return slices.Compact(digests)
}
