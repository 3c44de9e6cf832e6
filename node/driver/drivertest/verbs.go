package drivertest

import (
	"bufio"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// say prints an error, if there is one; it is the exit code.
func say(_ int64, err error) int {
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// cpuUsed is what this process has used so far.
func cpuUsed() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func guestBurn(cpu time.Duration) int {
	began := time.Now()
	for until := cpuUsed() + cpu; cpuUsed() < until; {
	}
	fmt.Println("took", time.Since(began).Milliseconds())
	return 0
}

func guestFill(args []string, size int) int {
	if len(args) < 3 {
		return 2
	}
	f, err := os.Create(args[1])
	if err != nil {
		return say(0, err)
	}
	defer f.Close()
	block := make([]byte, 1<<20)
	for wrote := 0; wrote < size; {
		n, err := f.Write(block[:min(len(block), size-wrote)])
		if wrote += n; err != nil {
			fmt.Println("full after", wrote)
			return say(0, err)
		}
	}
	if err := f.Sync(); err != nil {
		return say(0, err)
	}
	fmt.Println("wrote", size)
	return 0
}

func guestRead(files []string) (code int) {
	for _, name := range files {
		info, err := os.Stat(name)
		if err != nil {
			code = say(0, err)
			continue
		}
		b, err := os.ReadFile(name)
		if err != nil {
			code = say(0, err)
			continue
		}
		fmt.Printf("%04o %s %q\n", info.Mode().Perm(), name, b)
	}
	return code
}

func guestWrite(args []string) int {
	if len(args) < 3 {
		return 2
	}
	if args[0] == "write" {
		return say(0, os.WriteFile(args[1], []byte(args[2]), 0o644))
	}
	f, err := os.OpenFile(args[1], os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return say(0, err)
	}
	_, err = fmt.Fprintln(f, args[2])
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return say(0, err)
	}
	b, err := os.ReadFile(args[1])
	fmt.Print(string(b))
	return say(0, err)
}

func guestWho() int {
	groups, err := os.Getgroups()
	fmt.Println("user", os.Getuid(), os.Geteuid(), "group", os.Getgid(), "groups", groups)
	return say(0, err)
}

func guestTTY() int {
	changed := make(chan os.Signal, 8)
	signal.Notify(changed, syscall.SIGWINCH)
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scan := bufio.NewScanner(os.Stdin); scan.Scan(); {
			lines <- scan.Text()
		}
	}()
	for {
		size, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
		if err != nil {
			return say(0, err)
		}
		fmt.Println("size", size.Row, size.Col)
		select {
		case <-changed:
		case l, ok := <-lines:
			if !ok || l == "quit" {
				return 7
			}
		}
	}
}
