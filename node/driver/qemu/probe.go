package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// Accelerators.
const (
	accelKVM = "kvm"
	accelTCG = "tcg" // emulation
)

// tools are the programs that the driver uses.
type tools struct {
	qemu    string
	img     string // qemu-img
	version string // of qemu
}

// runWith says whether this qemu changes users by -run-with, which came with 9.1
// in place of -runas.
func (t tools) runWith() bool {
	var major, minor int
	if _, err := fmt.Sscanf(t.version, "%d.%d", &major, &minor); err != nil {
		return false
	}
	return major > 9 || major == 9 && minor >= 1
}

// probing remembers what takes a while to find out.
type probing struct {
	mu    sync.Mutex // guards what follows
	found tools
	stamp string // of the program that found is of
	kvm   *trial // the last; nil before the first
}

// trial is an attempt to run a machine with KVM.
type trial struct {
	done chan struct{} // closed when the rest is set
	err  error         // why KVM is not used; nil if it is
	at   time.Time
}

const (
	probeTimeout = 5 * time.Second
	probeAge     = 30 * time.Minute // after which KVM is tried once more, where it did not work
)

var qemuVersion = regexp.MustCompile(`version (\S+)`)

// tools finds qemu; the error says what to do.
func (d *Driver) tools(ctx context.Context) (tools, error) {
	if runtime.GOARCH != "amd64" {
		return tools{}, fmt.Errorf("machines run on amd64 only, this host is %s", runtime.GOARCH)
	}
	path, err := exec.LookPath("qemu-system-x86_64")
	img, err2 := exec.LookPath("qemu-img")
	if errors.Join(err, err2) != nil {
		return tools{}, errors.New("qemu-system-x86_64 or qemu-img is not installed: on Debian and Ubuntu apt install qemu-system-x86 qemu-utils")
	}
	info, err := os.Stat(path)
	if err != nil {
		return tools{}, fmt.Errorf("look at %s: %w", path, err)
	}
	stamp := fmt.Sprint(path, info.Size(), info.ModTime())
	d.probing.mu.Lock()
	defer d.probing.mu.Unlock()
	if d.probing.stamp == stamp {
		return d.probing.found, nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	found := qemuVersion.FindSubmatch(out)
	if err != nil || found == nil {
		return tools{}, fmt.Errorf("%s does not run: %s", path, told(ctx, err))
	}
	d.probing.found = tools{qemu: path, img: img, version: string(found[1])}
	d.probing.stamp, d.probing.kvm = stamp, nil
	return d.probing.found, nil
}

// accel is how machines run here, and if that is emulation, why. It waits for a
// trial of KVM no longer than ctx.
func (d *Driver) accel(ctx context.Context, t tools) (accel, why string) {
	switch d.c.Accel {
	case accelTCG:
		return accelTCG, "the peer is configured for it"
	case accelKVM:
		return accelKVM, ""
	}
	kvm := d.tryOnce(t)
	select {
	case <-kvm.done:
	case <-ctx.Done():
		select {
		case <-kvm.done:
		default:
			return accelTCG, "whether KVM works is being tried"
		}
	}
	if kvm.err != nil {
		return accelTCG, kvm.err.Error()
	}
	return accelKVM, ""
}

// tryOnce is the trial that counts: one that succeeded, or that did not long ago.
func (d *Driver) tryOnce(t tools) *trial {
	d.probing.mu.Lock()
	defer d.probing.mu.Unlock()
	if kvm := d.probing.kvm; kvm != nil {
		select {
		case <-kvm.done:
			if kvm.err == nil || time.Since(kvm.at) < probeAge {
				return kvm
			}
		default:
			return kvm
		}
	}
	kvm := &trial{done: make(chan struct{}), at: time.Now()}
	d.probing.kvm = kvm
	try := func() {
		kvm.err = tryKVM(d.ctx, t)
		close(kvm.done)
	}
	if !d.crew.Go(try) {
		kvm.err = driver.ErrShutdown
		close(kvm.done)
	}
	return kvm
}

// tryKVM runs a machine with KVM, whose firmware is a few instructions that end
// it with a code. That the device is there and answers proves little: there are
// hosts (themselves machines) where it does and no guest gets anywhere.
func tryKVM(ctx context.Context, t tools) error {
	f, err := os.OpenFile("/dev/kvm", os.O_RDWR, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return errors.New("there is no /dev/kvm: this host's processor or kernel lacks it, or it is switched off in the firmware")
	case errors.Is(err, os.ErrPermission):
		return errors.New("no right to open /dev/kvm: add the daemon's user to the group kvm")
	case err != nil:
		return fmt.Errorf("/dev/kvm can't be opened: %w", err)
	}
	f.Close()
	dir, err := os.MkdirTemp("", "hansa-kvm-")
	if err != nil {
		return fmt.Errorf("KVM is not tried: %w", err)
	}
	defer os.RemoveAll(dir)
	rom := filepath.Join(dir, "rom")
	if err := os.WriteFile(rom, tinyFirmware(), 0o600); err != nil {
		return fmt.Errorf("KVM is not tried: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.qemu, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35",
		"-accel", "kvm", "-cpu", "host", "-m", "16M", "-bios", rom, "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04")
	var stderr bytes.Buffer
	cmd.Stderr, cmd.Dir = &stderr, dir // and its core, if it leaves one
	_ = cmd.Run()                      // its code tells
	if cmd.ProcessState != nil && cmd.ProcessState.ExitCode() == tinyExit {
		return nil
	}
	why := strings.TrimSpace(strings.SplitN(stderr.String(), "\n", 2)[0])
	if why == "" {
		why = "a guest that should end at once does not"
	}
	return fmt.Errorf("/dev/kvm is there and does not work: %.200s", why)
}

// tinyExit is the code of a qemu whose guest wrote 0x10 to the port of
// isa-debug-exit.
const tinyExit = 0x10<<1 | 1

// tinyFirmware is what a processor begins with, at 16 bytes below the end.
func tinyFirmware() []byte {
	rom := make([]byte, 64<<10)
	copy(rom[len(rom)-16:], []byte{
		0xBA, 0xF4, 0x00, // mov dx, 0xf4
		0xB0, 0x10, // mov al, 0x10
		0xEE, // out dx, al
		0xF4, // hlt
	})
	return rom
}

// Probe implements driver.Driver.
func (d *Driver) Probe(ctx context.Context) driver.Info {
	inner := d.inner.Probe(ctx)
	info := driver.Info{
		Survives: true, Fence: inner.Fence, Limits: inner.Limits,
		Kinds: []string{driver.KindServer}, Runtimes: []string{"image"}, Version: "not found",
	}
	t, err := d.tools(ctx)
	if err != nil {
		info.Reason = err.Error()
		return info
	}
	info.Version = "qemu " + t.version
	now, cancel := context.WithCancel(ctx)
	cancel() // it waits for nothing
	accel, why := d.accel(now, t)
	how := driver.Limit{Enforced: true, Detail: "KVM"}
	if accel == accelTCG {
		how = driver.Limit{Detail: "emulation, some ten times slower than KVM: " + why}
	}
	info.Version += ", " + strings.SplitN(how.Detail, ",", 2)[0]
	if info.Limits == nil {
		info.Limits = map[string]driver.Limit{}
	}
	info.Limits["kvm"] = how
	info.Limits["disk"] = driver.Limit{Enforced: true, Detail: "size of the machine's disk"}
	if info.Available = inner.Available; !info.Available {
		info.Reason = inner.Reason
	}
	return info
}
