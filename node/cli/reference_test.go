package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// reference is the handbook of a command and all below it, in Markdown.
func reference(root *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# The command `%s`\n\nWritten from the command itself by its tests; each verb's `--help` says the same.\n\n%s\n\n", root.Name(), fenceExamples(root.Long))
	fmt.Fprintf(&b, "Flags that every verb takes:\n\n```\n%s```\n", root.PersistentFlags().FlagUsages())
	var below func(cmd *cobra.Command)
	below = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			if !c.IsAvailableCommand() || c.Name() == "help" || c.Parent().Name() == "completion" {
				continue
			}
			fmt.Fprintf(&b, "\n## %s\n\n%s\n\n%s\n", c.CommandPath(), c.Short+".", fenceExamples(c.Long))
			if flags := c.NonInheritedFlags(); flags.HasAvailableFlags() {
				fmt.Fprintf(&b, "\nFlags:\n\n```\n%s```\n", flags.FlagUsages())
			}
			below(c)
		}
	}
	below(root)
	return b.String()
}

// fenceExamples turns indented blocks of help into code.
func fenceExamples(text string) string {
	var out []string
	inside := false
	for _, line := range strings.Split(text, "\n") {
		indented := strings.HasPrefix(line, "  ")
		switch {
		case indented && !inside:
			if len(out) > 0 && out[len(out)-1] != "" {
				out = append(out, "")
			}
			out = append(out, "```sh")
			inside = true
		case !indented && inside:
			out = append(out, "```")
			inside = false
		}
		out = append(out, strings.TrimPrefix(line, "  "))
	}
	if inside {
		out = append(out, "```")
	}
	return strings.Join(out, "\n")
}
