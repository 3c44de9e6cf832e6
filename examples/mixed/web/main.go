// Command web is the mixed app's front: a container that asks another one, by
// its component's name, how many visitors there were.
//
//	GET /         who answers, and the number of the visit
//	GET /healthz  200 as long as it works
package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

const askMax = 2 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	http.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	http.HandleFunc("GET /{$}", visit)
	server := &http.Server{Addr: ":8080", ReadHeaderTimeout: askMax}
	context.AfterFunc(ctx, func() {
		log.Print("asked to end")
		_ = server.Shutdown(context.WithoutCancel(ctx))
	})
	log.Printf("listening on %s at %s", server.Addr, os.Getenv("HANSA_SITE"))
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}

func visit(w http.ResponseWriter, r *http.Request) {
	answer := map[string]string{"site": os.Getenv("HANSA_SITE"), "greeting": os.Getenv("GREETING")}
	count, err := next(r.Context())
	if err != nil {
		answer["visit"] = "not counted: " + err.Error()
	} else {
		answer["visit"] = count
	}
	log.Printf("visit %s", answer["visit"])
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(answer) // the visitor is gone: nobody to tell
}

// next asks the counter, which is a name where both run at one peer.
func next(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, askMax)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://counter:9000/next", nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New("the counter answers " + resp.Status)
	}
	return strings.TrimSpace(string(text)), err
}
