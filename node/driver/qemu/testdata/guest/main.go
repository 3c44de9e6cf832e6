//go:build linux

// A guest is the whole system of a machine in tests: process 1 after the kernel.
// What it does stands in the kernel's command line, as hansa.do=VERB,ARGUMENT…:
//
//	run          answers HTTP at :8080, ends at the power button
//	stubborn     the same, and ignores the power button
//	lines N      prints "line 0" … and powers off
//	farewell     at the power button prints 100 lines
//	env          prints what the seed says of the environment, and powers off
//	reboot       reboots once (its first disk remembers), then runs
//	panic        has the kernel panic
//	hog MIB      touches that much memory, prints "done", runs
//	spin         burns CPU
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
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	_ = unix.Mkdir("/proc", 0o755)
	_ = unix.Mkdir("/sys", 0o755)
	_ = unix.Mkdir("/seed", 0o755)
	must(unix.Mount("proc", "/proc", "proc", 0, ""))
	must(unix.Mount("sysfs", "/sys", "sysfs", 0, ""))
	if err := unix.Mount("dev", "/dev", "devtmpfs", 0, ""); !errors.Is(err, unix.EBUSY) {
		must(err)
	}
	_ = os.WriteFile("/proc/sys/kernel/printk", []byte("1"), 0) // the console is ours but for panics
	do := strings.Split(argument("hansa.do"), ",")
	loadModules(do[0] == "panic")
	if do[0] == "panic" {
		_ = os.WriteFile("/proc/sys/kernel/sysrq", []byte("1"), 0)
		_ = os.WriteFile("/proc/sys/kernel/printk", []byte("7"), 0)
		must(os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0))
	}
	number := func(i int) int {
		if i >= len(do) {
			return 0
		}
		n, _ := strconv.Atoi(do[i])
		return n
	}
	must(mountSeed())
	switch do[0] {
	case "lines":
		for i := range number(1) {
			fmt.Println("line", i)
		}
		powerOff()
	case "env":
		b, err := os.ReadFile("/seed/env")
		must(err)
		fmt.Print(string(b))
		powerOff()
	case "reboot":
		if !rebooted() {
			fmt.Println("rebooting")
			must(unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
		}
	case "hog":
		b := make([]byte, number(1)<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		fmt.Println("done", len(b))
	case "spin":
		go func() {
			for {
			}
		}()
	}
	must(network())
	go serve()
	go func() { must(powerButton(do[0])) }()
	fmt.Println("ready")
	echo()
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
	// A file of the seed's, as "MODE CONTENT".
	http.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		f, err := os.Open("/seed/files.tar")
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer f.Close()
		for all := tar.NewReader(f); ; {
			h, err := all.Next()
			if err != nil {
				http.NotFound(w, r)
				return
			}
			if "/"+h.Name == r.FormValue("path") {
				fmt.Fprintf(w, "%o ", h.Mode)
				_, _ = io.Copy(w, all)
				return
			}
		}
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
	must(http.ListenAndServe(":8080", nil))
}

// powerButton does what the verb does at the button.
func powerButton(verb string) error {
	const keyPower = 116
	all, _ := filepath.Glob("/dev/input/event*")
	pressed := make(chan bool, 16)
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
					pressed <- true
				}
			}
		}()
	}
	for range pressed {
		switch verb {
		case "stubborn":
			fmt.Println("no")
			continue
		case "farewell":
			for i := range 100 {
				fmt.Println("farewell", i)
			}
		}
		fmt.Println("bye")
		powerOff()
	}
	return nil
}

// echo answers what is typed on the console.
func echo() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fmt.Printf("you said %q\n", lines.Text())
	}
	select {}
}
