package api_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/node/api/apitest"
)

// pipes is a listener whose connections are in memory, with virtual deadlines.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { close(p); return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// A client that promises a body and never sends it is answered and let go,
// whether or not the handler wants the body: net/http reads what is left of it
// before it answers, and would wait for ever.
func TestSilentBodiesEnd(t *testing.T) {
	for _, request := range []string{
		"PUT /v1/namespaces/default/apps/x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json",
		"PUT /v1/namespaces/default/apps/x HTTP/1.1\r\nHost: evil\r\nContent-Type: application/json",
		"PUT /v1/artifacts/sha256:" + strings.Repeat("0", 64) + " HTTP/1.1\r\nHost: 127.0.0.1",
		"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1",
		"GET /nowhere HTTP/1.1\r\nHost: 127.0.0.1",
	} {
		synctest.Test(t, func(t *testing.T) {
			s, err := api.New(api.Config{Backend: apitest.New()})
			if err != nil {
				t.Fatal(err)
			}
			listener := make(pipes)
			server := &http.Server{Handler: s}
			go func() { _ = server.Serve(listener) }()
			client, end := net.Pipe()
			defer client.Close()
			listener <- end
			begin := time.Now()
			if _, err := io.WriteString(client, request+"\r\nContent-Length: 1000\r\n\r\n{"); err != nil {
				t.Fatal(err)
			}
			answer, err := http.ReadResponse(bufio.NewReader(client), nil)
			if err != nil {
				t.Fatalf("%s: %v after %v", request, err, time.Since(begin))
			}
			if _, err := io.Copy(io.Discard, answer.Body); err != nil {
				t.Errorf("%s: %v", request, err)
			}
			if took := time.Since(begin); took > time.Minute {
				t.Errorf("%s: %d after %v", request, answer.StatusCode, took)
			}
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
