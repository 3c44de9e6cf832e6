package node

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// traceStep writes one line for a step of the core: when, what came in, and
// what it led to.
func (n *Node) traceStep(evs []placement.Event, effects []placement.Effect) {
	var out strings.Builder
	name := func(v any) string { return strings.TrimPrefix(fmt.Sprintf("%T", v), "placement.") }
	if evs == nil {
		out.WriteString("Begin")
	}
	for i, ev := range evs {
		if i > 0 {
			out.WriteByte('+')
		}
		out.WriteString(name(ev))
	}
	for _, e := range effects {
		fmt.Fprintf(&out, " %s", name(e))
	}
	n.deps.Trace(fmt.Sprintf("%12.6f %-8s %s", time.Since(n.since).Seconds(), n.member.Name, out.String()))
}

// corePanicked reports a panic that the core contained: of one event, message
// or app's steward. The rest of the peer goes on.
func (n *Node) corePanicked(what, subject string, value any) {
	n.panics.Add(1)
	n.log.Error("a bug: a part of deciding panicked and was given up for now; please report it",
		slog.String("what", what), slog.String("subject", subject), slog.Any("panic", value), slog.String("stack", string(debug.Stack())))
}
