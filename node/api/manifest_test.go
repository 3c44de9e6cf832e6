package api

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/hansa-mesh/hansa/placement"
)

// What a person reads about a wrong manifest: the field with its whole path,
// what it holds, and the fix.
func TestWrongManifestsInWords(t *testing.T) {
	const server = "server: {process: {command: [run]}}"
	component := func(more string) string { return "app: a\ncomponents:\n  c: {" + server + ", " + more + "}\n" }
	for manifest, want := range map[string]string{
		component("replicsa: 2"):                                                `components.c.replicsa: unknown field (did you mean "replicas"?)`,
		component("resources: {memroy: 1Mi}"):                                   `components.c.resources.memroy: unknown field (did you mean "memory"?)`,
		component("Replicas: 2"):                                                `components.c.Replicas: unknown field (did you mean "replicas"?)`,
		component("command: [x]"):                                               `components.c.command: unknown field (did you mean "server.process.command"?)`,
		component("place: {xyzzy: 1}"):                                          `components.c.place.xyzzy: unknown field (one of where, prefer, spread, near)`,
		component("exclusive: maybe"):                                           `components.c.exclusive: "maybe" is not true or false (write true, or an object with keepers)`,
		component("exclusive: {voters: x}"):                                     `components.c.exclusive: an object with keepers alone is wanted (write for instance true, or {keepers: "tier=core"})`,
		component("exclusive: {keepers: '=='}"):                                 `components.c.exclusive.keepers "==": not a selector: found '==', expected: !, identifier, or 'end of string' (for instance "tier=core", "region in (eu, us)")`,
		component("exclusive: true, replicas: 2000"):                            `components.c.replicas 2000: too many for an exclusive component (at most 1024)`,
		component("exclusive: true, stop: {grace: 10s}"):                        `components.c.stop.grace "10s": an exclusive slot must have stopped before its lease of 10s ends (at most 2.5s, or leave it out)`,
		component("exclusive: true, disconnect: {reconcile: keep_original}"):    `components.c.disconnect.reconcile "keep_original": of an exclusive slot only one copy ever runs, so there is nothing to choose (leave it out)`,
		component("health: {http: {port: http}}"):                               `components.c.health.http.port "http": the component has no such port (give it ports)`,
		component("resources: {gpu: many}"):                                     `components.c.resources.gpu: "many" is not a quantity (write for instance "250m", "2" or "128Mi")`,
		component("disconnect: {stop_after: soon}"):                             `components.c.disconnect.stop_after: "soon" is no duration (write for instance "10m", or "never")`,
		component("replicas: '3'"):                                              `components.c.replicas "3": a whole number is wanted, not a text (write it without quotes)`,
		component("replicas: 1.5"):                                              `components.c.replicas 1.5: a whole number is wanted`,
		component("replicas: -1"):                                               `components.c.replicas -1: out of range (0 to 1048576)`,
		component("replicas: 9999999999"):                                       `components.c.replicas 9999999999: out of range (0 to 1048576)`,
		component("replicas: .inf"):                                             `a value that JSON can't hold: .inf, .nan or a control character (write a plain number or text)`,
		component("resources: {cpu: lots}"):                                     `components.c.resources.cpu: "lots" is not a quantity (write for instance "250m", "2" or "128Mi")`,
		component("resources: {cpu: -1}"):                                       `components.c.resources.cpu "-1": below 0 (leave out what is not needed)`,
		component("resources: {memory: 9Ti}"):                                   `components.c.resources.memory "9Ti": more than any host has (at most 4Ti, for instance 64Mi or 2Gi)`,
		component("resources: [1]"):                                             `components.c.resources: an object is wanted, not a list`,
		component("ports: [80]"):                                                `components.c.ports: an object is wanted, not a list`,
		component("ports: {http: x}"):                                           `components.c.ports.http "x": a whole number is wanted, not a text`,
		component("ports: {http: {port: 0}}"):                                   `components.c.ports.http 0: not a port (1 to 65535)`,
		component("ports: {http: {prot: 80}}"):                                  `components.c.ports.http: a whole number is wanted, not an object`,
		component("env: {A: 5}"):                                                `components.c.env.A 5: a text is wanted (write it in quotes)`,
		component("env: {HANSA_SLOT: x}"):                                       `components.c.env "HANSA_SLOT": the mesh sets this variable itself (choose another name)`,
		component("stop: {grace: 10}"):                                          `components.c.stop.grace: 10 is not a duration (write it as text, for instance "30s")`,
		component("stop: {signal: SIGFOO}"):                                     `components.c.stop.signal "SIGFOO": not a signal that ends work (one of SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGALRM, SIGABRT, SIGWINCH, SIGKILL)`,
		component("place: {near: {component: c}}"):                              `components.c.place.near.component "c": it would be near itself (name another component, or a site)`,
		strings.Replace(component("x: y"), "app: a", "app: 5", 1):               `app 5: a text is wanted (write it in quotes)` + "\n" + `components.c.x: unknown field (one of container, function, server, replicas, architecture, resources, ports, env, secrets, files, volumes, health, restart, stop, update, place, disconnect, exclusive)`,
		strings.Replace(component("replicas: 1"), "run", "\"${port.http}\"", 1): `components.c.server.process.command[0] "${port.http}": it names no port of the component ("${port.NAME}" with a name from ports, or "$${" for a literal "${")`,
		`{"app":"a","app":"b"}`:                                                 `app: it stands there twice (keep one of them)`,
		"\xff\xfe\x00":                                                          `it is not text in UTF-8`,
		"\xef\xbb\xbfap: a\n":                                                   `ap: unknown field (did you mean "app"?)`,
		"[]":                                                                    `an object is wanted, not a list`,
		"apiVersion: v1\nkind: Pod\n":                                           `apiVersion: unknown field (one of version, namespace, app, components)` + "\n" + `kind: unknown field (one of version, namespace, app, components)`,
		"app: a\nversion: 2\ncomponents: {c: 1}":                                `components.c 1: an object is wanted` + "\n" + `version 2: a text is wanted (write it in quotes)`,
	} {
		apps, err := ParseManifests([]byte(manifest))
		if err == nil {
			err = apps[0].Validate()
		}
		if err == nil {
			t.Errorf("taken:\n%s", manifest)
			continue
		}
		var lines []string
		for _, f := range fieldErrorsOf(err) {
			lines = append(lines, f.String())
		}
		if got := strings.Join(lines, "\n"); got != want {
			t.Errorf("%s\nsays %s\nwant %s", manifest, got, want)
		}
	}
}

