package upstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
)

// Credentials are for one registry; the zero value is nobody's.
type Credentials struct{ User, Password string }

// DefaultSecret is the secret of a namespace that holds credentials of registries for
// components that name none: a config.json, since it is read for whichever is asked.
const DefaultSecret = "registries"

// hubHosts are what Docker Hub is called where credentials are kept.
var hubHosts = []string{"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"}

const hubHost = "docker.io"

// errPlain and errConfig are all that is said of a secret that can't be read: it holds
// secrets.
var (
	errPlain  = errors.New("it is neither user:password nor a config.json of Docker")
	errConfig = errors.New("it is no config.json of Docker, which says for which registry each user and password is")
)

// ParseCredentials finds those for a registry in a secret that was named for it:
// "user:password", or what ParseConfig reads. No error holds any of it.
func ParseCredentials(secret []byte, host string) (c Credentials, ok bool, err error) {
	if secret = bytes.TrimSpace(secret); bytes.HasPrefix(secret, []byte("{")) {
		return ParseConfig(secret, host)
	}
	user, password, parted := strings.Cut(string(secret), ":")
	if !parted || user == "" {
		return Credentials{}, false, errPlain
	}
	return Credentials{user, password}, true, nil
}

// ParseConfig finds those for a registry in what docker login writes to config.json,
// which says for which each is. ok is false when it has none for it. No error holds any
// of it.
func ParseConfig(secret []byte, host string) (c Credentials, ok bool, err error) {
	var config struct {
		Auths map[string]json.RawMessage `json:"auths"`
	}
	if json.Unmarshal(secret, &config) != nil {
		return Credentials{}, false, errConfig
	}
	for name, raw := range config.Auths {
		if hostOf(name) != hostOf(host) {
			continue
		}
		var a authn.AuthConfig
		if json.Unmarshal(raw, &a) != nil {
			return Credentials{}, false, errConfig
		}
		if a.Username == "" || a.Password == "" {
			return Credentials{}, false, fmt.Errorf("its entry for %.255s holds no user and password: where a helper keeps them, or a token stands for them, write the entry by hand", host)
		}
		return Credentials{a.Username, a.Password}, true, nil
	}
	return Credentials{}, false, nil
}

// hostOf is the registry that an entry of config.json is for: some are URLs.
func hostOf(name string) string {
	name = strings.TrimPrefix(strings.TrimPrefix(strings.ToLower(name), "https://"), "http://")
	name, _, _ = strings.Cut(name, "/")
	for _, hub := range hubHosts {
		if name == hub {
			return hubHost
		}
	}
	return name
}
