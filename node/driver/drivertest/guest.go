package drivertest

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/driver/boottime"
)

// GuestArg is the first argument that makes GuestMain take a process over.
const GuestArg = "drivertest-guest"

// GuestMain runs the suite's program and exits if the process was started as
// one: its arguments are GuestArg, a verb, and the verb's own. Call it at the
// start of TestMain.
func GuestMain() {
	if len(os.Args) > 2 && os.Args[1] == GuestArg {
		os.Exit(Guest(os.Args[2:]))
	}
}

// Guest is the suite's program. Beside the verbs that the fake lists (programs.go)
// there are some that only real processes can do:
//
//	fork            starts a child in a session of its own, prints its pid, runs
//	orphan          has a child start one in a session of its own and end, runs
//	beat            prints CLOCK_BOOTTIME in nanoseconds every few ms, heeds no signal
//	count           prints 0, 1, 2, … every few ms until it is stopped
//	dial ADDRESS    prints what the verb listen says there; ends with 1 if nothing answers for some seconds
//	hog BYTES       touches that much memory, prints "done", runs
//	spin            burns CPU until killed
//	burn MS         burns that much CPU, prints "took MS" of wall time, ends with 0
//	where           prints the working folder
//	who             prints its user, its groups and whether it can gain privileges
//	flood BYTES     writes that many bytes in lines, then "the end", and ends with 0
//	fill FILE BYTES writes that many bytes to the file, prints "wrote BYTES", ends with 0, or 1 on an error
//	read FILE...    prints mode, name and content of each file; ends with 0, or 1 if one can't be read
//	write FILE TEXT replaces what the file holds
//	append FILE TEXT adds a line to the file, then prints its lines
//	cat             copies input to output
//	both            prints "out" to standard output, "err" to standard error, ends with 3
//	tty             prints "size ROWS COLS", anew when that changes; ends with 7 at the line "quit"
func Guest(args []string) int {
	number := func(i int) int {
		if i >= len(args) {
			return 0
		}
		n, _ := strconv.Atoi(args[i])
		return n
	}
	stop := make(chan os.Signal, 8)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	run := func(code int) int {
		fmt.Println("ready")
		<-stop
		return code
	}
	switch args[0] {
	case "exit":
		return number(1)
	case "run":
		return run(0)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
		fmt.Println("ready")
		select {}
	case "on-stop":
		return run(number(1))
	case "farewell":
		run(0)
		for i := range 100 {
			fmt.Println("farewell", i)
		}
		return 0
	case "lines":
		for i := range number(1) {
			fmt.Println("line", i)
		}
		return number(2)
	case "env":
		for _, e := range slices.Sorted(slices.Values(os.Environ())) {
			fmt.Println(e)
		}
		return 0
	case "where":
		dir, err := os.Getwd()
		fmt.Println(dir, err)
		return 0
	case "listen":
		return guestListen(args, run)
	case "fork":
		return guestFork(run)
	case "orphan":
		return guestOrphan(run)
	case "leave": // the child of orphan
		return guestFork(func(code int) int { return code })
	case "beat":
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
		for {
			fmt.Println(int64(boottime.Now()))
			time.Sleep(beatEvery)
		}
	case "count":
		for i := 0; len(stop) == 0; i++ {
			fmt.Println(i)
			time.Sleep(beatEvery)
		}
		return 0
	case "dial":
		return guestDial(args)
	case "hog":
		b := make([]byte, number(1))
		for i := 0; i < len(b); i += 4096 { // a byte of each page
			b[i] = 1
		}
		fmt.Println("done", len(b))
		return run(0)
	case "burn":
		return guestBurn(time.Duration(number(1)) * time.Millisecond)
	case "fill":
		return guestFill(args, number(2))
	case "read":
		return guestRead(args[1:])
	case "write", "append":
		return guestWrite(args)
	case "who":
		return guestWho()
	case "cat":
		return say(io.Copy(os.Stdout, os.Stdin))
	case "both":
		fmt.Println("out")
		fmt.Fprintln(os.Stderr, "err")
		return 3
	case "tty":
		return guestTTY()
	case "spin":
		for until := time.Now().Add(time.Minute); time.Now().Before(until); {
		}
		return 0
	case "flood":
		return guestFlood(number(1))
	}
	fmt.Fprintf(os.Stderr, "no such verb: %q\n", args)
	return 2
}

// beatEvery is the pause of the verb beat.
const beatEvery = 5 * time.Millisecond

func guestOrphan(run func(int) int) int {
	child := exec.Command("/proc/self/exe", GuestArg, "leave")
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	if err := child.Run(); err != nil {
		fmt.Println(err)
		return 1
	}
	return run(0)
}

func guestFork(run func(int) int) int {
	child := exec.Command("/proc/self/exe", GuestArg, "stubborn")
	child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	if err := child.Start(); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("child", child.Process.Pid)
	return run(0)
}

func guestFlood(size int) int {
	line := strings.Repeat("x", 127) + "\n"
	lines := []byte(strings.Repeat(line, 512)) // a pipe's worth at once
	for ; size > 0; size -= len(lines) {
		if _, err := os.Stdout.Write(lines[:min(size, len(lines))]); err != nil {
			return 1
		}
	}
	fmt.Println("the end")
	return 0
}

// greeting is what the verb listen says to who connects.
const greeting = "hello\n"

func guestListen(args []string, run func(int) int) int {
	if len(args) < 2 {
		return 2
	}
	l, err := net.Listen("tcp", ":"+os.Getenv(driver.PortEnv(args[1])))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, greeting) // who leaves before needs none
			c.Close()
		}
	}()
	fmt.Println("listening")
	return run(0)
}

// guestDial asks what listens at an address, whose name may not be known yet.
func guestDial(args []string) int {
	if len(args) < 2 {
		return 2
	}
	var err error
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		var c net.Conn
		if c, err = net.DialTimeout("tcp", args[1], time.Second); err != nil {
			continue
		}
		var said []byte
		said, err = io.ReadAll(c)
		c.Close()
		if err == nil {
			fmt.Print(string(said))
			return 0
		}
	}
	fmt.Println(err)
	return 1
}
