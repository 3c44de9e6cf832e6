// Command counter is a container that counts, in a file on its volume, so that
// the number outlives it.
//
//	POST /next     the next number
//	GET  /healthz  200 as long as it can write
//	counter -show  run beside it (hansa exec), prints the number
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// dir is the volume.
const dir = "/data"

type counter struct {
	mu   sync.Mutex // guards the file
	file string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	c := &counter{file: filepath.Join(dir, "count")}
	if len(os.Args) > 1 && os.Args[1] == "-show" {
		n, err := c.read()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(n)
		return
	}
	http.HandleFunc("POST /next", func(w http.ResponseWriter, _ *http.Request) {
		n, err := c.add(1)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		log.Printf("counted %d", n)
		fmt.Fprintln(w, n)
	})
	http.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if _, err := c.add(0); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, "ok\n")
	})
	server := &http.Server{Addr: ":9000", ReadHeaderTimeout: 2 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Shutdown(context.WithoutCancel(ctx)) })
	log.Printf("counting in %s", c.file)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}

// add raises the number in the file and returns it.
func (c *counter) add(by int) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.read()
	if err != nil {
		return 0, err
	}
	next := c.file + ".next"
	if err := os.WriteFile(next, []byte(strconv.Itoa(n+by)+"\n"), 0o644); err != nil {
		return 0, err
	}
	return n + by, os.Rename(next, c.file)
}

// read is the number in the file, 0 without one.
func (c *counter) read() (int, error) {
	data, err := os.ReadFile(c.file)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(data)))
}
