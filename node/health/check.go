package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"

	"github.com/hansa-mesh/hansa/placement"
)

const (
	// bodyMax is how much of an answer is read, so that the server sees its
	// answer taken.
	bodyMax = 64 << 10
	// headersMax bounds the headers of an answer.
	headersMax = 64 << 10
	// UserAgent is how servers know a check in their logs.
	UserAgent = "hansa-health/1"
)

// client asks servers that a person put into a manifest, on this machine: it
// follows no proxy and no redirect, which would lead elsewhere, and keeps no
// connection, since a check is also whether one can be made.
var client = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport: &http.Transport{
		Proxy: nil, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: headersMax,
		DialContext: (&net.Dialer{}).DialContext,
	},
}

// check asks once.
func (s Subject) check(ctx context.Context) error {
	switch h := s.Check; {
	case h.HTTP != nil && s.Call != nil:
		return s.call(ctx, pathOf(h.HTTP))
	case h.HTTP != nil:
		return s.get(ctx, h.HTTP)
	case h.TCP != nil:
		return s.dial(ctx, h.TCP.Port)
	case h.Exec != nil:
		return s.run(ctx, h.Exec.Command)
	}
	return errPass // of a newer release, perhaps
}

// what is checked, in words.
func (s Subject) what() string {
	switch h := s.Check; {
	case h.HTTP != nil:
		return "GET " + pathOf(h.HTTP)
	case h.TCP != nil:
		return "connect to port " + orOnly(h.TCP.Port, s.Ports)
	case h.Exec != nil && len(h.Exec.Command) > 0:
		return h.Exec.Command[0]
	}
	return "a check"
}

func pathOf(h *placement.HTTPCheck) string {
	if h.Path == "" {
		return "/"
	}
	return h.Path
}

func (s Subject) get(ctx context.Context, h *placement.HTTPCheck) error {
	addr, err := s.address(h.Port)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+pathOf(h), nil)
	if err != nil {
		return fmt.Errorf("GET %s: %w", pathOf(h), err)
	}
	r.Header.Set("User-Agent", UserAgent)
	answer, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("GET %s: %s", pathOf(h), plain(err))
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, bodyMax)) // the status is the answer
	return verdict(pathOf(h), answer.StatusCode)
}

func verdict(path string, status int) error {
	if status >= 200 && status < 400 {
		return nil
	}
	return fmt.Errorf("GET %s: status %d", path, status)
}

func (s Subject) call(ctx context.Context, path string) error {
	status, busy, err := s.Call(ctx, path)
	switch {
	case busy:
		return errPass // it answers others
	case err != nil:
		return fmt.Errorf("GET %s: %s", path, plain(err))
	}
	return verdict(path, status)
}

func (s Subject) dial(ctx context.Context, port string) error {
	addr, err := s.address(port)
	if err != nil {
		return err
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return fmt.Errorf("connect to port %s: %s", orOnly(port, s.Ports), plain(err))
	}
	return conn.Close()
}

func (s Subject) run(ctx context.Context, command []string) error {
	if s.Exec == nil {
		return errors.New("nothing can be run inside it")
	}
	code, output, err := s.Exec(ctx, command)
	if err != nil {
		return fmt.Errorf("%s: %s", s.what(), plain(err))
	}
	if code == 0 {
		return nil
	}
	line, _, _ := strings.Cut(strings.TrimSpace(output), "\n")
	if line != "" {
		line = ": " + line
	}
	return fmt.Errorf("%s: exit code %d%s", s.what(), code, line)
}

// address is where a port is reached; without a name the only one.
func (s Subject) address(port string) (string, error) {
	if addr := s.Ports[orOnly(port, s.Ports)]; addr != "" {
		return addr, nil
	}
	return "", fmt.Errorf("its driver does not say where port %q is reached", port)
}

func orOnly(port string, ports map[string]string) string {
	if port == "" && len(ports) == 1 {
		for name := range ports {
			return name
		}
	}
	return port
}

// plain is an error without addresses, which differ from check to check and say
// nothing to a person.
func plain(err error) string {
	var op *net.OpError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "no answer in time"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the connection was closed without an answer"
	case errors.As(err, &op) && op.Err != nil:
		return strings.TrimPrefix(strings.TrimPrefix(op.Err.Error(), "connect: "), "read: ")
	}
	return err.Error()
}
