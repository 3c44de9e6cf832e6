package wasm

import (
	"errors"
	"net"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"

	"github.com/hansa-mesh/hansa/node/driver"
)

// metaBytesMax bounds all meta-variables of a request.
const metaBytesMax = 64 << 10

var errMetaTooLarge = errors.New("the request's headers are too large for a function")

// hidden are headers that a guest never sees: credentials, which are between
// the caller and the mesh; Proxy, which would become HTTP_PROXY (httpoxy);
// and what concerns one hop only.
var hidden = map[string]bool{
	"Authorization": true, "Proxy-Authorization": true, "Cookie": true, "Cookie2": true,
	"Proxy": true, "Proxy-Connection": true, "Connection": true, "Keep-Alive": true, "Te": true,
	"Trailer": true, "Transfer-Encoding": true, "Upgrade": true,
	// These two are variables of their own.
	"Content-Type": true, "Content-Length": true,
}

type variable struct{ name, value string }

// metaVariables are those of RFC 3875 for a request whose body has length
// bytes, -1 if that is not known.
func metaVariables(r *driver.Request, length int64) ([]variable, error) {
	proto, scheme := r.Proto, r.Scheme
	if proto == "" {
		proto = "HTTP/1.1"
	}
	if scheme == "" {
		scheme = "http"
	}
	method := r.Method
	if method == "" {
		method = http.MethodGet
	}
	name, port := splitHost(r.Host, map[string]string{"https": "443"}[scheme], "80")
	if name == "" {
		name = "localhost" // HTTP/1.0 may say nothing; the variable must
	}
	if strings.Contains(name, ":") {
		name = "[" + name + "]" // RFC 3875, 4.1.14
	}
	remote, remotePort := splitHost(r.RemoteAddr, "", "")
	uri := (&url.URL{Path: r.ScriptName + r.Path}).EscapedPath()
	if r.RawQuery != "" {
		uri += "?" + r.RawQuery
	}
	vars := []variable{
		{"GATEWAY_INTERFACE", "CGI/1.1"},
		{"SERVER_SOFTWARE", "hansa"},
		{"SERVER_PROTOCOL", proto},
		{"SERVER_NAME", name},
		{"SERVER_PORT", port},
		{"REQUEST_METHOD", method},
		{"REQUEST_URI", uri},
		{"REQUEST_SCHEME", scheme},
		{"SCRIPT_NAME", r.ScriptName},
		{"PATH_INFO", r.Path},
		{"QUERY_STRING", r.RawQuery},
	}
	if remote != "" {
		vars = append(vars, variable{"REMOTE_ADDR", remote}, variable{"REMOTE_HOST", remote})
	}
	if remotePort != "" {
		vars = append(vars, variable{"REMOTE_PORT", remotePort})
	}
	if scheme == "https" {
		vars = append(vars, variable{"HTTPS", "on"})
	}
	if r.Host != "" {
		vars = append(vars, variable{"HTTP_HOST", r.Host})
	}
	if t := r.Header.Get("Content-Type"); t != "" {
		vars = append(vars, variable{"CONTENT_TYPE", t})
	}
	if length > 0 || (length == 0 && r.Body != nil) {
		vars = append(vars, variable{lengthName, strconv.FormatInt(length, 10)})
	}
	vars = append(vars, headerVariables(r)...)
	size := 0
	kept := vars[:0]
	for _, v := range vars {
		if strings.ContainsRune(v.name, 0) || strings.ContainsRune(v.value, 0) {
			continue // no environment can hold it
		}
		size += len(v.name) + len(v.value) + 2
		kept = append(kept, v)
	}
	if size > metaBytesMax {
		return nil, errMetaTooLarge
	}
	return kept, nil
}

func headerVariables(r *driver.Request) []variable {
	named := named(r.Header.Get("Connection"))
	var vars []variable
	for k, values := range r.Header {
		canonical := textproto.CanonicalMIMEHeaderKey(k)
		// A name with "_" could stand in for the one with "-", hidden ones
		// included, so it is dropped, as web servers do.
		if hidden[canonical] || named[canonical] || canonical == "Host" || strings.Contains(k, "_") || !isToken(k) {
			continue
		}
		name := "HTTP_" + strings.ToUpper(strings.ReplaceAll(k, "-", "_"))
		vars = append(vars, variable{name, strings.Join(values, ", ")})
	}
	return vars
}

// named returns the headers that a Connection header says are for one hop.
func named(connection string) map[string]bool {
	m := map[string]bool{}
	for name := range strings.SplitSeq(connection, ",") {
		m[textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))] = true
	}
	return m
}

// splitHost parts "host:port"; the first of ports that is not empty is the
// default.
func splitHost(s string, ports ...string) (host, port string) {
	if h, p, err := net.SplitHostPort(s); err == nil {
		return h, p
	}
	for _, p := range ports {
		if p != "" {
			port = p
			break
		}
	}
	return strings.Trim(s, "[]"), port
}

// isToken reports whether s can be the name of a header (RFC 9110, 5.6.2).
func isToken(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}
