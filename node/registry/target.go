package registry

import (
	"net/http"
	"regexp"
	"strings"

	digests "github.com/opencontainers/go-digest"
)

// kind is what a path leads to.
type kind string

const (
	kindBase      kind = "base"
	kindCatalog   kind = "catalog"
	kindTags      kind = "tags"
	kindReferrers kind = "referrers"
	kindBlob      kind = "blob"
	kindManifest  kind = "manifest"
	kindUploads   kind = "uploads"
	kindUpload    kind = "upload"
)

// target is what a request is about.
type target struct {
	kind       kind
	repository string
	last       string // the digest, tag or id at the end of the path
}

// The grammar of the specification.
var (
	repositoryForm = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagForm        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	uploadForm     = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,128}$`)
)

// repositoryMax is the longest name of a repository, as clients have it too.
const repositoryMax = 255

// parseTarget reads a path, which begins with "/v2". A repository may have parts
// called "blobs" and the like, so it is read from its end.
func parseTarget(path string) (target, error) {
	path, ok := strings.CutPrefix(path, "/v2")
	switch {
	case !ok || path != "" && path[0] != '/':
		return target{}, noEndpoint()
	case path == "" || path == "/":
		return target{kind: kindBase}, nil
	case path == "/_catalog":
		return target{kind: kindCatalog}, nil
	}
	parts := strings.Split(path[1:], "/")
	n := len(parts)
	if parts[n-1] == "uploads" { // some clients leave the last slash out
		parts, n = append(parts, ""), n+1
	}
	var t target
	switch {
	case n > 3 && parts[n-3] == "blobs" && parts[n-2] == "uploads" && parts[n-1] == "":
		t = target{kindUploads, strings.Join(parts[:n-3], "/"), ""}
	case n > 3 && parts[n-3] == "blobs" && parts[n-2] == "uploads":
		t = target{kindUpload, strings.Join(parts[:n-3], "/"), parts[n-1]}
	case n > 2 && parts[n-2] == "tags" && parts[n-1] == "list":
		t = target{kindTags, strings.Join(parts[:n-2], "/"), ""}
	case n > 2 && parts[n-2] == "blobs":
		t = target{kindBlob, strings.Join(parts[:n-2], "/"), parts[n-1]}
	case n > 2 && parts[n-2] == "manifests":
		t = target{kindManifest, strings.Join(parts[:n-2], "/"), parts[n-1]}
	case n > 2 && parts[n-2] == "referrers":
		t = target{kindReferrers, strings.Join(parts[:n-2], "/"), parts[n-1]}
	default:
		return target{}, noEndpoint()
	}
	return t, t.check()
}

func noEndpoint() error {
	return problem(http.StatusNotFound, codeUnsupported, "no endpoint of the OCI distribution specification: "+
		"want /v2/REPOSITORY/manifests/TAG, …/blobs/DIGEST, …/blobs/uploads/, …/tags/list or …/referrers/DIGEST")
}

func (t target) check() error {
	if err := checkRepository(t.repository); err != nil {
		return err
	}
	switch t.kind {
	case kindBlob, kindReferrers:
		return checkDigest(t.last)
	case kindManifest:
		if !t.byDigest() {
			return checkTag(t.last)
		}
		return checkDigest(t.last)
	case kindUpload:
		if !uploadForm.MatchString(t.last) {
			return uploadUnknown(t.last)
		}
	}
	return nil
}

// byDigest says whether a manifest is asked for by its digest: no tag has a
// colon.
func (t target) byDigest() bool { return strings.Contains(t.last, ":") }

func checkRepository(name string) error {
	if len(name) > repositoryMax || !repositoryForm.MatchString(name) {
		return problem(http.StatusBadRequest, codeNameInvalid, "repository %s: want parts of a-z and 0-9, with single "+
			"'.', '_' or '-' within, separated by '/', at most %d characters together", short(name), repositoryMax)
	}
	return nil
}

func checkTag(tag string) error {
	if !tagForm.MatchString(tag) {
		return problem(http.StatusBadRequest, codeTagInvalid, "tag %s: want up to 128 of a-z, A-Z, 0-9, '_', '.' and '-', "+
			"neither '.' nor '-' first", short(tag))
	}
	return nil
}

func checkDigest(digest string) error {
	d := digests.Digest(digest)
	if err := d.Validate(); err != nil || d.Algorithm() != digests.SHA256 && d.Algorithm() != digests.SHA512 {
		return problem(http.StatusBadRequest, codeDigestInvalid,
			"digest %s: want sha256: and 64, or sha512: and 128, hexadecimal digits in lower case", short(digest))
	}
	return nil
}
