package placement

import (
	"strings"
	"testing"
)

func secretComponent() Component {
	return Component{
		Server:  &Server{Process: &Process{Command: []string{"run"}}},
		Secrets: map[string]SecretUse{"db-password": {Env: "PASSWORD"}},
	}
}

// A ledger takes nothing that may not have its secrets there, whatever whoever
// asks believes of the sites.
func TestLedgerHoldsSecretsBack(t *testing.T) {
	p, now, shop := newShop(t)
	ask := func(c Component) (Slots, string) {
		in := Intent{Key: shop.key, Version: Version{Millis: 5, Peer: "a"}, App: App{Namespace: shop.key.Namespace}}
		m := &askMsg{ID: AskID{Asker: "a", Incarnation: 1, Counter: 9}, UID: "other", Component: "c", Slots: FirstSlots(2)}
		bound, why := p.ledger.fits(*now, m, c, &in, nil)
		return bound.slots, why
	}
	alterHost(p.ledger, func(h *Host) { h.Drivers, h.Capacity = []string{DriverProcess}, Resources{CPU: 1000} })
	p.ledger.listed[DriverProcess], p.ledger.booked[DriverProcess] = true, true
	plain := secretComponent()
	plain.Secrets = nil
	credentials := Component{Container: &Container{Image: "x", Credentials: "registry"}}
	alterHost(p.ledger, func(h *Host) { h.Drivers = append(h.Drivers, credentials.Driver()) })
	p.ledger.listed[credentials.Driver()], p.ledger.booked[credentials.Driver()] = true, true

	p.Step(*now, SecretSites{Namespace: "another", Sites: []SiteID{"elsewhere"}})
	for _, c := range []Component{secretComponent(), plain, credentials} {
		if got, why := ask(c); got.Len() != 2 {
			t.Fatalf("%s are granted: %s", got, why)
		}
	}
	p.Step(*now, SecretSites{Namespace: shop.key.Namespace, Sites: []SiteID{"elsewhere"}})
	for _, c := range []Component{secretComponent(), credentials} {
		if got, why := ask(c); got.Len() != 0 || !strings.Contains(why, "the secrets of namespace "+shop.key.Namespace+" are not for site") {
			t.Errorf("%s are granted: %s", got, why)
		}
	}
	if got, why := ask(plain); got.Len() != 2 {
		t.Errorf("of what uses no secret %s are granted: %s", got, why)
	}
	p.Step(*now, SecretSites{Namespace: shop.key.Namespace, Sites: []SiteID{"elsewhere", p.cfg.Site}})
	if got, why := ask(secretComponent()); got.Len() != 2 {
		t.Errorf("with its site named %s are granted: %s", got, why)
	}
	p.Step(*now, SecretSites{Namespace: shop.key.Namespace}) // none at all
	if got, _ := ask(secretComponent()); got.Len() != 0 {
		t.Errorf("with no site left %s are granted", got)
	}
	p.Step(*now, SecretSites{Namespace: shop.key.Namespace, All: true})
	if got, why := ask(secretComponent()); got.Len() != 2 {
		t.Errorf("with all sites %s are granted: %s", got, why)
	}
}

func TestPlanBarsSites(t *testing.T) {
	p, now := newTestPeer("a")
	p.Step(*now, SecretSites{Namespace: "default", Sites: []SiteID{"s1"}})
	in := planFor(5, Place{}, peersFor(9)) // three to a site
	in.Refused = map[PeerID]string{}
	p.barSecrets("default", secretComponent(), in.Candidates, in.Refused)
	r := Plan(in)
	for _, c := range r.Considered {
		if c.Site != "s1" && (c.Taken != 0 || c.Reason != SecretsNotFor("default", c.Site)) {
			t.Errorf("%s at %s takes %d: %s", c.Peer, c.Site, c.Taken, c.Reason)
		}
	}
	if !r.Unplaced.IsEmpty() {
		t.Errorf("%s are not placed", r.Unplaced)
	}
	in.Refused = map[PeerID]string{}
	if p.barSecrets("default", in.App.Components["c"], in.Candidates, in.Refused); len(in.Refused) != 0 {
		t.Errorf("what uses no secret is barred: %v", in.Refused)
	}
}

func TestSecretsAreValidated(t *testing.T) {
	for name, c := range map[string]struct {
		uses map[string]SecretUse
		want string // "" for right
	}{
		"right":        {map[string]SecretUse{"a": {Env: "A"}, "b": {Env: "B", File: "/run/b", Mode: "0440"}}, ""},
		"nowhere":      {map[string]SecretUse{"a": {}}, "it appears nowhere"},
		"no name":      {map[string]SecretUse{"A_b": {Env: "A"}}, "not a name"},
		"same as env":  {map[string]SecretUse{"a": {Env: "LOG"}}, "env sets this variable too"},
		"two, one env": {map[string]SecretUse{"a": {Env: "A"}, "b": {Env: "A"}}, "secret a sets this variable too"},
		"of the mesh":  {map[string]SecretUse{"a": {Env: "HANSA_SITE"}}, "the mesh sets this variable itself"},
		"half a path":  {map[string]SecretUse{"a": {File: "run/a"}}, "not a path inside"},
		"mode":         {map[string]SecretUse{"a": {File: "/run/a", Mode: "999"}}, "not a mode"},
	} {
		app := testApp("shop")
		app.Namespace = DefaultNamespace
		comp := app.Components["c"]
		comp.Env, comp.Secrets = map[string]string{"LOG": "info"}, c.uses
		app.Components["c"] = comp
		err := app.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}
