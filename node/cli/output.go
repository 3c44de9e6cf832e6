package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
)

// structured says whether the output is for programs.
func (s *session) structured() bool { return s.output == "json" || s.output == "yaml" }

// print writes v for programs, or calls human for people.
func (s *session) print(v any, human func(w io.Writer) error) error {
	if !s.structured() {
		return human(s.io.Out)
	}
	if s.output == "yaml" && s.printed { // a document of its own
		if _, err := io.WriteString(s.io.Out, "---\n"); err != nil {
			return err
		}
	}
	s.printed = true
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return s.emit(buf.Bytes())
}

// printLine writes v as one of many: a line of JSON, or a YAML document.
func (s *session) printLine(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	if s.output == "yaml" {
		if _, err := io.WriteString(s.io.Out, "---\n"); err != nil {
			return err
		}
	}
	return s.emit(append(data, '\n'))
}

func (s *session) emit(data []byte) error {
	if s.output == "yaml" {
		converted, err := yaml.JSONToYAML(data)
		if err != nil {
			return fmt.Errorf("print: %w", err)
		}
		data = converted
	}
	_, err := s.io.Out.Write(data)
	return err
}

// say writes a line of progress or advice; never to stdout.
func (s *session) say(format string, args ...any) {
	fmt.Fprintf(s.io.Err, format+"\n", args...)
}

// table is rows of columns, aligned by what is seen of them.
type table struct {
	head  []string
	rows  [][]string
	color bool
}

func (s *session) table(head ...string) *table {
	return &table{head: head, color: s.color()}
}

func (t *table) add(cells ...string) {
	for i := range cells {
		cells[i] = clean(cells[i])
	}
	t.rows = append(t.rows, cells)
}

// clean keeps text from elsewhere from steering the terminal or breaking rows.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\x1b' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		if r == '\x1b' {
			return '?'
		}
		return r
	}, text)
}

const gap = "  "

func (t *table) write(w io.Writer) error {
	widths := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	line := func(row []string, paint func(string) string) {
		end := len(row)
		for end > 0 && row[end-1] == "" {
			end--
		}
		for i, cell := range row[:end] {
			b.WriteString(paint(cell))
			if i < end-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)) + gap)
			}
		}
		b.WriteByte('\n')
	}
	line(t.head, func(s string) string { return s })
	for _, row := range t.rows {
		line(row, t.paint)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// Colours of states, on terminals.
var stateColors = map[string]string{
	"running": "32", "alive": "32", "up": "32", "ready": "32",
	"failed": "31", "dead": "31", "lost": "31", "unreachable": "31",
	"degraded": "33", "suspect": "33", "deploying": "33", "pending": "33", "fetching": "33", "starting": "33",
	"stopping": "33", "unhealthy": "33", "full": "33", "cordoned": "33",
}

func (t *table) paint(cell string) string {
	if !t.color {
		return cell
	}
	word, _, stale := strings.Cut(cell, " ")
	code, ok := stateColors[word]
	switch {
	case !ok || stale && !strings.HasSuffix(cell, staleMark):
		return cell
	case stale:
		code = "2" // dim: it is what was last heard
	}
	return "\x1b[" + code + "m" + cell + "\x1b[0m"
}

// color says whether stdout is a terminal that wants colours.
func (s *session) color() bool {
	if s.getenv("NO_COLOR") != "" || s.getenv("TERM") == "dumb" {
		return false
	}
	return isTerminal(s.io.Out)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull
}
