//go:build linux

// Command machine is the mixed app's virtual machine: all of its system, process 1
// after the kernel. It answers HTTP, and what is typed on its console:
//
//	GET /         the time since it booted, and who runs it
//	GET /healthz  200 as long as it works
//	console       help, env, uptime, poweroff
package main

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

var booted = time.Now()

// seed is where the read-only disk is mounted that says what the manifest says.
const seed = "/seed"

func main() {
	if err := boot(); err != nil {
		fmt.Println("machine:", err)
		powerOff()
	}
	http.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	http.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "up for %v at %s\n", time.Since(booted).Round(time.Second), os.Getenv("HANSA_SITE"))
	})
	server := &http.Server{Addr: ":8080", ReadHeaderTimeout: 10 * time.Second}
	go func() { fmt.Println("machine:", server.ListenAndServe()) }()
	go shell(os.Stdin, os.Stdout)

	// The power button comes as a signal, as other programs are asked to end.
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM)
	go watchPower(end)
	fmt.Printf("machine: booted at %s, %s\n", os.Getenv("HANSA_SITE"), os.Getenv("GREETING"))
	<-end
	fmt.Println("machine: asked to end")
	powerOff()
}

// shell answers lines that are typed on the console.
func shell(in io.Reader, out io.Writer) {
	for lines := bufio.NewScanner(in); lines.Scan(); {
		switch word := strings.TrimSpace(lines.Text()); word {
		case "":
		case "env":
			fmt.Fprintln(out, strings.Join(os.Environ(), "\n"))
		case "uptime":
			fmt.Fprintf(out, "up for %v\n", time.Since(booted).Round(time.Second))
		case "poweroff":
			powerOff()
		default:
			fmt.Fprintf(out, "%s: one of help, env, uptime, poweroff\n", word)
		}
	}
}

// readSeed takes the environment and the files of the manifest from the seed.
func readSeed() error {
	env, err := os.ReadFile(seed + "/env")
	if err != nil {
		return err
	}
	if err := setEnv(string(env)); err != nil {
		return err
	}
	archive, err := os.Open(seed + "/files.tar")
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer archive.Close()
	for files := tar.NewReader(archive); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		content, err := io.ReadAll(files)
		if err != nil {
			return err
		}
		if h.Name == "etc/motd" { // the only one that this system has a use for
			fmt.Print(string(content))
		}
	}
}

// setEnv reads lines as a shell does: NAME='value', a quote within written as it has
// to be there.
func setEnv(text string) error {
	const quote = `'\''`
	for text != "" {
		name, rest, ok := strings.Cut(text, "='")
		if !ok {
			return fmt.Errorf("the seed's env: %q is no NAME='value'", text)
		}
		value, rest, ok := strings.Cut(strings.ReplaceAll(rest, quote, "\x00"), "'\n")
		if !ok {
			return fmt.Errorf("the seed's env: the value of %s has no end", name)
		}
		if err := os.Setenv(name, strings.ReplaceAll(value, "\x00", "'")); err != nil {
			return err
		}
		text = strings.ReplaceAll(rest, "\x00", quote)
	}
	return nil
}
