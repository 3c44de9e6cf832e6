// Command warm is a function for the tests that stays in memory: what it does
// depends on the path.
package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"time"
)

// What stays from one call to the next.
var (
	calls int
	kept  [][]byte
)

func init() {
	fmt.Println("begins")
	switch os.Getenv("INIT") {
	case "exit":
		os.Exit(4)
	case "spin":
		for {
		}
	case "hold":
		keep(1 << 30)
	}
}

func main() {}

func keep(size int) {
	b := make([]byte, size)
	for i := 0; i < len(b); i += 4096 {
		b[i] = 1
	}
	kept = append(kept, b)
}

// request reads the variables; what is left of in is the body.
func request(in *bufio.Reader) map[string]string {
	length, err := in.ReadString(':')
	n, wrong := strconv.Atoi(strings.TrimSuffix(length, ":"))
	if err != nil || wrong != nil {
		panic(fmt.Sprint("no netstring: ", length, err, wrong))
	}
	head := make([]byte, n+1)
	if _, err := io.ReadFull(in, head); err != nil || head[n] != ',' {
		panic(fmt.Sprint("a cut netstring: ", err))
	}
	fields := strings.Split(string(head[:n]), "\x00")
	vars := map[string]string{}
	for i := 0; i+1 < len(fields); i += 2 {
		if i == 0 && fields[i] != "CONTENT_LENGTH" {
			panic("CONTENT_LENGTH is not the first")
		}
		vars[fields[i]] = fields[i+1]
	}
	return vars
}

//go:wasmexport handle
func handle() {
	calls++
	in := bufio.NewReader(os.Stdin)
	vars := request(in)
	path, arg := vars["PATH_INFO"], 0
	if i := strings.LastIndexByte(path, '/'); i > 0 {
		arg, _ = strconv.Atoi(path[i+1:])
		path = path[:i]
	}
	out := os.Stdout
	text := func(format string, args ...any) {
		fmt.Fprintf(out, "Content-Type: text/plain\n\n"+format, args...)
	}
	switch path {
	case "/calls":
		text("%d", calls)
	case "/sleep": // milliseconds
		time.Sleep(time.Duration(arg) * time.Millisecond)
		text("slept")
	case "/exit":
		fmt.Fprintln(os.Stderr, "going down")
		os.Exit(arg)
	case "/answer-and-exit":
		text("bye")
		os.Exit(0)
	case "/panic":
		panic("it went wrong")
	case "/spin":
		for {
		}
	case "/nothing":
	case "/keep": // so many MiB for good
		keep(arg << 20)
		text("%d", calls)
	case "/hold": // so many MiB until the body ends
		b := make([]byte, arg<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		text("holding\n")
		io.Copy(io.Discard, in)
		runtime.KeepAlive(b)
	case "/count":
		n, err := io.Copy(io.Discard, in)
		text("%d %v %q", n, err, vars["CONTENT_LENGTH"])
	case "/unread": // answers without a look at the body
		text("%d", calls)
	case "/big": // so many KiB
		fmt.Fprint(out, "Content-Type: application/octet-stream\n\n")
		for range arg {
			if _, err := out.Write(make([]byte, 1024)); err != nil {
				return
			}
		}
	default:
		if vars["REQUEST_METHOD"] == "POST" {
			text("")
			io.Copy(out, in)
			return
		}
		all := os.Environ()
		for k, v := range vars {
			all = append(all, k+"="+v)
		}
		sort.Strings(all)
		text("%s\n", strings.Join(all, "\n"))
		fmt.Fprintln(os.Stderr, "saw", vars["PATH_INFO"])
	}
}
