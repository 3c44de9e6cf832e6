package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/hansa-mesh/hansa/node/api"
	"github.com/hansa-mesh/hansa/placement"
)

// completeTimeMax is how long a shell waits for names from a peer.
const completeTimeMax = 800 * time.Millisecond

type completer = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective)

// mustComplete gives a flag its values.
func mustComplete(cmd *cobra.Command, flag string, values ...string) {
	err := cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
	if err != nil {
		panic(err) // the flag was defined just above
	}
}

// names completes with what list finds; a peer that does not answer offers
// nothing. most is how many arguments are completed, -1 for any.
func (s *session) names(most int, list func(ctx context.Context, c *api.Client) []string) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if most >= 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx := cmd.Context()
		if ctx == nil {
			ctx = context.Background()
		}
		ctx, cancel := context.WithTimeout(ctx, completeTimeMax)
		defer cancel()
		c, err := s.client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return list(ctx, c), cobra.ShellCompDirectiveNoFileComp
	}
}

// onePage bounds what completion reads.
var onePage = api.Page{Limit: 500}

func (s *session) appNames(ctx context.Context, c *api.Client) []string {
	l, err := c.Apps(ctx, api.AppQuery{Namespace: s.namespace, Page: onePage})
	if err != nil {
		return nil
	}
	var names []string
	for _, a := range l.Items {
		names = append(names, a.App+"\t"+a.State)
	}
	return names
}

// componentNames are "app/component" of all apps, or of those with a kind.
func (s *session) componentNames(kind string) func(ctx context.Context, c *api.Client) []string {
	return func(ctx context.Context, c *api.Client) []string {
		l, err := c.Apps(ctx, api.AppQuery{Namespace: s.namespace, Page: onePage})
		if err != nil {
			return nil
		}
		var names []string
		for _, a := range l.Items {
			for _, comp := range a.Components {
				if kind == "" || comp.Kind == kind {
					names = append(names, a.App+"/"+comp.Name+"\t"+comp.Kind)
				}
			}
		}
		return names
	}
}

func peerNamesOf(ctx context.Context, c *api.Client) []string {
	l, err := c.Peers(ctx, onePage)
	if err != nil {
		return nil
	}
	var names []string
	for _, p := range l.Items {
		names = append(names, nameOr(p.Name, p.ID)+"\t"+p.State+" at "+p.Site)
	}
	return names
}

// key is the app that a person names.
func (s *session) key(app string) (placement.AppKey, error) {
	if strings.Contains(app, "/") {
		return placement.AppKey{}, usagef("%q: name the app alone; its namespace goes to -n", app)
	}
	if !api.IsName(app) {
		return placement.AppKey{}, usagef("%q is not the name of an app (%s)", app, api.NameRule)
	}
	return placement.AppKey{Namespace: s.namespace, App: app}, nil
}

// askFor is an app and whom to ask about it.
func (s *session) askFor(app string) (placement.AppKey, *api.Client, error) {
	key, err := s.key(app)
	if err != nil {
		return key, nil, err
	}
	c, err := s.client()
	return key, c, err
}

// scope is what a list is of: one app, all of a namespace, or all.
func (s *session) scope(args []string, everywhere bool) (placement.AppKey, error) {
	switch {
	case len(args) > 0:
		return s.key(args[0])
	case everywhere:
		return placement.AppKey{}, nil
	}
	return placement.AppKey{Namespace: s.namespace}, nil
}

func siteNames(ctx context.Context, c *api.Client) []string {
	l, err := c.Sites(ctx, onePage)
	if err != nil {
		return nil
	}
	var names []string
	for _, site := range l.Items {
		names = append(names, site.Name+"\t"+site.State)
	}
	return names
}

// manifestFiles completes files that may be manifests.
func manifestFiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{"yaml", "yml", "json"}, cobra.ShellCompDirectiveFilterFileExt
}
