package placement

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// NamespaceImages is where the names of images are kept: no app can be there.
const NamespaceImages = "_images"

// Bounds of a name, as the OCI distribution spec has them.
const (
	repositoryMax = 255 // bytes
	mediaTypeMax  = 255
	manifestMax   = 4 << 20 // bytes; what a registry has to take
)

var (
	repositoryForm = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagForm        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	mediaTypeForm  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*$`)
)

// Image is a name in the mesh's registry and the manifest that it stands for. As
// an intent it is an App that has it and no components: it is replicated,
// versioned and in conflict like any other, and its artifact is the tree of the
// manifest.
type Image struct {
	Repository string `json:"repository"`        // "shop/api"
	Reference  string `json:"reference"`         // a tag, or the digest of a manifest that has none
	Digest     string `json:"digest"`            // of the manifest
	MediaType  string `json:"media_type"`        // of the manifest
	Size       int64  `json:"size"`              // of the manifest, in bytes
	Subject    string `json:"subject,omitempty"` // digest of the manifest that this one refers to
}

// Key is what the image's name is kept under.
func (i Image) Key() AppKey { return ImageKey(i.Repository, i.Reference) }

// Tagged says whether the name is a tag, and not the digest of what it names.
func (i Image) Tagged() bool { return !isDigest(i.Reference) }

// App is the name as what is submitted, held and spread.
func (i Image) App() App {
	key := i.Key()
	return App{Namespace: key.Namespace, Name: key.App, Image: &i}
}

// ImageKey is what the name REPOSITORY:TAG, or REPOSITORY@DIGEST, is kept under.
func ImageKey(repository, reference string) AppKey {
	return AppKey{Namespace: NamespaceImages, App: repository + ":" + reference}
}

// CheckRepository says what is wrong with the name of a repository, or nil.
func CheckRepository(name string) error {
	if len(name) > repositoryMax || !repositoryForm.MatchString(name) {
		return fmt.Errorf("repository %.80q: %w: write lower-case letters and digits, parted by single '.', '_' or '-', and by '/'; at most %d bytes", name, ErrInvalid, repositoryMax)
	}
	return nil
}

// CheckReference says what is wrong with a tag or a digest, or nil.
func CheckReference(reference string) error {
	if !isDigest(reference) && !tagForm.MatchString(reference) {
		return fmt.Errorf("reference %.80q: %w: write a tag of at most 128 letters, digits, '.', '_' and '-', or \"sha256:\" and 64 hexadecimal digits", reference, ErrInvalid)
	}
	return nil
}

// check says what is wrong with an image's name, or nil.
func (i Image) check() error {
	if err := CheckRepository(i.Repository); err != nil {
		return err
	}
	if err := CheckReference(i.Reference); err != nil {
		return err
	}
	bad := func(what string, value any) error {
		return fmt.Errorf("image %s: %w: %s %.80q", i.Key().App, ErrInvalid, what, fmt.Sprint(value))
	}
	switch {
	case !isDigest(i.Digest):
		return bad("digest", i.Digest)
	case !i.Tagged() && i.Reference != i.Digest:
		return bad("it is named by another digest than its own,", i.Digest)
	case i.Subject != "" && !isDigest(i.Subject):
		return bad("subject", i.Subject)
	case len(i.MediaType) > mediaTypeMax || !mediaTypeForm.MatchString(i.MediaType):
		return bad("media type", i.MediaType)
	case i.Size < 0 || i.Size > manifestMax:
		return bad("size", i.Size)
	}
	return nil
}

// isDigest says whether a text is a digest: "sha256:" or "sha512:" and as many
// hexadecimal digits, in lower case, as it has.
func isDigest(name string) bool {
	algorithm, digits, _ := strings.Cut(name, ":")
	size := map[string]int{"sha256": 32, "sha512": 64}[algorithm]
	d, err := hex.DecodeString(digits)
	return err == nil && size > 0 && len(d) == size && strings.ToLower(digits) == digits
}

// ImageDigest is the digest that a container's image is pinned to, or "".
func (c Component) ImageDigest() string {
	if c.Container == nil {
		return ""
	}
	return pinnedTo(c.Container.Image)
}

// DiskDigest is the digest of the manifest that a machine's disk is pinned to on an
// architecture, "NAME@DIGEST", or "": then it is a file, or there is none.
func (c Component) DiskDigest(arch string) string {
	if c.Server == nil {
		return ""
	}
	return pinnedTo(c.Server.Image.For(arch))
}

// trees are the digests of all manifests that the component needs with all that is
// under them: of its image, and of its disks.
func (c Component) trees() []string {
	digests := []string{c.ImageDigest()}
	if c.Server != nil {
		for _, name := range c.Server.Image.Files() {
			digests = append(digests, pinnedTo(name))
		}
	}
	return slices.DeleteFunc(digests, func(d string) bool { return d == "" })
}

// pinnedTo is the digest that a name is pinned to, "NAME@DIGEST", or "".
func pinnedTo(name string) string {
	if _, digest, ok := strings.Cut(name, "@"); ok && isDigest(digest) {
		return digest
	}
	return ""
}

// checkPinned says what is wrong with a name that is pinned to a digest, or nil.
func checkPinned(name string) error {
	repository, _, _ := strings.Cut(name, "@")
	if at := strings.LastIndexByte(repository, ':'); at >= 0 {
		if tag := repository[at+1:]; !tagForm.MatchString(tag) {
			return CheckReference(tag)
		}
		repository = repository[:at]
	}
	return CheckRepository(repository)
}

// DiskDigests are the digests among ImageDigests that are disks of machines.
func (a App) DiskDigests() map[string]bool {
	disks := map[string]bool{}
	for _, c := range a.Components {
		if c.Server == nil {
			continue
		}
		for _, name := range c.Server.Image.Files() {
			if digest := pinnedTo(name); digest != "" {
				disks[digest] = true
			}
		}
	}
	return disks
}
