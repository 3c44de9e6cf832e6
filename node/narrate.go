package node

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport/identity"
)

// record keeps what happened, and logs it as a sentence.
func (n *Node) record(e placement.Record) {
	if e.Event == nil {
		return // decisions are kept by the core, for explain
	}
	what := *e.Event
	what.Message = n.sentence(what)
	n.events.add(what)
	attrs := []slog.Attr{slog.String("event", what.Type), slog.String("app", what.Key.String())}
	if what.Component != "" {
		attrs = append(attrs, slog.String("component", what.Component), slog.String("slots", what.Slots))
	}
	n.log.LogAttrs(context.Background(), slog.LevelInfo, what.Message, attrs...)
}

// named is a text of the core with peers' names for their ids, which is all
// that the core knows. It looks up what has the form of an id: there is a text with
// each thing that happens, and a mesh has many peers.
func (n *Node) named(text string) string { return named(text, n.nameOf) }

func named(text string, nameOf func(id string) string) string {
	var out strings.Builder
	done := 0
	for at := 0; at < len(text); at++ {
		from := at
		for at < len(text) && (text[at] >= 'a' && text[at] <= 'z' || text[at] >= '0' && text[at] <= '9') {
			at++
		}
		if id := text[from:at]; identity.ValidID(id) {
			out.WriteString(text[done:from])
			out.WriteString(nameOf(id))
			done = at
		}
	}
	if done == 0 {
		return text // as most are
	}
	out.WriteString(text[done:])
	return out.String()
}

// inNames is an error of the core with peers' names for their ids.
func (n *Node) inNames(err error) error {
	if err == nil {
		return nil
	}
	return namedError{err, n.named(err.Error())}
}

type namedError struct {
	error
	text string
}

func (e namedError) Error() string { return e.text }
func (e namedError) Unwrap() error { return e.error }

func (n *Node) allNamed(texts []string) []string {
	out := make([]string, len(texts))
	for i, t := range texts {
		out[i] = n.named(t)
	}
	return out
}

// sentence says what happened in words, where the core left it at facts.
func (n *Node) sentence(e placement.Happened) string {
	slots := fmt.Sprintf("%s[%s]", e.Component, e.Slots)
	because := ""
	if e.Message != "" {
		because = ": " + n.named(e.Message)
	}
	switch e.Type {
	case "placed":
		return fmt.Sprintf("%s placed at %s", slots, n.nameOf(string(e.Peer)))
	case "running":
		return fmt.Sprintf("%s runs%s", slots, because)
	case "starting":
		return fmt.Sprintf("%s is being started%s", slots, because)
	case "fetching":
		return fmt.Sprintf("%s waits for its files%s", slots, because)
	case "unhealthy", "stopping":
		return fmt.Sprintf("%s is %s%s", slots, e.Type, because)
	case "restarted":
		return fmt.Sprintf("%s was ended by a person, and begins anew", slots)
	case "exited", "failed", "stopped", "stop-after", "fenced":
		return fmt.Sprintf("%s %s%s", slots, e.Type, because)
	case "rollout-done", "rollout-stalled", "rollout-reverted":
		return fmt.Sprintf("the roll-out of %s is %s%s", e.Component, strings.TrimPrefix(e.Type, "rollout-"), because)
	case "conflict":
		return fmt.Sprintf("%s was edited on both sides of a cut%s; 'hansa conflicts' shows it", keyName(e.Key), because)
	case "conflict-ended":
		return fmt.Sprintf("%s is in conflict no more%s", keyName(e.Key), because)
	case "pushed":
		return fmt.Sprintf("%s was pushed%s", keyName(e.Key), because)
	case "image-removed":
		return fmt.Sprintf("the name of %s was removed%s", keyName(e.Key), because)
	case "policy-set", "policy-removed":
		return fmt.Sprintf("%s was %s%s", keyName(e.Key), strings.TrimPrefix(e.Type, "policy-"), because)
	case "deployed", "removed", "deputy", "deposed", "taken-over", "merged":
		return fmt.Sprintf("%s %s%s", keyName(e.Key), e.Type, because)
	}
	return e.Type + because
}

// keyName is what stands under a key as people call it, who know nothing of the
// namespaces in which images and policies are kept.
func keyName(k placement.AppKey) string {
	switch k.Namespace {
	case placement.NamespaceImages:
		repository, reference, _ := strings.Cut(k.App, ":")
		return "image " + imageName(placement.Image{Repository: repository, Reference: reference})
	case placement.NamespacePolicies:
		return "the policy of namespace " + k.App
	}
	return k.String()
}
