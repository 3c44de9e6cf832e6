package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/api"
)

type invokeFlags struct {
	data, method, path string
	header             []string
	include            bool
}

func (s *session) invokeVerb() *cobra.Command {
	var f invokeFlags
	cmd := &cobra.Command{
		Use: "invoke APP/FUNCTION", Short: "Calls a function at its nearest instance",
		Long: `Calls a function through the asked peer and prints what it answers. The exit
code is 1 when the answer's status is 400 or more.

Examples:
  hansa invoke shop/price
  hansa invoke shop/price -d '{"item": 7}' -H 'Content-Type: application/json'
  hansa invoke shop/thumbnail -d @photo.jpg --path '/small?width=200' > small.jpg`,
		Args: takes(1, 1, "APP/FUNCTION"), ValidArgsFunction: s.names(1, s.componentNames("function")),
		RunE: func(cmd *cobra.Command, args []string) error { return s.invoke(cmd, args[0], f) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&f.data, "data", "d", "", "body; @FILE reads a file, @- the input")
	flags.StringVarP(&f.method, "method", "X", "", "method (default GET, or POST with -d)")
	flags.StringArrayVarP(&f.header, "header", "H", nil, "'Name: value', as often as needed")
	flags.StringVar(&f.path, "path", "", "path and query below the function")
	flags.BoolVarP(&f.include, "include", "i", false, "print status and headers as well")
	return cmd
}

func (s *session) invoke(cmd *cobra.Command, target string, f invokeFlags) (err error) {
	t, err := parseSlotTarget(target)
	if err != nil || t.slot >= 0 {
		return usagef("%q: want APP/FUNCTION, for instance shop/price", target)
	}
	key, err := s.key(t.app)
	if err != nil {
		return err
	}
	header, err := parseHeaders(f.header)
	if err != nil {
		return err
	}
	body, closeBody, err := s.openData(f.data)
	if err != nil {
		return err
	}
	defer closeBody()
	method := strings.ToUpper(f.method)
	switch {
	case method == "" && cmd.Flags().Changed("data"):
		method = http.MethodPost
	case method == "":
		method = http.MethodGet
	}
	if f.path != "" && !strings.HasPrefix(f.path, "/") && !strings.HasPrefix(f.path, "?") {
		f.path = "/" + f.path
	}
	c, err := s.client()
	if err != nil {
		return err
	}
	resp, err := c.Invoke(cmd.Context(), key, t.component, method, f.path, header, body)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	if p := refusal(resp); p != nil {
		return fmt.Errorf("invoke %s: %w", target, p)
	}
	if f.include {
		fmt.Fprintf(s.io.Out, "%s %s\n", resp.Proto, resp.Status)
		for _, name := range slices.Sorted(maps.Keys(resp.Header)) {
			for _, v := range resp.Header[name] {
				fmt.Fprintf(s.io.Out, "%s: %s\n", name, v)
			}
		}
		fmt.Fprintln(s.io.Out)
	}
	if _, err := io.Copy(s.io.Out, resp.Body); err != nil {
		return fmt.Errorf("invoke %s: the answer broke off: %w", target, err)
	}
	if resp.StatusCode >= 400 {
		return fmt.Errorf("invoke %s: the answer was %s", target, resp.Status)
	}
	return nil
}

// refusal is the problem with which a peer refused a call, or nil when the
// answer is the function's own.
func refusal(resp *http.Response) *api.Problem {
	if resp.StatusCode < 400 || resp.Header.Get("Content-Type") != "application/problem+json" {
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, refusalBytesMax))
	var p api.Problem
	if err == nil && json.Unmarshal(data, &p) == nil && p.Kind != "" {
		return &p
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(data), resp.Body), resp.Body}
	return nil
}

const refusalBytesMax = 64 << 10

func parseHeaders(lines []string) (http.Header, error) {
	h := http.Header{}
	for _, line := range lines {
		name, value, ok := strings.Cut(line, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return nil, usagef("-H %q: want 'Name: value'", line)
		}
		h.Add(strings.TrimSpace(name), strings.TrimSpace(value))
	}
	return h, nil
}

func (s *session) openData(data string) (io.Reader, func(), error) {
	file, ok := strings.CutPrefix(data, "@")
	switch {
	case data == "":
		return nil, func() {}, nil
	case !ok:
		return strings.NewReader(data), func() {}, nil
	case file == "-":
		return s.io.In, func() {}, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, fmt.Errorf("-d: %w", err)
	}
	return f, func() { _ = f.Close() }, nil // read only: nothing is lost
}
