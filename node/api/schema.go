package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/hansa-mesh/hansa/placement"
)

// ManifestSchema is the JSON Schema of a manifest, from the types that read it.
func ManifestSchema() ([]byte, error) {
	defs := huma.NewMapRegistry("#/$defs/", huma.DefaultSchemaNamer)
	aliasQuantities(defs)
	root := defs.Schema(reflect.TypeFor[placement.App](), true, "")
	describeManifest(defs.Map(), "")
	for _, name := range []string{"Image", "NamespacePolicy", "SignatureRule"} { // of hidden fields
		delete(defs.Map(), name)
	}
	doc := map[string]any{
		"$schema":     "https://json-schema.org/draft/2020-12/schema",
		"title":       "Hansa manifest",
		"description": "One app: what a person deploys.",
		"$ref":        root.Ref,
		"$defs":       defs.Map(),
	}
	data, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("manifest schema: %w", err)
	}
	return append(data, '\n'), nil
}

// describeManifest adds to the schemas of a manifest's types, whose names begin
// with prefix, what the types do not say.
func describeManifest(defs map[string]*huma.Schema, prefix string) {
	for name, f := range manifestFields {
		owner, field, _ := strings.Cut(name, ".")
		schema := defs[prefix+owner].Properties[field]
		if schema.Ref != "" {
			schema = &huma.Schema{Ref: schema.Ref} // of this field's own
		}
		schema.Description, schema.Default = f.text, f.value
		for _, value := range f.oneOf {
			schema.Enum = append(schema.Enum, value)
		}
		scalar := schema
		if schema.AdditionalProperties != nil && schema.Type == huma.TypeObject && f.most != 0 {
			scalar = schema.AdditionalProperties.(*huma.Schema)
		}
		if f.most != 0 {
			least, most := float64(f.least), float64(f.most)
			scalar.Minimum, scalar.Maximum = &least, &most
		}
		if f.name {
			schema.Pattern, schema.PatternDescription = namePattern, NameRule
		}
		defs[prefix+owner].Properties[field] = schema
	}
	for form, key := range objectForms {
		owner, field, _ := strings.Cut(form, ".")
		properties := defs[prefix+owner].Properties
		if name, each := strings.CutSuffix(field, ".*"); each {
			properties[name].AdditionalProperties = orObject(properties[name].AdditionalProperties.(*huma.Schema), key)
		} else {
			properties[field] = orObject(properties[field], key)
		}
	}
}

// orObject is a scalar, or an object that holds it under one key.
func orObject(scalar *huma.Schema, key string) *huma.Schema {
	text := scalar.Description
	inner := *scalar
	inner.Description = ""
	return &huma.Schema{Description: text, OneOf: []*huma.Schema{&inner, {
		Type: huma.TypeObject, Properties: map[string]*huma.Schema{key: &inner}, Required: []string{key}, AdditionalProperties: false,
	}}}
}

const namePattern = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"

// fieldDoc is what a schema says of a field beside its type.
type fieldDoc struct {
	text        string
	value       any // when it is left out
	oneOf       []string
	least, most int64 // most 0 is no bound
	name        bool
}

