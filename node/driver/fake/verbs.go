package fake

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

func flood(ctx context.Context, p *Proc) int {
	line := strings.Repeat("x", 127)
	for left := number(p, 1, 0); left > 0 && ctx.Err() == nil; left -= len(line) + 1 {
		p.Print(line)
	}
	p.Print("the end")
	return 0
}

func hog(ctx context.Context, p *Proc) int {
	size := int64(number(p, 1, 0))
	if !p.Use(0, size) {
		if len(p.Task.Process.Command) > 0 && p.Task.Process.Command[0] == "hog" {
			p.run.outOfMemory()
		}
		return 137
	}
	p.Print(fmt.Sprint("done ", size))
	return runUntil(0)(ctx, p)
}

// spinEvery is how often the verb spin says what it used.
const spinEvery = 10 * time.Millisecond

func spin(ctx context.Context, p *Proc) int {
	tick := time.NewTicker(spinEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.Use(spinEvery, 0)
		case <-ctx.Done():
			return 137
		}
	}
}

func readFiles(_ context.Context, p *Proc) (code int) {
	for _, name := range p.Args[1:] {
		mode, content, err := p.ReadFile(name)
		if err != nil {
			p.Print(err.Error())
			code = 1
			continue
		}
		p.Print(fmt.Sprintf("%04o %s %q", mode, name, content))
	}
	return code
}

func writeFile(_ context.Context, p *Proc) int {
	if len(p.Args) < 3 {
		return 2
	}
	name, text := p.Args[1], p.Args[2]
	if p.Args[0] == "append" {
		_, old, _ := p.ReadFile(name) // none is the same as empty
		text = string(old) + text + "\n"
		p.Print(strings.TrimSuffix(text, "\n"))
	}
	if err := p.WriteFile(name, []byte(text)); err != nil {
		p.Print(err.Error())
		return 1
	}
	return 0
}

func cat(_ context.Context, p *Proc) int {
	b, err := io.ReadAll(io.LimitReader(p.Stdin, catMax))
	if err != nil {
		return 1
	}
	p.write("stdout", string(b))
	return 0
}

// catMax bounds what the verb cat copies.
const catMax = 16 << 20

func tty(ctx context.Context, p *Proc) int {
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scan := bufio.NewScanner(p.Stdin); scan.Scan(); {
			select {
			case lines <- scan.Text():
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case size := <-p.Size:
			p.Print(fmt.Sprint("size ", size.Rows, " ", size.Cols))
		case l, ok := <-lines:
			if !ok || l == "quit" {
				return 7
			}
		case <-ctx.Done():
			return 137
		}
	}
}
