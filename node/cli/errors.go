package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/hansa-mesh/hansa/node/api"
)

// usagef is an error of wrong usage: exit code 2.
func usagef(format string, args ...any) error {
	return &api.Usage{Err: fmt.Errorf(format, args...)}
}

// explain is err in words, with what to do next.
func (s *session) explain(err error) string {
	text := err.Error()
	var problem *api.Problem
	switch {
	case errors.Is(err, context.Canceled):
		return strings.ReplaceAll(text, context.Canceled.Error(), "interrupted")
	case isCertificate(err):
		return text + ": to trust a certificate of your own, name it in SSL_CERT_FILE"
	case errors.Is(err, api.ErrNoAnswer):
		return text + `: is the daemon running? start one with "hansa agent" or "hansa dev", or name another peer with --api or HANSA_API`
	case !errors.As(err, &problem):
		return text
	}
	if hint := hintFor(problem); hint != "" {
		text += ": " + hint
	}
	if problem.Kind == api.KindInternal && problem.RequestID != "" {
		text += " (request " + problem.RequestID + ")"
	}
	return text
}

func hintFor(p *api.Problem) string {
	switch p.Kind {
	case api.KindTooFew:
		return "lower --min-copies, or wait until more peers are in reach (hansa peers)"
	case api.KindUnreachable:
		return "hansa peers shows who is in reach"
	}
	return ""
}

// isCertificate says whether the peer answers, but can't be believed.
func isCertificate(err error) bool {
	var unverified *tls.CertificateVerificationError
	return errors.As(err, &unverified)
}

// flagError makes an error of flags one of usage, and names the nearest flag.
func flagError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	text := err.Error()
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		name := unknown.GetSpecifiedName()
		text = "unknown flag --" + name
		if len(name) == 1 {
			text = "unknown flag -" + name
		}
		if near := nearestFlag(cmd, name); near != "" {
			text += ": did you mean --" + near + "?"
		}
	}
	return usagef("%s (%s --help lists the flags)", text, cmd.CommandPath())
}

func nearestFlag(cmd *cobra.Command, name string) string {
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	return api.Nearest(name, names)
}

// unknownVerb makes cobra's error for a verb that is none one of ours.
func unknownVerb(root *cobra.Command, err error) error {
	var name string
	if n, _ := fmt.Sscanf(err.Error(), "unknown command %q", &name); n != 1 {
		return &api.Usage{Err: err}
	}
	return unknownChild(root, name)
}

func unknownChild(cmd *cobra.Command, name string) error {
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	text := fmt.Sprintf("%q is no verb of %s", name, cmd.CommandPath())
	if near := api.Nearest(name, names); near != "" {
		text += fmt.Sprintf(": did you mean %q?", near)
	}
	return usagef("%s (%s --help lists them)", text, cmd.CommandPath())
}

// takes checks the number of arguments; what names them in the message.
func takes(least, most int, what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usagef("%s needs %s (%s --help has examples)", cmd.CommandPath(), what, cmd.CommandPath())
		case most == 0 && len(args) > 0:
			return usagef("%s takes no arguments, but got %q", cmd.CommandPath(), args[0])
		case most >= 0 && len(args) > most:
			return usagef("%s takes %s, but got %q as well", cmd.CommandPath(), what, args[most])
		}
		return nil
	}
}
