//go:build linux

// A guest is the whole system of a machine in tests: process 1 after the kernel.
// It puts the seed's files in their places, runs a verb of drivertest.Guest with
// the seed's environment, passes the power button on as SIGTERM, and powers off
// when the verb has ended. The verb stands in the kernel's command line, as
// hansa.do=VERB,ARGUMENT…, or is one of the guest's own:
//
//	reboot   reboots once (its first disk remembers), then is "run"
//	panic    has the kernel panic
//
// Meanwhile it answers HTTP at :8081, and what is typed on the console.
package main

import (
	"archive/tar"
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/hansa-mesh/hansa/node/driver/drivertest"
)

func main() {
	drivertest.GuestMain()
	_ = unix.Mkdir("/proc", 0o755)
	_ = unix.Mkdir("/sys", 0o755)
	_ = unix.Mkdir("/seed", 0o755)
	must(unix.Mount("proc", "/proc", "proc", 0, ""))
	must(unix.Mount("sysfs", "/sys", "sysfs", 0, ""))
	if err := unix.Mount("dev", "/dev", "devtmpfs", 0, ""); !errors.Is(err, unix.EBUSY) {
		must(err)
	}
	do := strings.Split(argument("hansa.do"), ",")
	loadModules(do[0] == "panic")
	if do[0] == "panic" {
		_ = os.WriteFile("/proc/sys/kernel/sysrq", []byte("1"), 0)
		must(os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0))
	}
	must(ownConsole())
	must(mountSeed())
	must(unpackFiles())
	if do[0] == "reboot" {
		if !rebooted() {
			fmt.Println("rebooting")
			must(unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
		}
		do = []string{"run"}
	}
	must(network())
	go serve()
	go echo()
	verb := exec.Command("/proc/self/exe", append([]string{drivertest.GuestArg}, do...)...)
	verb.Env, verb.Stdout, verb.Stderr = seedEnv(), os.Stdout, os.Stderr
	must(verb.Start())
	go func() { must(powerButton(verb.Process)) }()
	if err := verb.Wait(); err != nil {
		fmt.Println("guest:", err)
	}
	if do[0] == "run" {
		fmt.Println("guest: bye")
	}
	powerOff()
}

func must(err error) {
	if err != nil {
		fmt.Println("guest:", err)
		time.Sleep(time.Second) // for the console to be read
		powerOff()
	}
}

func powerOff() {
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

// ownConsole takes the serial port from the kernel, which would write between
// the lines that tests read.
func ownConsole() error {
	if err := os.WriteFile("/sys/class/tty/ttyS0/console", []byte("N"), 0); err != nil {
		return err
	}
	fd, err := unix.Open("/dev/ttyS0", unix.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	for std := range 3 {
		if err := unix.Dup3(fd, std, 0); err != nil {
			return err
		}
	}
	return nil
}

// argument is one of the kernel's command line.
func argument(name string) string {
	b, err := os.ReadFile("/proc/cmdline")
	must(err)
	for word := range strings.FieldsSeq(string(b)) {
		if value, ok := strings.CutPrefix(word, name+"="); ok {
			return value
		}
	}
	return ""
}

// loadModules loads all there are, in whatever order they need. Without pvpanic
// nobody is told of a panic but who reads the console.
func loadModules(panics bool) {
	left, _ := filepath.Glob("/modules/*.ko")
	for progress := true; progress; {
		progress = false
		var failed []string
		for _, path := range left {
			if strings.Contains(path, "pvpanic") && (!panics || argument("hansa.pvpanic") == "") {
				continue
			}
			f, err := os.Open(path)
			must(err)
			if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
				failed = append(failed, path)
			} else {
				progress = true
			}
			f.Close()
		}
		left = failed
	}
}

// disk finds a disk by the name that its machine gave it.
func disk(serial string) string {
	all, _ := filepath.Glob("/sys/block/*/serial")
	for _, path := range all {
		if b, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(b)) == serial {
			return "/dev/" + filepath.Base(filepath.Dir(path))
		}
	}
	return ""
}

func mountSeed() error {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if at := disk("seed"); at != "" {
			return unix.Mount(at, "/seed", "iso9660", unix.MS_RDONLY, "")
		}
		if time.Now().After(deadline) {
			return errors.New("there is no seed")
		}
	}
}