// manifestFields are all fields of a manifest, as docs/MANIFEST.md has them.
var manifestFields = map[string]fieldDoc{
	"App.version":            {text: "The schema", value: "hansa/v1", oneOf: []string{"hansa/v1"}},
	"App.app":                {text: "Name of the app", name: true},
	"App.namespace":          {text: "Namespace of the app", value: placement.DefaultNamespace, name: true},
	"App.components":         {text: "1 to 256 components, by name"},
	"Component.container":    {text: "An OCI image"},
	"Component.function":     {text: "A WebAssembly module that answers requests"},
	"Component.server":       {text: "A program on the bare machine (process) or a virtual machine (image or kernel)"},
	"Component.replicas":     {text: "Number of slots", value: 1, most: placement.SlotsMax},
	"Component.resources":    {text: "What each slot is granted"},
	"Component.ports":        {text: "Name to the number inside; not of functions. The host's port is chosen and shown by hansa ps", least: 1, most: 65535},
	"Component.env":          {text: "Variables, 64 KiB in all"},
	"Component.secrets":      {text: "Name of a secret of the namespace to where it appears"},
	"Component.files":        {text: "Whole path inside to a small file; 64 KiB in all"},
	"Component.volumes":      {text: "Name to a folder at one host, to which the slot then sticks"},
	"Component.health":       {text: "How it is found out whether a slot works"},
	"Component.restart":      {text: "How often a slot that ended is started again before it is moved"},
	"Component.update":       {text: "How a change replaces slots"},
	"Component.architecture": {text: "Those that it runs on; any that its package has when it is left out"},
	"Component.stop":         {text: "How work is ended"},
	"Component.place":        {text: "Where it may and would rather run"},
	"Component.disconnect":   {text: "What happens when a site is cut off"},
	"Component.exclusive":    {text: "At most one copy of each slot runs at a time; {keepers: SELECTOR} chooses the peers that vote on it", value: false},
	"Container.image":        {text: "Reference of the image"},
	"Container.credentials":  {text: "Name of a secret that holds user:password for its registry, or a config.json of Docker; default: the namespace's secret registries"},
	"Container.user":         {text: "name, uid or uid:gid; by default the image's"},
	"Container.dir":          {text: "Working folder; by default the image's"},
	"Container.read_only":    {text: "Nothing but volumes and tmpfs can be written", value: false},
	"Container.capabilities": {text: "Linux capabilities beside the engine's usual ones"},
	"Container.tmpfs":        {text: "Path inside to the size of a file system in memory"},
	"Container.pids":         {text: "Processes and threads", value: 4096, most: 1 << 20},
	"Capabilities.add":       {text: "For instance NET_BIND_SERVICE"},
	"Capabilities.drop":      {text: "For instance ALL"},
	"Container.command":      {text: "Instead of the image's entry point"},
	"Container.args":         {text: "Arguments"},
	"Function.module":        {text: "sha256:… of a module (WASI preview 1: a command, or a reactor if there is a handler), or a ./path for hansa deploy"},
	"Function.handler":       {text: "An exported function that answers requests in an instance that stays; empty for a new instance for each"},
	"Function.timeout":       {text: "Of one request, at most 1h", value: "10s"},
	"Server.image":           {text: "sha256:… of a disk image (qcow2, raw), or a ./path for hansa deploy"},
	"Server.kernel":          {text: "sha256:… of a kernel to boot directly, or a ./path"},
	"Server.initrd":          {text: "sha256:… of its initial file system, or a ./path"},
	"Server.append":          {text: "To the kernel's command line"},
	"Server.cloud_init":      {text: "What the machine finds at its first boot (NoCloud)"},
	"Server.bridge":          {text: "A bridge of the host; a network of its own when it is left out"},
	"CloudInit.user_data":    {text: "As cloud-init takes it, 32 KiB at most"},
	"CloudInit.ssh_keys":     {text: "Public keys of the default user"},
	"CloudInit.hostname":     {text: "By default app-component-slot"},
	"Server.process":         {text: "A program on the bare machine"},
	"Process.command":        {text: "The program, then its arguments; ${port.NAME} is replaced by the port that was given"},
	"Process.artifact":       {text: "sha256:… of the program, or a ./path for hansa deploy; stands for the word of the command that names it"},
	"Process.user":           {text: "name, uid or uid:gid; by default one without privileges, where the daemon can choose"},
	"Health.http":            {text: "A page that answers with 200 to 399"},
	"Health.tcp":             {text: "A port that takes connections"},
	"Health.exec":            {text: "A command inside that ends with code 0"},
	"Health.start_period":    {text: "Failures do not count before it is over or the first success", value: "30s"},
	"Health.interval":        {text: "Between checks", value: "10s"},
	"Health.timeout":         {text: "Of one check", value: "5s"},
	"Health.threshold":       {text: "Failures in a row until it is unhealthy; as many again and it is restarted", value: 3, least: 0, most: 100},
	"HTTPCheck.port":         {text: "Name of a port; may be left out where there is one"},
	"HTTPCheck.path":         {text: "Path of the page", value: "/"},
	"TCPCheck.port":          {text: "Name of a port; may be left out where there is one"},
	"ExecCheck.command":      {text: "The program, then its arguments"},
	"Restart.budget":         {text: "Restarts within the window; then it is moved", value: 5, least: 0, most: 1000},
	"Restart.window":         {text: "In which restarts count", value: "5m"},
	"Restart.backoff":        {text: "Before the first restart, doubled with each", value: "1s"},
	"Restart.backoff_max":    {text: "The longest pause before one", value: "30s"},
	"Update.max_unavailable": {text: "Slots, or percent of them, that may be missing meanwhile", value: "25%"},
	"Update.max_surge":       {text: "Slots, or percent of them, that may run beyond those", value: "25%"},
	"Update.min_healthy":     {text: "How long a new slot is healthy before it counts", value: "10s"},
	"Update.deadline":        {text: "Without progress", value: "5m"},
	"Update.auto_revert":     {text: "Go back to what ran before when the deadline is over", value: true},
	"File.content":           {text: "Text of the file"},
	"File.mode":              {text: "Octal", value: "0644"},
	"SecretUse.env":          {text: "A variable that holds it"},
	"SecretUse.file":         {text: "Whole path inside of a file that holds it"},
	"SecretUse.mode":         {text: "Of the file, octal", value: "0400"},
	"Volume.path":            {text: "Where it is inside; of a virtual machine it may be left out: the disk's serial number is its name"},
	"Volume.size":            {text: "Bytes, as a Kubernetes quantity: 10Gi; counted as disk"},
	"StopPolicy.signal":      {text: "Asks the work to end", value: "SIGTERM", oneOf: placement.StopSignals},
	"StopPolicy.grace":       {text: "Until it is killed, at most 1h", value: "10s"},
	"Place.where":            {text: "Must hold: a label selector, for instance tier in (core), region != us"},
	"Place.prefer":           {text: "Label selector to weight", least: -100, most: 100},
	"Place.spread":           {text: "Even over the values of this label: site, region, peer, or one of yours"},
	"Place.near":             {text: "Close by round trip to a component or a site"},
	"Near.component":         {text: "Another component of the app"},
	"Near.site":              {text: "A site"},
	"Near.rtt":               {text: "Hard limit; a wish only when it is left out"},
	"Disconnect.lost_after":  {text: "How long after a peer is called dead its slots are placed anew; by default 0s, and 5m for a virtual machine"},
	"Disconnect.stop_after":  {text: "How long a peer that reaches no majority of the app's keepers runs on: 10s to a year", value: "never"},
	"Disconnect.replace":     {text: "Which side places lost slots anew; by default majority, and never for a virtual machine", oneOf: placement.Replaces},
	"Disconnect.reconcile":   {text: "Which of two copies stays after a cut; by default best_score, and keep_original for a server", oneOf: placement.Reconciles},
	"Resources.cpu":          {text: "Cores, as a Kubernetes quantity: 250m, 2"},
	"Resources.memory":       {text: "Bytes, as a Kubernetes quantity: 64Mi, 2Gi; at most 4Ti"},
	"Resources.gpu":          {text: "GPUs: a share of one (0.5, 500m), or whole ones; {count: 1, model: a100} for one whose name has these words; of containers and processes"},
	"Resources.disk":         {text: "Bytes, as a Kubernetes quantity: 10Gi; at most 4Ti"},
}

