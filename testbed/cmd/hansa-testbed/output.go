package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
)

// The formats of -o.
const (
	formatTable = "table"
	formatJSON  = "json"
)

// printer prints a figure on standard output: as JSON on one line, or as text.
func printer(cmd *cobra.Command, format string) (func(figure any, text string), error) {
	switch format {
	case formatTable:
		return func(_ any, text string) { fmt.Fprintln(cmd.OutOrStdout(), text) }, nil
	case formatJSON:
		encoder := json.NewEncoder(cmd.OutOrStdout())
		return func(figure any, _ string) { _ = encoder.Encode(figure) }, nil // nobody reads a closed pipe
	}
	return nil, fmt.Errorf("-o %q: want %s or %s", format, formatTable, formatJSON)
}

// draw writes a drawing to a file.
func draw(path string, chart func(io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return fmt.Errorf("--plot: %w", err)
	}
	return errors.Join(chart(f), f.Close())
}
