package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cuelabs.dev/go/oci/ociregistry/ocimem"
	"cuelabs.dev/go/oci/ociregistry/ociserver"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/api/apitest"
	"github.com/hansa-mesh/hansa/placement"
)

var rewrite = flag.Bool("rewrite", false, "write golden files anew")

var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// output is a buffer that several goroutines may write.
type output struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
	// wrote is signalled after each write.
	wrote chan struct{}
}

func newOutput() *output { return &output{wrote: make(chan struct{}, 1)} }

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case o.wrote <- struct{}{}:
	default:
	}
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// await waits until text was written.
func (o *output) await(t *testing.T, text string) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for !strings.Contains(o.String(), text) {
		select {
		case <-o.wrote:
		case <-limit:
			t.Fatalf("no %q in %q", text, o.String())
		}
	}
}

// terminal runs commands in process, against a served backend.
type terminal struct {
	backend *apitest.Backend
	url     string
	env     map[string]string
	runners Runners
	out     *output
	err     *output
}

func newTerminal(t *testing.T) *terminal {
	t.Helper()
	backend := apitest.New()
	backend.Now = func() time.Time { return noon }
	server, err := api.New(api.Config{Backend: backend, OCI: ociserver.New(ocimem.New(), nil)})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(server)
	t.Cleanup(web.Close)
	return &terminal{backend: backend, url: web.URL, env: map[string]string{"HANSA_API": web.URL, "HOME": "/home/anna"}, runners: testRunners()}
}

// testRunners answer without a node.
func testRunners() Runners {
	return Runners{
		Agent: func(ctx context.Context, cfg AgentConfig) error {
			cfg.LogTo = nil
			data, err := json.MarshalIndent(cfg, "", " ")
			if err != nil {
				return err
			}
			return fmt.Errorf("agent: %s", data)
		},
		Init: func(_ context.Context, cfg InitConfig) (InitResult, error) {
			return InitResult{Peer: api.PeerRef{ID: "aaaa", Name: cfg.Name, Site: cfg.Site}, Root: "SHA256:root", RootKey: cfg.DataDir + "/root/key", DataDir: cfg.DataDir}, nil
		},
		Join: func(_ context.Context, cfg JoinConfig) (JoinResult, error) {
			return JoinResult{Peer: api.PeerRef{Name: cfg.Name}, Root: "SHA256:root", DataDir: cfg.DataDir}, nil
		},
		Dev: func(ctx context.Context, cfg DevConfig) error {
			var peers []DevPeer
			for i := range cfg.Sites {
				name := fmt.Sprintf("site-%d", i+1)
				peers = append(peers, DevPeer{Peer: name + "-1", Site: name, API: fmt.Sprintf("http://127.0.0.1:%d", cfg.Port+i)})
			}
			cfg.Ready(peers)
			<-ctx.Done()
			return ctx.Err()
		},
		Backup: func(_ context.Context, cfg BackupConfig, w io.Writer) error {
			_, err := io.WriteString(w, "hansa backup 1\n")
			return err
		},
		CheckBackup: func(r io.Reader) (BackupInfo, error) {
			data, err := io.ReadAll(r)
			if err != nil || string(data) != "hansa backup 1\n" {
				return BackupInfo{}, fmt.Errorf("it is no backup: %q %w", data, err)
			}
			return BackupInfo{Mesh: "SHA256:root", At: noon, Records: 12}, nil
		},
		Restore: func(_ context.Context, cfg RestoreConfig, backup io.ReadSeeker) (RestoreResult, error) {
			return RestoreResult{Peer: api.PeerRef{Name: "fra-1"}, Mesh: "SHA256:root", At: noon, Records: 12, Identity: cfg.PutAside}, nil
		},
		DevControl: func(_ context.Context, cmd DevCommand) (string, error) {
			if cmd.Verb == "restart" {
				return "", errors.New("no dev mesh answers at " + cmd.Socket + `: start one with "hansa dev"`)
			}
			return strings.TrimSpace(cmd.Verb+" "+strings.Join(cmd.Sites, " ")) + ": done", nil
		},
	}
}

