package pack

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"cuelabs.dev/go/oci/ociregistry/ociauth"
	"cuelabs.dev/go/oci/ociregistry/ociclient"
)

// What names without a registry mean to every other tool.
const (
	hubName    = "docker.io"
	hubHost    = "registry-1.docker.io"
	hubLibrary = "library/"
)

// Peer is the registry of a peer, at a host and through a transport that shows
// the token.
func Peer(host string, insecure bool, transport http.RoundTripper) (func(ref Ref) (Remote, error), error) {
	client, err := ociclient.New(host, &ociclient.Options{Insecure: insecure, Transport: ranges{transport}})
	if err != nil {
		return nil, fmt.Errorf("the registry at %s: %w", host, err)
	}
	return func(ref Ref) (Remote, error) {
		if ref.Host != "" {
			return Remote{}, fmt.Errorf("%s is not in the mesh's registry", ref)
		}
		return Remote{client, ref.Repository}, nil
	}, nil
}

// Upstream is the registry that a name says, with the credentials that docker
// login left in the files of this person; without a host it is Docker Hub. One on
// this machine may speak plain HTTP.
func Upstream(ref Ref) (Remote, error) {
	config, err := ociauth.Load(nil)
	if err != nil {
		return Remote{}, fmt.Errorf("credentials of registries: %w", err)
	}
	host, repository := ref.Host, ref.Repository
	if host == "" || host == hubName {
		host = hubHost
		if !strings.Contains(repository, "/") {
			repository = hubLibrary + repository
		}
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{Timeout: dialMax}).DialContext
	client, err := ociclient.New(host, &ociclient.Options{
		Insecure:  isLoopback(host),
		Transport: ranges{ociauth.NewStdTransport(ociauth.StdTransportParams{Config: config, Transport: transport})},
	})
	if err != nil {
		return Remote{}, fmt.Errorf("the registry at %s: %w", host, err)
	}
	return Remote{client, repository}, nil
}

const dialMax = 10 * time.Second

func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return host == "localhost" || net.ParseIP(strings.Trim(host, "[]")).IsLoopback()
}

// ranges takes the range away from a request without a body: the client calls the
// end of an upload "14-13", which registries refuse.
type ranges struct{ next http.RoundTripper }

func (r ranges) RoundTrip(rq *http.Request) (*http.Response, error) {
	if rq.ContentLength == 0 && rq.Header.Get("Content-Range") != "" {
		rq = rq.Clone(rq.Context())
		rq.Header.Del("Content-Range")
	}
	return r.next.RoundTrip(rq)
}
