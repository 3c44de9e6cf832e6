//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// boot makes a system of what the kernel started.
func boot() error {
	for _, m := range []struct{ kind, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	if err := loadModules(); err != nil {
		return err
	}
	if err := network(); err != nil {
		return err
	}
	if err := mountSeed(); err != nil {
		return err
	}
	return readSeed()
}

// loadModules loads all there are, in whatever order they need: those that lack
// another are tried again.
func loadModules() error {
	left, err := filepath.Glob("/modules/*.ko")
	for before := 0; err == nil && len(left) != before; {
		before = len(left)
		var failed []string
		for _, path := range left {
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
				failed = append(failed, path)
			}
			f.Close()
		}
		left = failed
	}
	return err // a module that nothing here needs may be left
}

// network brings eth0 up with the address that a machine has behind qemu.
func network() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for name, address := range map[string][]byte{"lo": {127, 0, 0, 1}, "eth0": {10, 0, 2, 15}} {
		r, err := unix.NewIfreq(name)
		if err == nil {
			err = r.SetInet4Addr(address)
		}
		if err == nil {
			err = unix.IoctlIfreq(fd, unix.SIOCSIFADDR, r)
		}
		if err == nil {
			r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
			err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r)
		}
		if err != nil {
			return fmt.Errorf("network: %s: %w", name, err)
		}
	}
	return nil
}

// seedMax is how long the seed's disk may take to be there.
const seedMax = time.Minute

func mountSeed() error {
	if err := os.MkdirAll(seed, 0o755); err != nil {
		return err
	}
	for deadline := time.Now().Add(seedMax); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		all, err := filepath.Glob("/sys/block/*/serial")
		if err != nil {
			return err
		}
		for _, path := range all {
			if serial, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(serial)) == "seed" {
				return unix.Mount("/dev/"+filepath.Base(filepath.Dir(path)), seed, "iso9660", unix.MS_RDONLY, "")
			}
		}
	}
	return errors.New("there is no disk with the seed")
}

// Of the kernel's struct input_event, on 64 bits.
const (
	eventSize  = 24
	eventType  = 16
	eventCode  = 18
	eventValue = 20
	typeKey    = 1
	keyPower   = 116
)

// watchPower says when the power button was pressed.
func watchPower(pressed chan<- os.Signal) {
	all, _ := filepath.Glob("/dev/input/event*") // the pattern is right
	for _, path := range all {
		f, err := os.Open(path)
		if err != nil {
			fmt.Println("machine: no power button:", err)
			continue
		}
		go func() {
			for e := make([]byte, eventSize); ; {
				if _, err := io.ReadFull(f, e); err != nil {
					return
				}
				if binary.LittleEndian.Uint16(e[eventType:]) == typeKey && binary.LittleEndian.Uint16(e[eventCode:]) == keyPower && e[eventValue] == 1 {
					select {
					case pressed <- syscall.SIGTERM:
					default: // it ends already
					}
				}
			}
		}()
	}
}

func powerOff() {
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) // does not return where it works
	os.Exit(1)
}
