package qemu

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// What everybody on the host can read holds nothing of what the task is told.
func TestArgsHoldNoSecret(t *testing.T) {
	const secret = "hunter2"
	task := driver.Task{
		ID: "c/0", Env: map[string]string{"PASSWORD": secret}, CPU: 1500, Memory: 256 << 20,
		Files:     []driver.File{{Path: "/key", Content: []byte(secret), Secret: true}},
		Machine:   &driver.Machine{Image: "sha256:a", CloudInit: &driver.CloudInit{UserData: secret, Hostname: "h"}},
		Artifacts: map[string]string{"sha256:a": "/data/a,b"},
		Ports:     map[string]driver.Port{"http": {Inside: 80, Host: "127.0.0.1:8080"}, "dns": {Inside: 53}},
		Volumes:   []driver.Volume{{Name: "books", Source: "/v", Size: 1}},
	}
	got := strings.Join(machineArgs(&task, layout{
		tools: tools{qemu: "qemu"}, accel: accelTCG, disk: image{"qcow2", 1 << 20}, seed: "/s", volumes: []string{"/v/disk.img"},
	}), " ")
	if strings.Contains(got, secret) {
		t.Errorf("the command line holds a secret: %s", got)
	}
	for _, want := range []string{
		"-smp 2 ", "-m 256M ", "backing.file.filename=/data/a,,b", "format=qcow2,file=disk.qcow2", "serial=books",
		"user,id=net,hostfwd=tcp:127.0.0.1:53-:53,hostfwd=tcp:127.0.0.1:8080-:80", "-sandbox on", "-accel tcg",
	} {
		if !strings.Contains(got+" ", want) {
			t.Errorf("the command line lacks %q: %s", want, got)
		}
	}
}

func TestCheck(t *testing.T) {
	for why, change := range map[string]func(*driver.Task){
		"bridge":       func(t *driver.Task) { t.Machine.Bridge = "br1" },
		"IPv4":         func(t *driver.Task) { t.Ports = map[string]driver.Port{"a": {Inside: 1, Host: "[::1]:80"}} },
		"not a port":   func(t *driver.Task) { t.Ports = map[string]driver.Port{"a": {Host: "127.0.0.1:80"}} },
		"accelerators": func(t *driver.Task) { t.Devices = []string{"0"} },
		"memory":       func(t *driver.Task) { t.Memory = 1 << 20 },
		"cores":        func(t *driver.Task) { t.CPU = 1_000_000 },
		"rename one": func(t *driver.Task) {
			t.Volumes = []driver.Volume{{Name: "a-name-of-twenty-letters-1"}, {Name: "a-name-of-twenty-letters-2"}}
		},
	} {
		task := driver.Task{ID: "c/0", Machine: &driver.Machine{Image: "i", Bridge: "br0"}}
		if err := check(&task, []string{"br0"}); err != nil {
			t.Fatal(err)
		}
		change(&task)
		if err := check(&task, []string{"br0"}); !errors.Is(err, driver.ErrInvalid) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", why, err)
		}
	}
}

// sh reads the environment as it was meant.
func TestShellEnv(t *testing.T) {
	want := "it's\n\"$HOME\" `x` \\"
	cmd := exec.Command("sh", "-c", `eval "$1"; printf %s "$A"`, "sh", shellEnv(map[string]string{"A": want, "B": ""}))
	if got, err := cmd.Output(); err != nil || string(got) != want {
		t.Errorf("sh has %q, %v, want %q", got, err, want)
	}
}

// The script that cloud-init runs is one for sh.
func TestUnpackIsAScript(t *testing.T) {
	cmd := exec.Command("sh", "-n")
	cmd.Stdin = strings.NewReader(unpack)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("sh: %v: %s", err, out)
	}
}