func (term *terminal) run(ctx context.Context, stdin string, args ...string) int {
	term.out, term.err = newOutput(), newOutput()
	return term.start(stdin)(ctx, args)
}

// start makes the streams first, so that they can be watched meanwhile.
func (term *terminal) start(stdin string) func(ctx context.Context, args []string) int {
	term.out, term.err = newOutput(), newOutput()
	s := &session{
		io:     Streams{In: strings.NewReader(stdin), Out: term.out, Err: term.err},
		getenv: func(name string) string { return term.env[name] }, now: func() time.Time { return noon.Add(12 * time.Second) },
		runners: term.runners, uid: 1000,
	}
	return s.main
}

// golden compares got with a file, or writes it.
func golden(t *testing.T, path, got string) {
	t.Helper()
	if *rewrite {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (run with -rewrite)", err)
	}
	if string(want) != got {
		t.Errorf("%s differs (run with -rewrite if that is right):\n%s", path, firstDifference(string(want), got))
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		a, b := "(end)", "(end)"
		if i < len(w) {
			a = w[i]
		}
		if i < len(g) {
			b = g[i]
		}
		if a != b {
			return fmt.Sprintf("line %d\nwant %s\ngot  %s", i+1, a, b)
		}
	}
	return ""
}

// words splits a command line; '…' keeps spaces.
func words(line string) []string {
	var all []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			all = append(all, part)
		} else {
			all = append(all, strings.Fields(part)...)
		}
	}
	return all
}

// TestScripts runs the commands of each script ("$ hansa …", with the input
// after "< ") in order, and compares what they print and exit with.
func TestScripts(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.script")
	if err != nil || len(scripts) == 0 {
		t.Fatal(scripts, err)
	}
	for _, path := range scripts {
		t.Run(filepath.Base(path), func(t *testing.T) { runScript(t, path) })
	}
}

