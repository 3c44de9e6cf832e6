package api

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/placement"
)

// Every manifest in docs/MANIFEST.md can be deployed, once its files are
// uploaded.
func TestManifestsOfTheHandbook(t *testing.T) {
	text, err := os.ReadFile("../../docs/MANIFEST.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(text), -1)
	if len(blocks) == 0 {
		t.Fatal("there are none")
	}
	file := regexp.MustCompile(`(module|artifact): \./[a-z/.]+`)
	for _, b := range blocks {
		uploaded := file.ReplaceAllString(b[1], "$1: sha256:"+strings.Repeat("0", 64))
		apps, err := ParseManifests([]byte(uploaded))
		if err != nil {
			t.Fatalf("%v\n%s", err, b[1])
		}
		for _, app := range apps {
			if err := app.Validate(); err != nil {
				t.Errorf("%v\n%s", err, b[1])
			}
		}
	}
}

var rewrite = flag.Bool("rewrite", false, "write golden files anew")

// The schema in docs/ is the one that every peer serves, and each field of a
// manifest says what it is for.
func TestShippedSchema(t *testing.T) {
	schema, err := ManifestSchema()
	if err != nil {
		t.Fatal(err)
	}
	const file = "../../docs/manifest.schema.json"
	if *rewrite {
		if err := os.WriteFile(file, schema, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if shipped, err := os.ReadFile(file); err != nil || string(shipped) != string(schema) {
		t.Errorf("%s is not what peers serve (run with -rewrite): %v", file, err)
	}
	var doc struct {
		Defs map[string]struct {
			Properties map[string]struct {
				Description string `json:"description"`
			} `json:"properties"`
		} `json:"$defs"`
	}
	if err := json.Unmarshal(schema, &doc); err != nil {
		t.Fatal(err)
	}
	for name, def := range doc.Defs {
		for field, property := range def.Properties {
			if property.Description == "" {
				t.Errorf("%s.%s has no description", name, field)
			}
		}
	}
}

// Every field is checked: each of these is one mistake, and is named.
func TestEveryFieldIsChecked(t *testing.T) {
	const ok = "app: a\ncomponents:\n  c:\n    server: {process: {command: [run]}}\n"
	function := "app: a\ncomponents:\n  c:\n    function: {module: \"sha256:" + strings.Repeat("0", 64) + "\"}\n"
	for field, manifest := range map[string]string{
		"version":                                    "version: v9\n" + ok,
		"app":                                        strings.Replace(ok, "app: a", "app: A_b", 1),
		"namespace":                                  "namespace: -x\n" + ok,
		"components":                                 "app: a\n",
		"components.Bad":                             strings.Replace(ok, "  c:", "  Bad:", 1),
		"components.c":                               "app: a\ncomponents: {c: {}}\n",
		"components.c.container.image":               "app: a\ncomponents: {c: {container: {image: \"a b\"}}}\n",
		"components.c.container.user":                "app: a\ncomponents: {c: {container: {image: a, user: \"a b\"}}}\n",
		"components.c.container.dir":                 "app: a\ncomponents: {c: {container: {image: a, dir: b}}}\n",
		"components.c.container.credentials":         "app: a\ncomponents: {c: {container: {image: a, credentials: A_B}}}\n",
		"components.c.container.tmpfs.tmp":           "app: a\ncomponents: {c: {container: {image: a, tmpfs: {tmp: 1Mi}}}}\n",
		"components.c.container.pids":                "app: a\ncomponents: {c: {container: {image: a, pids: -1}}}\n",
		"components.c.container.capabilities.add[0]": "app: a\ncomponents: {c: {container: {image: a, capabilities: {add: [net]}}}}\n",
		"components.c.server":                        "app: a\ncomponents: {c: {server: {}}}\n",
		"components.c.server.image":                  "app: a\ncomponents: {c: {server: {image: disk.qcow2}}}\n",
		"components.c.server.append":                 "app: a\ncomponents: {c: {server: {kernel: ./k, append: \"a\\nb\"}}}\n",
		"components.c.server.bridge":                 "app: a\ncomponents: {c: {server: {kernel: ./k, bridge: \"a b\"}}}\n",
		"components.c.server.cloud_init.hostname":    "app: a\ncomponents: {c: {server: {kernel: ./k, cloud_init: {hostname: A_B}}}}\n",
		"components.c.server.cloud_init.ssh_keys[0]": "app: a\ncomponents: {c: {server: {kernel: ./k, cloud_init: {ssh_keys: [x]}}}}\n",
		"components.c.server.process.user":           strings.Replace(ok, "[run]", "[run], user: \"a b\"", 1),
		"components.c.health":                        ok + "    health: {interval: 1s}\n",
		"components.c.health.http.port":              ok + "    health: {http: {port: nobody}}\n",
		"components.c.health.http.path":              ok + "    health: {http: {path: x}}\n    ports: {http: 1}\n",
		"components.c.health.tcp.port":               ok + "    health: {tcp: {}}\n",
		"components.c.health.exec.command":           ok + "    health: {exec: {command: []}}\n",
		"components.c.health.interval":               ok + "    health: {exec: {command: [a]}, interval: 1h}\n",
		"components.c.health.threshold":              ok + "    health: {exec: {command: [a]}, threshold: 1000}\n",
		"components.c.restart.budget":                ok + "    restart: {budget: -1}\n",
		"components.c.restart.backoff":               ok + "    restart: {backoff: -1s}\n",
		"components.c.update":                        ok + "    update: {max_unavailable: 0, max_surge: 0}\n",
		"components.c.update.max_surge":              ok + "    update: {max_surge: 101%}\n",
		"components.c.update.min_healthy":            ok + "    update: {min_healthy: -1s}\n",
		"components.c.update.deadline":               ok + "    update: {deadline: 1000h}\n",
		"components.c.files.etc":                     ok + "    files: {etc: {content: x}}\n",
		"components.c.files./etc/a.mode":             ok + "    files: {/etc/a: {content: x, mode: \"9\"}}\n",
		"components.c.secrets.a":                     ok + "    secrets: {a: {}}\n",
		"components.c.secrets.a.env":                 ok + "    secrets: {a: {env: 1A}}\n",
		"components.c.secrets.a.file":                ok + "    secrets: {a: {file: ../x}}\n",
		"components.c.volumes.a.path":                ok + "    volumes: {a: {path: x, size: 1Gi}}\n",
		"components.c.volumes.a.size":                ok + "    volumes: {a: {path: /x}}\n",
		"components.c.architecture[0]":               ok + "    architecture: [vax]\n",
		"components.c.server.process.command":        "app: a\ncomponents: {c: {server: {process: {command: []}}}}\n",
		"components.c.server.process.artifact":       strings.Replace(ok, "[run]", "[run], artifact: nowhere", 1),
		"components.c.function.module":               "app: a\ncomponents: {c: {function: {module: sha256:abc}}}\n",
		"components.c.function.timeout":              strings.Replace(function, "\"}", "\", timeout: -1s}", 1),
		"components.c.replicas":                      ok + "    replicas: -1\n",
		"components.c.resources.cpu":                 ok + "    resources: {cpu: 99999999}\n",
		"components.c.resources.memory":              ok + "    resources: {memory: -1Mi}\n",
		"components.c.resources.disk":                ok + "    resources: {disk: 900Ti}\n",
		"components.c.ports":                         ok + "    ports: {H_P: 1}\n",
		"components.c.ports.http":                    ok + "    ports: {http: 70000}\n",
		"components.c.env":                           ok + "    env: {1A: x}\n",
		"components.c.stop.signal":                   ok + "    stop: {signal: TERM}\n",
		"components.c.stop.grace":                    ok + "    stop: {grace: -1s}\n",
		"components.c.place.where":                   ok + "    place: {where: \"a in (\"}\n",
		"components.c.place.prefer":                  ok + "    place: {prefer: {\"a==\": 1, \"=\": 2}}\n",
		"components.c.place.prefer.a=b":              ok + "    place: {prefer: {a=b: 101}}\n",
		"components.c.place.spread":                  ok + "    place: {spread: \"a b\"}\n",
		"components.c.place.near":                    ok + "    place: {near: {rtt: 1s}}\n",
		"components.c.place.near.component":          ok + "    place: {near: {component: nobody}}\n",
		"components.c.place.near.rtt":                ok + "    place: {near: {site: s, rtt: -1s}}\n",
		"components.c.disconnect.lost_after":         ok + "    disconnect: {lost_after: -1s}\n",
		"components.c.disconnect.replace":            ok + "    disconnect: {replace: sometimes}\n",
		"components.c.disconnect.reconcile":          ok + "    disconnect: {reconcile: keep_both}\n",
		"components.c.disconnect.stop_after":         ok + "    disconnect: {stop_after: 1s}\n",
	} {
		apps, err := ParseManifests([]byte(manifest))
		if err == nil {
			err = apps[0].Validate()
		}
		if !errors.Is(err, placement.ErrInvalid) {
			t.Errorf("%s: %v\n%s", field, err, manifest)
			continue
		}
		found := false
		for _, f := range fieldErrorsOf(err) {
			found = found || f.Field == field && f.Message != ""
		}
		if !found {
			t.Errorf("%s is not named: %v", field, err)
		}
	}
	if apps, err := ParseManifests([]byte(ok)); err != nil || apps[0].Validate() != nil {
		t.Errorf("the right one is refused: %v", err)
	}
}
