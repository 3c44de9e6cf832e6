// Command guest is a function for the tests: what it does depends on the path.
package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"time"
)

// calls of this instance: one, ever.
var calls int

func main() {
	calls++
	path := os.Getenv("PATH_INFO")
	arg := 0
	if i := strings.LastIndexByte(path, '/'); i > 0 {
		arg, _ = strconv.Atoi(path[i+1:])
		path = path[:i]
	}
	out := os.Stdout
	switch path {
	case "/status":
		fmt.Fprintf(out, "Status: %d Whatever\r\nX-One: 1\r\n\r\nbody", arg)
	case "/sleep": // milliseconds
		time.Sleep(time.Duration(arg) * time.Millisecond)
		fmt.Fprint(out, "Content-Type: text/plain\n\nslept")
	case "/hold": // keeps so many MiB, then waits for the end of the body
		b := make([]byte, arg<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		fmt.Fprint(out, "Content-Type: text/plain\n\nholding\n")
		io.Copy(io.Discard, os.Stdin)
		runtime.KeepAlive(b)
	case "/exit":
		fmt.Fprintln(os.Stderr, "going down")
		os.Exit(arg)
	case "/late": // answers, then fails
		fmt.Fprint(out, "Content-Type: text/plain\n\nhalf of it")
		os.Exit(3)
	case "/late-after": // answers, and fails after so many milliseconds
		fmt.Fprint(out, "Content-Type: text/plain\n\nhalf of it")
		time.Sleep(time.Duration(arg) * time.Millisecond)
		os.Exit(3)
	case "/calls":
		err := os.WriteFile("state", []byte("x"), 0o600)
		fmt.Fprintf(out, "Content-Type: text/plain\n\n%d calls, a file: %v", calls, err == nil)
	case "/short":
		fmt.Fprint(out, "Content-Type: text/plain\nContent-Length: 100\n\nshort")
	case "/count": // reads all, says how much it was
		n, err := io.Copy(io.Discard, os.Stdin)
		fmt.Fprintf(out, "Content-Type: text/plain\n\n%d %v %s", n, err, os.Getenv("CONTENT_LENGTH"))
	case "/stream": // an event for every line that comes in
		fmt.Fprint(out, "Content-Type: text/plain\n\n")
		buf := make([]byte, 1<<16)
		for {
			n, err := os.Stdin.Read(buf)
			if n > 0 {
				fmt.Fprintf(out, "got %d\n", n)
			}
			if err != nil {
				return
			}
		}
	case "/big": // so many KiB
		fmt.Fprint(out, "Content-Type: application/octet-stream\n\n")
		for range arg {
			if _, err := out.Write(make([]byte, 1024)); err != nil {
				os.Exit(1)
			}
		}
	default:
		fmt.Fprint(out, "Content-Type: text/plain\n\n")
		if os.Getenv("REQUEST_METHOD") == "POST" {
			io.Copy(out, os.Stdin)
			return
		}
		env := os.Environ()
		sort.Strings(env)
		fmt.Fprintln(out, strings.Join(env, "\n"))
		fmt.Fprintln(os.Stderr, "saw", os.Getenv("PATH_INFO"))
	}
}
