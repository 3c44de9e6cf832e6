package upstream

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// What registries say.
var (
	ErrNotFound = errors.New("it has no such image")
	ErrDenied   = errors.New("it wants other credentials, or has no such image")
	ErrLies     = errors.New("it sent other bytes than those of the digest")
)

// Config bounds how long registries are waited for; zero fields are defaults.
type Config struct {
	AnswerMax time.Duration // for an answer to begin; default 10 s
	QuietMax  time.Duration // between two bytes of a body; default 30 s
}

const (
	answerMaxDefault = 10 * time.Second
	quietMaxDefault  = 30 * time.Second
	dialMax          = 5 * time.Second
	headerBytesMax   = 64 << 10
	redirectsMax     = 5
	errorBytesMax    = 300
)

// Registries asks registries.
type Registries struct {
	cfg  Config
	next *http.Transport
}

// New returns them; it starts nothing.
func New(cfg Config) *Registries {
	if cfg.AnswerMax == 0 {
		cfg.AnswerMax = answerMaxDefault
	}
	if cfg.QuietMax == 0 {
		cfg.QuietMax = quietMaxDefault
	}
	return &Registries{cfg: cfg, next: &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: dialMax}).DialContext,
		TLSHandshakeTimeout: dialMax, ResponseHeaderTimeout: cfg.AnswerMax, MaxResponseHeaderBytes: headerBytesMax,
		ForceAttemptHTTP2: true, IdleConnTimeout: time.Minute, DisableCompression: true,
	}}
}

// Close gives up connections that nobody uses.
func (g *Registries) Close() { g.next.CloseIdleConnections() }

// Repository is where one image comes from.
type Repository struct {
	ref    Ref
	cfg    Config
	base   string // URL of what is below /v2/REPOSITORY
	client *http.Client
	secret Credentials
}

// Open meets a registry: it learns whether it answers, and how to authenticate.
func (g *Registries) Open(ctx context.Context, ref Ref, c Credentials) (*Repository, error) {
	at, err := name.NewRepository(ref.Host + "/" + ref.Repository)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ref.Host, err)
	}
	p := &Repository{ref: ref, cfg: g.cfg, secret: c}
	var auth authn.Authenticator = authn.Anonymous
	if c != (Credentials{}) {
		auth = &authn.Basic{Username: c.User, Password: c.Password}
	}
	guarded := guard{g.next, isLoopback(at.Registry.RegistryStr())}
	ctx, cancel := context.WithTimeout(ctx, 2*g.cfg.AnswerMax) // a question, and one for a token
	defer cancel()
	authed, err := transport.NewWithContext(ctx, at.Registry, auth, guarded, []string{at.Scope(transport.PullScope)})
	if err != nil {
		return nil, p.said(err)
	}
	// The scheme is what the registry was met with: the transport sets it.
	p.base = fmt.Sprintf("%s://%s/v2/%s", at.Registry.Scheme(), at.Registry.RegistryStr(), at.RepositoryStr())
	p.client = &http.Client{Transport: authed, CheckRedirect: func(_ *http.Request, via []*http.Request) error {
		if len(via) > redirectsMax {
			return fmt.Errorf("more than %d redirects", redirectsMax)
		}
		return nil
	}}
	return p, nil
}

// said puts an error in the words of this package, without what is secret.
func (p *Repository) said(err error) error {
	kind := error(nil)
	var answer *transport.Error
	switch {
	case errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound:
		kind = ErrNotFound
	case errors.As(err, &answer) && (answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden):
		kind = ErrDenied
	}
	text := p.clean(err.Error())
	if kind != nil {
		return fmt.Errorf("%s: %w: %s", p.ref.Host, kind, text)
	}
	if ctx := context.Canceled; errors.Is(err, ctx) {
		return fmt.Errorf("%s: %w", p.ref.Host, ctx)
	}
	return fmt.Errorf("%s: %s", p.ref.Host, text)
}

// clean leaves credentials out of a text, whoever put them there, and cuts it.
func (p *Repository) clean(text string) string {
	if c := p.secret; c.Password != "" {
		pair := base64.StdEncoding.EncodeToString([]byte(c.User + ":" + c.Password))
		text = strings.NewReplacer(pair, "…", c.Password, "…").Replace(text)
	}
	if len(text) > errorBytesMax {
		text = strings.ToValidUTF8(text[:errorBytesMax], "") + "…"
	}
	return text
}

// guard lets no request through that must not be made: plain HTTP that leaves
// this machine, or one to this machine for a registry elsewhere.
type guard struct {
	next     http.RoundTripper
	loopback bool // the registry is on it
}

// RoundTrip implements http.RoundTripper.
func (g guard) RoundTrip(q *http.Request) (*http.Response, error) {
	local := isLoopback(q.URL.Host)
	switch {
	case local && !g.loopback:
		return nil, fmt.Errorf("%s is on this machine, and the registry is not", q.URL.Host)
	case q.URL.Scheme != "https" && !local:
		return nil, fmt.Errorf("%s: plain HTTP is spoken to registries on loopback only: give it TLS", q.URL.Host)
	}
	return g.next.RoundTrip(q)
}

// isLoopback says whether a host, with or without a port, is this machine.
func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