// exclusive is a word or an object, and reads back as what was written.
func TestExclusiveForms(t *testing.T) {
	for text, want := range map[string]placement.Exclusive{
		"true":                      {On: true},
		"false":                     {},
		"{keepers: tier in (core)}": {On: true, Keepers: "tier in (core)"},
	} {
		apps, err := ParseManifests([]byte("app: a\ncomponents:\n  c: {server: {process: {command: [run]}}, exclusive: " + text + "}\n"))
		if err != nil || apps[0].Validate() != nil {
			t.Fatal(text, err, apps[0].Validate())
		}
		data, err := json.Marshal(apps[0])
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseManifests(data)
		if err != nil || again[0].Components["c"].Exclusive != want || apps[0].Components["c"].Exclusive != want {
			t.Errorf("exclusive: %s is %+v, and %+v from %s (%v)", text, apps[0].Components["c"].Exclusive, again, data, err)
		}
	}
	const two = "app: a\ncomponents:\n  b: {server: {process: {command: [run]}}, exclusive: {keepers: x}}\n  c: {server: {process: {command: [run]}}, exclusive: {keepers: y}}\n"
	apps, err := ParseManifests([]byte(two))
	if err != nil {
		t.Fatal(err)
	}
	if err := apps[0].Validate(); err == nil || !strings.Contains(err.Error(), "components.c.exclusive.keepers y: an app has one list of keepers") {
		t.Errorf("two lists of keepers: %v", err)
	}
}

// Scalars that may grow can be written as objects already.
func TestObjectForms(t *testing.T) {
	const text = `
app: a
components:
  c:
    server: {process: {command: [run]}}
    ports: {http: {port: 8080}, admin: 9000}
    place: {spread: {label: region}}
    disconnect: {replace: {policy: majority}}
`
	apps, err := ParseManifests([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	c := apps[0].Components["c"]
	if err := apps[0].Validate(); err != nil || c.Ports["http"] != 8080 || c.Ports["admin"] != 9000 ||
		c.Place.Spread != "region" || c.Disconnect.Replace != "majority" {
		t.Errorf("%+v %v", c, err)
	}
}

// A large body that is no YAML is refused about as fast as it is read: the
// parser's error draws its whole source, for minutes.
func TestHostileYAMLIsCheap(t *testing.T) {
	for _, unit := range []string{"x: ", "&a ", "!a ", `"x": `, "x:\n", "a: |\n", "- x\n", "'", ":"} {
		text := strings.Repeat(unit, manifestBytesMax/4/len(unit))
		if _, err := ParseManifests([]byte(text)); err == nil {
			t.Errorf("%q, many times, is taken", unit)
		}
	}
}
