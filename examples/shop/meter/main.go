// Command meter is a small web server on the bare machine that counts.
//
//	GET  /         the count, and where it was counted
//	POST /count    adds one
//	GET  /healthz  200 while it serves
//
// It listens on the port that Hansa allotted, and ends in order when it is
// told to.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(0) // whoever keeps the log keeps the time
	port := flag.String("port", os.Getenv("HANSA_PORT_HTTP"), "port to listen on")
	flag.Parse()
	if *port == "" {
		log.Fatal("meter: no port: give --port or set HANSA_PORT_HTTP")
	}
	if err := serve(*port); err != nil {
		log.Fatal("meter: ", err)
	}
}

func serve(port string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler(), ReadHeaderTimeout: 5 * time.Second}
	done := make(chan error, 1)
	go func() {
		<-ctx.Done()
		log.Print("asked to stop; finishing what is under way")
		last, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		done <- server.Shutdown(last)
	}()
	log.Printf("counting on port %s", port)
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-done
}

func handler() http.Handler {
	var count atomic.Int64
	show := func(w http.ResponseWriter, n int64) {
		w.Header().Set("Content-Type", "application/json")
		// An error here means that the client went away.
		_ = json.NewEncoder(w).Encode(map[string]any{
			"count": n, "site": os.Getenv("HANSA_SITE"), "peer": os.Getenv("HANSA_PEER"), "slot": os.Getenv("HANSA_SLOT"),
		})
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { show(w, count.Load()) })
	mux.HandleFunc("POST /count", func(w http.ResponseWriter, _ *http.Request) { show(w, count.Add(1)) })
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	return mux
}