func runScript(t *testing.T, path string) {
	term := newTerminal(t)
	term.backend.Torn = map[string]bool{"torn": true}
	for i := range 3 {
		term.backend.Happen(api.Event{Type: "running", Namespace: "default", App: "old", Component: "x", Slots: "0-2", PeerName: "fra-1", Site: "fra", Message: fmt.Sprintf("event %d", i)})
	}
	for i, reference := range []string{"1.3", "1.4"} {
		digest := "sha256:" + strings.Repeat(fmt.Sprint(i+3), 64)
		term.backend.AddImage(api.Image{Repository: "shop/api", Reference: reference, Digest: digest, Size: 5 << 20,
			MediaType: "application/vnd.oci.image.index.v1+json", Created: noon}, min(i+1, 2))
	}
	for _, reference := range []string{"sha256:" + strings.Repeat("5", 64), "sha256-" + strings.Repeat("4", 64) + ".sig"} {
		term.backend.AddImage(api.Image{Repository: "shop/api", Reference: reference, Digest: "sha256:" + strings.Repeat("5", 64), Size: 5 << 10,
			MediaType: "application/vnd.oci.image.manifest.v1+json", Created: noon}, 2)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, line := range strings.Split(string(data), "\n") {
		command, isCommand := strings.CutPrefix(line, "$ hansa")
		switch {
		case strings.HasPrefix(line, "#") || line == "" && strings.HasSuffix(out.String(), "\n\n"):
			if line != "" {
				out.WriteString(line + "\n")
			}
			continue
		case !isCommand:
			continue
		}
		command, stdin, _ := strings.Cut(command, " < ")
		code := term.run(t.Context(), strings.ReplaceAll(stdin, `\n`, "\n"), words(command)...)
		clean := func(s string) string { return strings.ReplaceAll(s, term.url, "http://API") }
		fmt.Fprintf(&out, "%s\n%s", line, clean(term.out.String()))
		for _, l := range strings.SplitAfter(clean(term.err.String()), "\n") {
			if l != "" {
				out.WriteString("! " + l)
			}
		}
		fmt.Fprintf(&out, "[%d]\n\n", code)
		if s := term.out.String(); strings.Contains(command, "-o json") && s != "" {
			for dec := json.NewDecoder(strings.NewReader(s)); dec.More(); {
				var v any
				if err := dec.Decode(&v); err != nil {
					t.Errorf("%s: not only JSON on stdout: %v", line, err)
					break
				}
			}
		}
	}
	golden(t, path, out.String())
}

// TestReference keeps docs/CLI.md and the help of every verb as they are.
func TestReference(t *testing.T) {
	s := &session{getenv: func(string) string { return "" }, runners: testRunners(), now: time.Now}
	golden(t, "../../docs/CLI.md", reference(s.whole()))
}

func TestAgentConfiguration(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	config := file("agent.yaml", "name: from-file\nsite: from-file\nlisten: ':1'\nlabels: {tier: core, zone: 3}\nposition: {lat: 50.1, lon: 8.6}\njoin: [a:1, 'b:2']\nlog-level: debug\n")
	secret := file("token", "  a-token-of-the-api\n")
	var got AgentConfig
	term := newTerminal(t)
	term.runners.Agent = func(_ context.Context, cfg AgentConfig) error { got = cfg; return nil }
	term.env["HANSA_SITE"], term.env["HANSA_JOIN_TOKEN"], term.env["HANSA_TOKEN"] = "from-env", "joins", "not this one"
	if code := term.run(t.Context(), "", "agent", "--config", config, "--listen", ":7", "--api-token-file", secret); code != 0 {
		t.Fatal(term.err)
	}
	if got.Name != "from-file" || got.Site != "from-env" || got.Listen != ":7" || got.Labels["zone"] != "3" || got.Labels["tier"] != "core" ||
		got.Position == nil || got.Position.Lat != 50.1 || strings.Join(got.Join, " ") != "a:1 b:2" || got.Token != "joins" ||
		got.LogLevel != slog.LevelDebug || got.API.Token != "a-token-of-the-api" || got.API.Addr != api.AddrDefault || got.DataDir != "/home/anna/.local/share/hansa" {
		t.Errorf("%+v", got)
	}
	for text, want := range map[string]string{
		"nmae: x\n":              `"nmae" is no setting of hansa agent: did you mean "name"?`,
		"labels: 3\n":            "labels",
		"position: far\n":        "--position",
		"a: [\n":                 "configuration",
		"log-level: loud\n":      "--log-level",
		"position: '91,0'\n":     "--position",
		"api-tls-cert: x.pem\n":  "go together",
		"token-file: /not/here":  "token-file",
		"log-format: telegram\n": "--log-format",
	} {
		delete(term.env, "HANSA_JOIN_TOKEN")
		if code := term.run(t.Context(), "", "agent", "--config", file("bad.yaml", text)); code == 0 || !strings.Contains(term.err.String(), want) {
			t.Errorf("%q: exit %d, %s", text, code, term.err)
		}
	}
}

func TestDeployUploadsFilesOnce(t *testing.T) {
	term := newTerminal(t)
	dir := t.TempDir()
	manifest := filepath.Join(dir, "shop.yaml")
	for path, text := range map[string]string{
		filepath.Join(dir, "f.wasm"): "a module", filepath.Join(dir, "meter"): "a program",
		manifest: "app: shop\ncomponents:\n  f: {function: {module: ./f.wasm}}\n  meter:\n    server: {process: {command: [./meter], artifact: ./meter}}\n    replicas: 2\n---\napp: second\ncomponents:\n  f: {function: {module: ./f.wasm}}\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if code := term.run(t.Context(), "", "deploy", manifest, "-n", "trade", "-o", "json"); code != 0 {
		t.Fatal(code, term.err)
	}
	if n := strings.Count(term.err.String(), "uploading"); n != 2 || len(term.backend.ArtifactDigests()) != 2 {
		t.Errorf("%d uploads: %s", n, term.err)
	}
	if n := strings.Count(term.out.String(), `"uid"`); n != 2 {
		t.Errorf("%d results: %s", n, term.out)
	}
	if code := term.run(t.Context(), "", "deploy", manifest, "-n", "trade"); code != 0 || strings.Contains(term.err.String(), "uploading") {
		t.Errorf("again: %d %s", code, term.err)
	}
	if code := term.run(t.Context(), "", "deploy", manifest, "-n", "trade", "--create"); code != 1 || !strings.Contains(term.err.String(), "there already") {
		t.Errorf("--create: %d %s", code, term.err)
	}
	if code := term.run(t.Context(), "", "deploy", manifest, manifest); code != 1 || !strings.Contains(term.err.String(), "described twice") {
		t.Errorf("twice: %d %s", code, term.err)
	}
	if err := os.Remove(filepath.Join(dir, "meter")); err != nil {
		t.Fatal(err)
	}
	if code := term.run(t.Context(), "", "deploy", manifest); code != 1 || !strings.Contains(term.err.String(), `components.meter.server.process.artifact "./meter"`) {
		t.Errorf("a missing file: %d %s", code, term.err)
	}
}

func TestDeployMinCopies(t *testing.T) {
	term := newTerminal(t)
	term.backend.Short = true
	app := "app: a\ncomponents: {x: {server: {process: {command: [run]}}}}\n"
	if code := term.run(t.Context(), app, "deploy", "-", "--min-copies", "2"); code != 1 || !strings.Contains(term.err.String(), "--min-copies") {
		t.Errorf("%d %s", code, term.err)
	}
	if code := term.run(t.Context(), app, "deploy", "-"); code != 0 || !strings.Contains(term.err.String(), "no majority of its 3 keepers yet") {
		t.Errorf("%d %s", code, term.err)
	}
}

// An app that never runs says why, and does not use up the time of another.
func TestDeployWaitsForEach(t *testing.T) {
	term := newTerminal(t)
	term.backend.Crashing = map[string]string{"bad": "exited with code 3"}
	const apps = "app: bad\ncomponents: {x: {server: {process: {command: [run]}}}}\n---\n" +
		"app: good\ncomponents: {x: {server: {process: {command: [run]}}}}\n"
	code := term.run(t.Context(), apps, "deploy", "-", "--timeout", "500ms", "-o", "yaml")
	said := term.err.String()
	if code != 1 || !strings.Contains(said, "bad/x[0] is pending at fra-1: exited with code 3") || !strings.Contains(said, "hansa logs bad/COMPONENT") {
		t.Errorf("%d %s", code, said)
	}
	if strings.Contains(said, "default/good is accepted, but") {
		t.Errorf("the good one runs: %s", said)
	}
	if n := strings.Count(term.out.String(), "---\n"); n != 1 {
		t.Errorf("%d marks between two documents:\n%s", n, term.out)
	}
	term.run(t.Context(), apps, "deploy", "-", "--timeout", "500ms", "-n", "prod")
	if said := term.err.String(); !strings.Contains(said, "hansa explain bad -n prod and hansa logs bad/COMPONENT -n prod say more") {
		t.Errorf("it does not say in which namespace to look: %s", said)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	run := term.start(apps)
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, words("deploy -")) }()
	term.err.await(t, "bad: x 0/1")
	cancel(errors.New("interrupt signal received")) // as signal.NotifyContext does
	if code := <-ended; code != 1 || !strings.Contains(term.err.String(), "default/bad is accepted; waiting for it: interrupted") {
		t.Errorf("ctrl-c: %d %s", code, term.err)
	}
}