func TestSeedFiles(t *testing.T) {
	task := driver.Task{
		ID: "c/0", Env: map[string]string{"A": "b"}, Machine: &driver.Machine{},
		Volumes: []driver.Volume{{Name: "books", Path: "/srv/my books"}, {Name: "raw"}},
	}
	content := func() map[string]string {
		files, err := seedFiles(&task)
		if err != nil {
			t.Fatal(err)
		}
		all := map[string]string{}
		for _, f := range files {
			all[f.name] = string(f.content)
		}
		return all
	}
	plain := content()
	if plain["env"] != "A='b'\n" || plain["volumes"] != "books /srv/my books\n" || len(plain) != 3 {
		t.Errorf("a plain seed holds %q", plain)
	}
	task.Machine.CloudInit = &driver.CloudInit{UserData: "#!/bin/sh\n", SSHKeys: []string{"ssh-ed25519 AAAA me"}, Hostname: "shop-db-0"}
	cloud := content()
	var meta struct {
		Instance string   `json:"instance-id"`
		Hostname string   `json:"local-hostname"`
		Keys     []string `json:"public-keys"`
	}
	if err := json.Unmarshal([]byte(cloud["meta-data"]), &meta); err != nil || meta.Instance != "c.0" || meta.Hostname != "shop-db-0" || len(meta.Keys) != 1 {
		t.Errorf("meta-data is %q, %v", cloud["meta-data"], err)
	}
	if cloud["user-data"] != "#!/bin/sh\n" || !strings.HasPrefix(cloud["vendor-data"], "#cloud-boothook\n") {
		t.Errorf("the seed of cloud-init holds %q", cloud)
	}
	task.Machine.CloudInit.UserData = ""
	if got := content()["user-data"]; !strings.HasPrefix(got, "#cloud-config") {
		t.Errorf("without user-data it is %q", got)
	}
}

// An image is read back by its structure; TestMachine has a kernel read one.
func TestISO(t *testing.T) {
	var b bytes.Buffer
	files := []isoFile{{"user-data", []byte("hello")}, {"empty", nil}, {"large", noise(5000)}}
	if err := writeISO(&b, "cidata", files, time.Unix(1e9, 0)); err != nil {
		t.Fatal(err)
	}
	image := b.Bytes()
	volume := image[16*isoSector:]
	if string(volume[1:6]) != "CD001" || strings.TrimSpace(string(volume[40:72])) != "cidata" {
		t.Errorf("it begins with %q", volume[:80])
	}
	if n := binary.LittleEndian.Uint32(volume[80:]); int(n)*isoSector != len(image) {
		t.Errorf("it says %d sectors and has %d bytes", n, len(image))
	}
	folder := image[isoDirAt*isoSector:][:isoSector]
	found := 0
	for folder[0] != 0 {
		r := folder[:folder[0]]
		folder = folder[folder[0]:]
		for _, f := range files {
			if !bytes.Contains(r, append([]byte{'N', 'M', byte(5 + len(f.name)), 1, 0}, f.name...)) {
				continue
			}
			at, size := binary.LittleEndian.Uint32(r[2:])*isoSector, binary.BigEndian.Uint32(r[14:])
			if got := image[at : at+size]; !bytes.Equal(got, f.content) {
				t.Errorf("%s holds %d other bytes", f.name, len(got))
			}
			found++
		}
	}
	if found != len(files) {
		t.Errorf("%d files are found, want %d", found, len(files))
	}
	if err := writeISO(&b, "x", make([]isoFile, isoNamesMax+1), time.Now()); err == nil {
		t.Error("more files than it can hold are taken")
	}
}

// fakeQMP answers as told, for what a broken or broken-into qemu might say.
func fakeQMP(t *testing.T, answers ...string) (*qmp, error) {
	ours, its := net.Pipe()
	t.Cleanup(func() { its.Close() })
	go func() {
		lines := bufio.NewScanner(its)
		for i, a := range answers {
			if i > 0 && !lines.Scan() { // a command first, but for the greeting
				return
			}
			if _, err := fmt.Fprint(its, a); err != nil {
				return
			}
		}
		lines.Scan()
		its.Close()
	}()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return newQMP(ctx, ours)
}

const greeting = `{"QMP": {"version": {}, "capabilities": []}}` + "\r\n"

func TestQMP(t *testing.T) {
	q, err := fakeQMP(t, greeting, `{"return": {}}`+"\n",
		`{"event": "RESET", "data": {"guest": true}}`+"\n"+`{"return": {"status": "running"}}`+"\n",
		`{"error": {"class": "GenericError", "desc": "no such thing"}}`+"\n")
	if err != nil {
		t.Fatal(err)
	}
	defer q.close()
	var state struct{ Status string }
	if err := q.do(t.Context(), "query-status", nil, &state); err != nil || state.Status != "running" {
		t.Errorf("query-status: %+v, %v", state, err)
	}
	if e := <-q.events; e.Name != "RESET" {
		t.Errorf("the event is %+v", e)
	}
	if err := q.do(t.Context(), "nonsense", nil, nil); err == nil || !strings.Contains(err.Error(), "no such thing") {
		t.Errorf("an error comes as %v", err)
	}
	if err := q.do(t.Context(), "quit", nil, nil); !errors.Is(err, errQMPClosed) {
		t.Errorf("a command to a qemu that hangs up: %v", err)
	}
}