// aliasQuantities describes placement's numbers by their text forms.
func aliasQuantities(r huma.Registry) {
	r.RegisterTypeAlias(reflect.TypeFor[placement.CPU](), reflect.TypeFor[cpuText]())
	r.RegisterTypeAlias(reflect.TypeFor[placement.Bytes](), reflect.TypeFor[bytesText]())
	r.RegisterTypeAlias(reflect.TypeFor[placement.Duration](), reflect.TypeFor[durationText]())
	r.RegisterTypeAlias(reflect.TypeFor[placement.OrNever](), reflect.TypeFor[orNeverText]())
	r.RegisterTypeAlias(reflect.TypeFor[placement.Exclusive](), reflect.TypeFor[exclusiveForm]())
	r.RegisterTypeAlias(reflect.TypeFor[placement.Amount](), reflect.TypeFor[amountForm]())
	r.RegisterTypeAlias(reflect.TypeFor[placement.GPUShare](), reflect.TypeFor[cpuText]())
	r.RegisterTypeAlias(reflect.TypeFor[placement.GPU](), reflect.TypeFor[gpuForm]())
	r.RegisterTypeAlias(reflect.TypeFor[placement.Package](), reflect.TypeFor[packageForm]())
}

// The text forms of placement's types, for schemas.
type (
	cpuText      string
	bytesText    string
	durationText string
	orNeverText  string
	// exclusiveForm is true, false or an object.
	exclusiveForm bool
	amountForm    int
	packageForm   string
	gpuForm       string
)