func TestInterrupts(t *testing.T) {
	term := newTerminal(t)
	if code := term.run(t.Context(), "app: a\ncomponents: {x: {server: {process: {command: [run]}}}}\n", "deploy", "-"); code != 0 {
		t.Fatal(term.err)
	}
	term.backend.Log(placement.AppKey{Namespace: "default", App: "a"}, 0, "2026-01-31T12:00:00Z stdout F hello")
	for _, c := range []struct{ line, until string }{
		{"logs -f a/x", "hello"},
		{"events -f", "accepted"},
		{"events -f -o json", "accepted"},
		{"dev --sites 2", "ctrl-c"},
		{"dev --sites 2 -o json --api-port 0", "site-2"},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		run := term.start("")
		code := make(chan int, 1)
		go func() { code <- run(ctx, words(c.line)) }()
		term.out.await(t, c.until)
		cancel()
		select {
		case got := <-code:
			if got != 0 || term.err.String() != "" {
				t.Errorf("%s: exit %d, %q", c.line, got, term.err)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s does not end", c.line)
		}
		if strings.Contains(c.line, "dev") && strings.Contains(c.line, "json") {
			for _, line := range strings.Split(strings.TrimSpace(term.out.String()), "\n") {
				var p DevPeer
				if err := json.Unmarshal([]byte(line), &p); err != nil || p.Peer == "" || p.Site == "" || p.API == "" {
					t.Errorf("%q: %v", line, err)
				}
			}
		}
	}
}

// A backup has its name only once it is whole, and takes the place of nothing.
func TestBackupFile(t *testing.T) {
	term := newTerminal(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "fra-1.backup")
	for _, line := range []string{"backup " + path, "backup " + path + "2 --data-dir /x --with-key"} {
		if code := term.run(t.Context(), "", words(line)...); code != 0 || !strings.Contains(term.out.String(), "12 records of mesh SHA256:root") {
			t.Errorf("%s: %d %s %s", line, code, term.out, term.err)
		}
	}
	if code := term.run(t.Context(), "", "backup", path); code != 1 || !strings.Contains(term.err.String(), "is there already") {
		t.Errorf("over a file: %d %s", code, term.err)
	}
	term.runners.CheckBackup = func(io.Reader) (BackupInfo, error) { return BackupInfo{}, errors.New("cut off in frame 7") }
	if code := term.run(t.Context(), "", "backup", path+"3"); code != 1 || !strings.Contains(term.err.String(), "cut off in frame 7") {
		t.Errorf("one that is not whole: %d %s", code, term.err)
	}
	if code := term.run(t.Context(), "", "backup", path+"4", "--with-key"); code != 2 {
		t.Errorf("a key of a running peer: %d %s", code, term.err)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(left) != 2 {
		t.Errorf("left: %v %v", left, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v %v", info.Mode(), err)
	}
	if code := term.run(t.Context(), "", "restore", path, "--data-dir", "/srv/hansa"); code != 0 || !strings.Contains(term.out.String(), "hansa agent --data-dir /srv/hansa") {
		t.Errorf("restore: %d %s %s", code, term.out, term.err)
	}
	if code := term.run(t.Context(), "", "restore", path+"9"); code != 1 {
		t.Errorf("of no file: %d", code)
	}
}

func TestNoRunnerNoVerb(t *testing.T) {
	term := newTerminal(t)
	term.runners = Runners{}
	for _, verb := range []string{"agent", "dev", "init", "join"} {
		if code := term.run(t.Context(), "", verb); code != 2 {
			t.Errorf("%s without a runner: exit %d", verb, code)
		}
	}
}

// What a file, a peer or an argument holds never steers the terminal.
func TestErrorsAreClean(t *testing.T) {
	term := newTerminal(t)
	if code := term.run(t.Context(), "", "logs", "a\x1b[31m/c"); code == 0 || strings.Contains(term.err.String(), "\x1b") {
		t.Errorf("%d %q", code, term.err)
	}
}

func TestTablesAlignWideText(t *testing.T) {
	s := &session{getenv: func(string) string { return "" }, io: Streams{Out: &bytes.Buffer{}}}
	table := s.table("A", "B")
	table.add("größe", "1")
	table.add("x\x1b[31m\ny", "2")
	var b bytes.Buffer
	if err := table.write(&b); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), "A         B\ngröße     1\nx?[31m y  2\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	painted := newPainted("running", "running (stale)", "running late", "other")
	if want := "\x1b[32mrunning\x1b[0m|\x1b[2mrunning (stale)\x1b[0m|running late|other"; painted != want {
		t.Errorf("got %q, want %q", painted, want)
	}
}

func newPainted(cells ...string) string {
	t := &table{color: true}
	for i := range cells {
		cells[i] = t.paint(cells[i])
	}
	return strings.Join(cells, "|")
}
