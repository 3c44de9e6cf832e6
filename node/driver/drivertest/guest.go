package drivertest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

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

// Guest is the suite's program. Beside the verbs that fake.Programs lists
// there are some that only real processes can do:
//
//	fork            starts a child in a session of its own, prints its pid, runs
//	orphan          has a child start one in a session of its own and end, runs
//	beat            prints CLOCK_BOOTTIME in nanoseconds every few ms, heeds no signal
//	hog BYTES       touches that much memory, prints "done", runs
//	spin            burns CPU until killed
//	where           prints the working folder
//	flood BYTES     writes that many bytes in lines, then ends with 0
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
	case "hog":
		b := make([]byte, number(1))
		for i := 0; i < len(b); i += 4096 { // a byte of each page
			b[i] = 1
		}
		fmt.Println("done", len(b))
		return run(0)
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
	line := []byte(strings.Repeat("x", 127) + "\n")
	for ; size > 0; size -= len(line) {
		if _, err := os.Stdout.Write(line); err != nil {
			return 1
		}
	}
	return 0
}

func guestListen(args []string, run func(int) int) int {
	if len(args) < 3 {
		return 2
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+args[2])
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
			c.Close()
		}
	}()
	fmt.Println("listening")
	return run(0)
}
