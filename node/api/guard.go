package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// guard decides whether a request is let in at all.
//
// On loopback without a token whoever runs on the machine may ask. A browser
// on the machine must not be made to ask by some web page: a page of another
// origin is refused what changes state (Origin, Sec-Fetch-Site), and a name
// that was re-bound to 127.0.0.1 is refused everything (Host).
type guard struct {
	token     [sha256.Size]byte // hash of the bearer token
	needToken bool
	hosts     map[string]bool // names that Host may hold; nil is any
	origins   *http.CrossOriginProtection
}

const tokenBytesMin = 16

// newGuard checks that what is asked for is safe to serve.
func newGuard(cfg Config) (*guard, error) {
	host, _, err := net.SplitHostPort(cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("admin API: address %q: want host:port, for instance %s", cfg.Addr, AddrDefault)
	}
	local := isLoopback(host)
	if !local && (cfg.TLS == nil || cfg.Token == "") {
		return nil, fmt.Errorf("admin API: %s can be reached from other machines, so it needs TLS and a token: "+
			"give both, or listen on 127.0.0.1", cfg.Addr)
	}
	if cfg.Token != "" && len(cfg.Token) < tokenBytesMin {
		return nil, fmt.Errorf("admin API: the token has %d characters: use at least %d", len(cfg.Token), tokenBytesMin)
	}
	g := &guard{origins: http.NewCrossOriginProtection()}
	if cfg.Token != "" {
		g.needToken, g.token = true, sha256.Sum256([]byte(cfg.Token))
	}
	if local {
		g.hosts = map[string]bool{"localhost": true}
		for _, name := range cfg.AllowedHosts {
			g.hosts[strings.ToLower(strings.TrimSuffix(name, "."))] = true
		}
	}
	return g, nil
}

func isLoopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// check is nil for a request that may go on.
func (g *guard) check(r *http.Request) error {
	if g.hosts != nil {
		if host := hostOnly(r.Host); !isLoopback(host) && !g.hosts[host] {
			return &Problem{Kind: KindMisdirected, Detail: fmt.Sprintf("this peer is not called %q here: "+
				"ask for 127.0.0.1 or localhost, or name it in the daemon's allowed hosts", short(r.Host))}
		}
	}
	if err := g.checkOrigin(r); err != nil {
		return &Problem{Kind: KindForbidden, Detail: "a web page of another origin may not do that"}
	}
	if !g.needToken || r.URL.Path == "/healthz" || r.URL.Path == "/readyz" {
		return nil
	}
	given, ok := shownToken(r)
	sum := sha256.Sum256([]byte(given)) // equal lengths, so that comparing tells nothing
	if !ok || subtle.ConstantTimeCompare(sum[:], g.token[:]) != 1 {
		detail := "a token is needed: give it with --token, HANSA_TOKEN, or an Authorization header"
		if ok {
			detail = "that token is not this peer's"
		}
		return &Problem{Kind: KindToken, Detail: detail}
	}
	return nil
}

var errCrossSite = errors.New("cross-site request")

// checkOrigin refuses what other origins may not do. A function may change
// state on a GET, so there only a person's own click or a page of this origin
// will do.
func (g *guard) checkOrigin(r *http.Request) error {
	if strings.HasPrefix(r.URL.Path, functionsPrefix) && r.Header.Get("Sec-Fetch-Site") == "cross-site" {
		return errCrossSite
	}
	return g.origins.Check(r)
}

// shownToken is the token that a request shows. Clients of registries show it as
// a password.
func shownToken(r *http.Request) (string, bool) {
	if token, ok := bearer(r.Header.Get("Authorization")); ok {
		return token, true
	}
	if !forOCI(r) {
		return "", false
	}
	_, password, ok := r.BasicAuth()
	return password, ok
}

func bearer(header string) (string, bool) {
	scheme, token, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	return strings.TrimSpace(token), true
}

// hostOnly is the name or address in a Host header.
func hostOnly(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
