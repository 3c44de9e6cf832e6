package placement

// NamespaceImages is where the names of images are kept: no app can be there.
const NamespaceImages = "_images"

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

// ImageKey is what the name REPOSITORY:TAG, or REPOSITORY@DIGEST, is kept under.
func ImageKey(repository, reference string) AppKey {
	return AppKey{Namespace: NamespaceImages, App: repository + ":" + reference}
}