func TestQMPOfNobody(t *testing.T) {
	for what, answers := range map[string][]string{
		"something else": {"HTTP/1.1 400 Bad Request\r\n"},
		"too much":       {strings.Repeat("x", qmpLineMax+1)},
		"refusal":        {greeting, `{"error": {"desc": "no"}}` + "\n"},
		"hang-up":        {greeting},
		"unasked answer": {greeting + `{"return": {}}` + "\n" + `{"return": {}}` + "\n" + `{"return": {}}` + "\n"},
	} {
		if q, err := fakeQMP(t, answers...); err == nil {
			if err = q.do(t.Context(), "query-status", nil, nil); err == nil {
				err = q.do(t.Context(), "query-status", nil, nil)
			}
			q.close()
			if err == nil {
				t.Errorf("%s is taken for a qemu", what)
			}
		}
	}
}

func TestPanicIn(t *testing.T) {
	at := time.Unix(1e9, 0)
	var b []byte
	for _, text := range []string{"[ 1.0] starting", "[ 2.5] Kernel panic - not syncing: VFS: Unable to mount root fs", "[ 2.6] ---"} {
		b = driver.LogLine{Time: at, Stream: "stdout", Text: text}.Append(b)
	}
	if why, ok := panicIn(bytes.NewReader(b)); !ok || why != "VFS: Unable to mount root fs" {
		t.Errorf("it says %q, %v", why, ok)
	}
	said := driver.LogLine{Time: at, Stream: "stdout", Text: "his log says: Kernel panic - not syncing: x"}.Append(nil)
	if _, ok := panicIn(bytes.NewReader(said)); ok {
		t.Error("a panic that somebody only talks of")
	}
}

// A console that nobody reads keeps neither the machine nor the others waiting.
func TestConsoleOfASlowReader(t *testing.T) {
	var h hub
	ours, its := net.Pipe()
	defer its.Close()
	spawn := func(f func()) bool { go f(); return true }
	dial := func() (net.Conn, error) { return ours, nil }
	slow, err := h.attach(dial, spawn)
	if err != nil {
		t.Fatal(err)
	}
	const pieces = 2 * consoleBacklog
	for range pieces { // a pipe: each is taken by the reader, or this waits for ever
		if _, err := its.Write([]byte("0123456789")); err != nil {
			t.Fatal(err)
		}
	}
	quick, err := h.attach(dial, spawn)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := its.Write([]byte("more")); err != nil {
		t.Fatal(err)
	}
	if got := <-quick.output; !strings.HasSuffix(string(got), "more") && string(got) != "0123456789" {
		t.Errorf("the other one reads %q", got)
	}
	h.close()
	n := 0
	for range slow.output {
		n++
	}
	if n != consoleBacklog {
		t.Errorf("%d pieces wait for the slow one, want %d", n, consoleBacklog)
	}
	if _, err := h.attach(dial, spawn); !errors.Is(err, driver.ErrUnknownTask) {
		t.Errorf("attached to a machine that has ended: %v", err)
	}
}

// The firmware that shows whether KVM works does what it should, where anything
// runs it.
func TestTinyFirmware(t *testing.T) {
	path, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		t.Skipf("%v: apt install qemu-system-x86", err)
	}
	rom := filepath.Join(t.TempDir(), "rom")
	if err := os.WriteFile(rom, tinyFirmware(), 0o600); err != nil {
		t.Fatal(err)
	}
	err = exec.CommandContext(t.Context(), path, "-nodefaults", "-display", "none", "-machine", "q35", "-accel", "tcg",
		"-m", "16M", "-bios", rom, "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04").Run()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != tinyExit {
		t.Errorf("it ends with %v, want code %d", err, tinyExit)
	}
}

// Probe does not wait for KVM to be tried, and says in the end what came of it.
func TestProbeSaysHow(t *testing.T) {
	d, err := New(Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	found, err := d.tools(t.Context())
	if err != nil {
		if info := d.Probe(t.Context()); info.Available || !strings.Contains(info.Reason, "apt install") {
			t.Errorf("without qemu Probe says %+v", info)
		}
		t.Skip(err)
	}
	_ = d.Probe(t.Context())
	accel, why := d.accel(t.Context(), found)
	how := d.Probe(t.Context()).Limits["kvm"]
	if how.Enforced != (accel == accelKVM) || (accel == accelTCG) != (why != "") || !strings.Contains(how.Detail, why) {
		t.Errorf("machines run with %s (%s), and Probe says %+v", accel, why, how)
	}
}
