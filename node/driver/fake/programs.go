package fake

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
)

// programs are the commands that every World knows; they are those of the
// conformance suite (drivertest.Guest), which does the same as a real process:
//
//	exit CODE             ends with that code
//	run                   runs until it gets a stop signal; ends with 0 (as any word does that is no program)
//	stubborn              runs, and does not heed any signal
//	on-stop CODE          runs until it gets a stop signal; ends with CODE
//	lines N [CODE]        prints "line 0" to "line N-1"; ends with CODE
//	farewell              runs until it gets a stop signal, then prints "farewell 0" to "farewell 99"
//	env                   prints its environment, sorted; ends with 0
//	listen NAME           greets who connects to the port NAME, prints "listening", runs
//	flood BYTES           prints that many bytes in lines, then "the end"; ends with 0
//	hog BYTES             takes that much memory, prints "done", runs
//	spin                  uses a core until it is killed
//	read FILE...          prints mode, name and content of each file
//	write FILE TEXT       replaces what the file holds
//	append FILE TEXT      adds a line to the file, then prints its lines
//	cat                   copies input to output
//	both                  prints "out" to standard output, "err" to standard error; ends with 3
//	tty                   prints "size ROWS COLS", anew when that changes; ends with 7 at the line "quit"
var programs = map[string]Program{
	"exit":     func(_ context.Context, p *Proc) int { return number(p, 1, 0) },
	"stubborn": func(ctx context.Context, p *Proc) int { p.Print("ready"); <-ctx.Done(); return 137 },
	"on-stop": func(ctx context.Context, p *Proc) int {
		return runUntil(number(p, 1, 0))(ctx, p)
	},
	"farewell": func(ctx context.Context, p *Proc) int {
		code := runUntil(0)(ctx, p)
		for i := range 100 {
			p.Print("farewell " + strconv.Itoa(i))
		}
		return code
	},
	"lines":  printLines,
	"env":    printEnv,
	"listen": listen,
	"flood":  flood,
	"hog":    hog,
	"spin":   spin,
	"read":   readFiles,
	"write":  writeFile,
	"append": writeFile,
	"cat":    cat,
	"tty":    tty,
	"both":   func(_ context.Context, p *Proc) int { p.Print("out"); p.PrintError("err"); return 3 },
}

// programFor is the program of a command, or nil for what runs until it gets a stop
// signal and ends with 0. It is called with w.mu held.
func (w *World) programFor(args []string) Program {
	if len(args) > 0 {
		if p := w.programs[args[0]]; p != nil {
			return p
		}
		return programs[args[0]]
	}
	return nil
}

func number(p *Proc, i, otherwise int) int {
	if i < len(p.Args) {
		if n, err := strconv.Atoi(p.Args[i]); err == nil {
			return n
		}
	}
	return otherwise
}

func runUntil(code int) Program {
	return func(ctx context.Context, p *Proc) int {
		p.Print("ready")
		select {
		case <-ctx.Done():
			return 137
		case <-p.Signals:
			return code
		}
	}
}

func printLines(ctx context.Context, p *Proc) int {
	for i := range number(p, 1, 0) {
		p.Print("line " + strconv.Itoa(i))
		if ctx.Err() != nil {
			return 137
		}
	}
	return number(p, 2, 0)
}

func printEnv(_ context.Context, p *Proc) int {
	for _, k := range slices.Sorted(maps.Keys(p.Env)) {
		p.Print(k + "=" + p.Env[k])
	}
	return 0
}

func listen(ctx context.Context, p *Proc) int {
	if len(p.Args) < 2 {
		return 2
	}
	n, _ := p.Task.ListenPort(p.Args[1])
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", n))
	if err != nil {
		p.Print(err.Error())
		return 1
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "hello\n") // who leaves before needs none
			c.Close()
		}
	}()
	p.Print("listening")
	return runUntil(0)(ctx, p)
}