// rebooted notes on the first disk that it was here, and says whether it was.
func rebooted() bool {
	f, err := os.OpenFile(disk("disk"), os.O_RDWR|os.O_SYNC, 0)
	must(err)
	defer f.Close()
	sector := make([]byte, 512)
	_, err = f.ReadAt(sector, 0)
	must(err)
	was := string(sector[:4]) == "here"
	copy(sector, "here")
	_, err = f.WriteAt(sector, 0)
	must(err)
	return was
}

// network brings eth0 up as qemu's own network has it.
func network() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for name, address := range map[string][]byte{"lo": {127, 0, 0, 1}, "eth0": {10, 0, 2, 15}} {
		ifr, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if err := ifr.SetInet4Addr(address); err != nil {
			return err
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFADDR, ifr); err != nil {
			return fmt.Errorf("address of %s: %w", name, err)
		}
		if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
			return err
		}
		ifr.SetUint16(ifr.Uint16() | unix.IFF_UP)
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr); err != nil {
			return err
		}
	}
	return nil
}

func serve() {
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") })
	http.HandleFunc("/seed/", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, r.URL.Path) })
	http.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		path := r.FormValue("path")
		info, err := os.Stat(path)
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		b, err := os.ReadFile(path)
		fmt.Fprintf(w, "%04o %s%v", info.Mode().Perm(), b, err)
	})
	// What a disk begins with, after writing what was posted there; and its size.
	http.HandleFunc("/disk", func(w http.ResponseWriter, r *http.Request) {
		f, err := os.OpenFile(disk(r.FormValue("name")), os.O_RDWR|os.O_SYNC, 0)
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		defer f.Close()
		sector := make([]byte, 512)
		if text := r.FormValue("write"); text != "" {
			copy(sector, text)
			_, err = f.WriteAt(sector, 0)
		} else {
			_, err = f.ReadAt(sector, 0)
		}
		size, _ := f.Seek(0, io.SeekEnd)
		fmt.Fprintf(w, "%d %s %v", size, strings.TrimRight(string(sector), "\x00"), err)
	})
	must(http.ListenAndServe(":8081", nil))
}

// powerButton asks a process to end when the button is pressed.
func powerButton(p *os.Process) error {
	const keyPower = 116
	all, _ := filepath.Glob("/dev/input/event*")
	for _, path := range all {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		go func() {
			e := make([]byte, 24) // struct input_event
			for {
				if _, err := io.ReadFull(f, e); err != nil {
					return
				}
				if binary.LittleEndian.Uint16(e[16:]) == 1 && binary.LittleEndian.Uint16(e[18:]) == keyPower && e[20] == 1 {
					_ = p.Signal(unix.SIGTERM)
				}
			}
		}()
	}
	return nil
}

// echo answers what is typed on the console.
func echo() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fmt.Printf("you said %q\n", lines.Text())
	}
}

// unpackFiles puts the seed's files where they belong.
func unpackFiles() error {
	return eachFile(func(h *tar.Header, content io.Reader) error {
		path := "/" + h.Name
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		b, err := io.ReadAll(content)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			return err
		}
		return os.Chmod(path, os.FileMode(h.Mode))
	})
}

func eachFile(do func(*tar.Header, io.Reader) error) error {
	f, err := os.Open("/seed/files.tar")
	if err != nil {
		return err
	}
	defer f.Close()
	for all := tar.NewReader(f); ; {
		h, err := all.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = do(h, all)
		}
		if err != nil {
			return err
		}
	}
}

// seedEnv reads variables as a shell does: NAME='value', where a quote is '\\”.
func seedEnv() (env []string) {
	b, err := os.ReadFile("/seed/env")
	must(err)
	for rest := string(b); rest != ""; {
		name, after, _ := strings.Cut(rest, "='")
		value := ""
		for {
			part, more, _ := strings.Cut(after, "'")
			value += part
			if after = more; !strings.HasPrefix(after, `\''`) {
				break
			}
			value, after = value+"'", after[3:]
		}
		env = append(env, name+"="+value)
		rest = strings.TrimPrefix(after, "\n")
	}
	return env
}