// Schema describes a CPU: a quantity as text, or a number of cores.
func (cpuText) Schema(huma.Registry) *huma.Schema {
	return quantitySchema("Kubernetes quantity of cores", "250m", 2)
}

// Schema describes an amount of bytes: a quantity as text, or a number.
func (bytesText) Schema(huma.Registry) *huma.Schema {
	return quantitySchema("Kubernetes quantity of bytes", "128Mi", 1048576)
}

func quantitySchema(what string, examples ...any) *huma.Schema {
	return &huma.Schema{Description: what, Examples: examples, OneOf: []*huma.Schema{{Type: huma.TypeString}, {Type: huma.TypeNumber}}}
}

// Schema describes Exclusive in its forms.
func (exclusiveForm) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{OneOf: []*huma.Schema{{Type: huma.TypeBoolean}, {
		Type: huma.TypeObject, Required: []string{"keepers"}, AdditionalProperties: false,
		Properties: map[string]*huma.Schema{"keepers": {Type: huma.TypeString, Description: "A label selector, for instance tier in (core)"}},
	}}}
}

// Schema describes a number of slots, or a share of them.
func (amountForm) Schema(huma.Registry) *huma.Schema {
	least := 0.0
	return &huma.Schema{OneOf: []*huma.Schema{{Type: huma.TypeInteger, Minimum: &least},
		{Type: huma.TypeString, Pattern: "^[0-9]{1,3}%$"}}, Examples: []any{1, "25%"}}
}

// Schema describes a file, or one for each architecture.
func (packageForm) Schema(huma.Registry) *huma.Schema {
	least := 1
	return &huma.Schema{OneOf: []*huma.Schema{{Type: huma.TypeString}, {
		Type: huma.TypeObject, MinProperties: &least, AdditionalProperties: &huma.Schema{Type: huma.TypeString},
		Description: "One for each architecture, for instance {amd64: ./meter-amd64, arm64: ./meter-arm64}",
	}}}
}

// Schema describes GPUs in their forms.
func (gpuForm) Schema(huma.Registry) *huma.Schema {
	count := []*huma.Schema{{Type: huma.TypeString}, {Type: huma.TypeNumber}}
	return &huma.Schema{Examples: []any{1, 0.5, "500m"}, OneOf: append(count, &huma.Schema{
		Type: huma.TypeObject, Required: []string{"count"}, AdditionalProperties: false,
		Properties: map[string]*huma.Schema{
			"count": {OneOf: count[:2:2]},
			"model": {Type: huma.TypeString, Description: "Words that its name must have, for instance a100"},
		},
	})}
}

// Schema describes a duration.
func (durationText) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Description: "Go duration", Examples: []any{"1m30s"}}
}

// Schema describes a duration or never.
func (orNeverText) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Description: "Go duration, or never", Examples: []any{"10m", "never"}}
}

func (s *Server) schemaRoute() {
	schema, err := ManifestSchema()
	if err != nil {
		panic(fmt.Sprintf("api: %v", err)) // types of ours, the same in every run
	}
	op := operation(http.MethodGet, "/v1/manifest.schema.json", "get-manifest-schema", "JSON Schema of a manifest")
	op.Tags = []string{"apps"}
	s.raw(op, "application/schema+json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/schema+json")
		_, _ = w.Write(schema)
	})
}
