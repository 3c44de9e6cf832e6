//go:build wasip1

// Command search is a function that stays in memory: it builds an index once,
// when an instance of it begins, and answers many requests from it.
//
// A function that names a handler in its manifest is a module without a main
// program (a reactor), built with -buildmode=c-shared. Its handler is called for
// each request: the variables that other functions find in their environment
// come first on standard input, as SCGI has them, then the body; the answer goes
// to standard output, as any function's. What is in the environment, beside what
// the manifest says, is which instance this is.
//
//	GET /?q=rope      the lines of the catalogue that have the word
package main

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
)

//go:embed catalogue.txt
var catalogue string

// index is what makes a search cheap, and a start dear.
var index = build(catalogue)

func build(text string) map[string][]string {
	all := map[string][]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		seen := map[string]bool{}
		for _, word := range words(line) {
			if !seen[word] {
				seen[word] = true
				all[word] = append(all[word], line)
			}
		}
	}
	return all
}

func words(line string) []string {
	return strings.FieldsFunc(strings.ToLower(line), func(r rune) bool {
		return strings.ContainsRune(" ,.;:()", r)
	})
}

// searches that this instance answered: it stays, and so does what it counts.
var searches int

// main is never called: there is no main program.
func main() {}

//go:wasmexport handle
func handle() {
	in := bufio.NewReader(os.Stdin)
	vars, err := variables(in)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) // this instance ends; the next request has another
	}
	if m := vars["REQUEST_METHOD"]; m != "GET" && m != "HEAD" {
		fmt.Print("Allow: GET\n")
		answer(405, map[string]any{"error": "GET is the method here"})
		return
	}
	query, err := url.ParseQuery(vars["QUERY_STRING"])
	word := strings.ToLower(query.Get("q"))
	if err != nil || word == "" {
		answer(400, map[string]any{"error": "ask with ?q=WORD"})
		return
	}
	searches++
	answer(200, map[string]any{
		"word": word, "lines": append([]string{}, index[word]...),
		"searches": searches, "site": os.Getenv("HANSA_SITE"),
	})
}

// variables reads those of one request: a netstring of names and values that
// each end in a zero byte. What follows in in is the body.
func variables(in *bufio.Reader) (map[string]string, error) {
	size, err := in.ReadString(':')
	if err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	n, err := strconv.Atoi(strings.TrimSuffix(size, ":"))
	if err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	head := make([]byte, n+1) // and a comma
	if _, err := io.ReadFull(in, head); err != nil {
		return nil, fmt.Errorf("read the request: %w", err)
	}
	fields := strings.Split(string(head[:n]), "\x00")
	vars := make(map[string]string, len(fields)/2)
	for i := 0; i+1 < len(fields); i += 2 {
		vars[fields[i]] = fields[i+1]
	}
	return vars, nil
}

func answer(status int, body any) {
	b, err := json.Marshal(body)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("Status: %d\nContent-Type: application/json\nContent-Length: %d\n\n%s\n", status, len(b)+1, b)
}
