package node

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/hansa-mesh/hansa/node/image"
	"github.com/hansa-mesh/hansa/node/signature"
	"github.com/hansa-mesh/hansa/placement"
)

// errNoSignatures says that what a name may be the signatures of has none in it.
var errNoSignatures = errors.New("no image of signatures")

// signer is an image of signatures, and what it signs.
type signer struct {
	repository string
	digest     string // of the image of signatures
	subject    string // of what it signs
	tagged     bool   // under the tag for signatures: of a subject and a repository there is one
	size       int64  // of the manifest, as its name says
	at         placement.Version
}

// signersOf are the images of signatures that may be about something, those first that
// are most likely to be. Whoever may push can make any number that refer to a manifest,
// but can't move those under the tag for signatures back among them.
func (n *Node) signersOf(ctx context.Context, need placement.Need, repositories []string) ([]signer, error) {
	var views []placement.ImageView
	if err := n.loop.look(ctx, func(core *placement.Peer) {
		views = core.ImagesWhere(func(i placement.Image) bool {
			subject, _ := signedBySubject(i)
			return (need.Repository == "" || slices.Contains(repositories, i.Repository)) && subject != ""
		})
	}); err != nil {
		return nil, err
	}
	signers := signersIn(views)
	rank := make(map[string]int, len(signers)) // of subjects: its own, what is known here to have it, others
	for _, s := range signers {
		if _, known := rank[s.subject]; known {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, unavailable(err)
		}
		rank[s.subject] = 2
		if s.subject == need.Digest {
			rank[s.subject] = 0
		} else if tree, err := n.images.trees.Tree(s.subject, ""); err == nil && slices.ContainsFunc(tree.Parts, func(p image.Part) bool { return p.Digest == need.Digest }) {
			rank[s.subject] = 1
		}
	}
	return inOrder(signers, func(s signer) int {
		if likely := rank[s.subject]; likely < 2 {
			return likely + 2*btoi(!s.tagged) // the tags of both, and then what refers to either
		}
		return 4 + btoi(!s.tagged)
	}), nil
}

// inOrder sorts images of signatures by a rank. Of one rank the newest and the oldest
// come in turns, so that many that were pushed before or after one do not hide it.
func inOrder(signers []signer, rank func(signer) int) []signer {
	slices.SortFunc(signers, func(a, b signer) int {
		return cmp.Or(rank(a)-rank(b), b.at.Compare(a.at), strings.Compare(a.digest, b.digest), strings.Compare(a.repository, b.repository))
	})
	out := make([]signer, 0, len(signers))
	for len(signers) > 0 {
		end := slices.IndexFunc(signers, func(s signer) bool { return rank(s) != rank(signers[0]) })
		if end < 0 {
			end = len(signers)
		}
		for i, j := 0, end-1; i <= j; i, j = i+1, j-1 {
			if out = append(out, signers[i]); i < j {
				out = append(out, signers[j])
			}
		}
		signers = signers[end:]
	}
	return out
}

// signersIn are the images of signatures under some names, of all sides where several
// stand: what was signed on two sides of a cut is signed by both. An image that has
// several names counts once for each subject.
func signersIn(views []placement.ImageView) []signer {
	type key struct{ repository, digest, subject string }
	var out []signer
	at := map[key]int{}
	for _, v := range views {
		sides := v.Sides
		if len(sides) == 0 {
			sides = []placement.Image{v.Image}
		}
		for _, i := range sides {
			subject, tagged := signedBySubject(i)
			if subject == "" {
				continue
			}
			k := key{i.Repository, i.Digest, subject}
			if known, ok := at[k]; ok {
				out[known].tagged = out[known].tagged || tagged
				continue
			}
			at[k] = len(out)
			out = append(out, signer{i.Repository, i.Digest, subject, tagged, i.Size, v.Version})
		}
	}
	return out
}

// signedBySubject is the digest of what a name may be the signatures of, or "", and
// whether the name is the tag for them. Neither an index nor what is too long is any.
func signedBySubject(i placement.Image) (subject string, tagged bool) {
	if i.Size > signatureManifestMax || image.IsIndex(i.MediaType) {
		return "", false
	}
	if digest, ok := signature.Signs(i.Reference); ok {
		return digest, true
	}
	return i.Subject, false
}

// signaturesIn reads the manifest of an image of signatures, or says that it is none.
func (n *Node) signaturesIn(ctx context.Context, s signer) ([]byte, image.Manifest, error) {
	data, err := n.readFile(ctx, s.digest, s.size, signatureManifestMax)
	if err != nil {
		return nil, image.Manifest{}, err
	}
	m, err := image.Parse("", data)
	if err != nil || !signature.Is(m) {
		return nil, m, errNoSignatures
	}
	return data, m, nil
}

// fetchSignatures brings the signatures of an image here, so that they are where it
// is also when nobody is in reach. What does not come now is asked for when it is
// wanted. Of what only has a name as if it were signatures no more than a manifest
// comes.
func (n *Node) fetchSignatures(ctx context.Context, root string) {
	ctx, cancel := context.WithTimeout(ctx, signaturesFetch)
	defer cancel()
	var views []placement.ImageView
	if err := n.loop.look(ctx, func(core *placement.Peer) {
		views = core.ImagesWhere(func(i placement.Image) bool { subject, _ := signedBySubject(i); return subject == root })
	}); err != nil {
		return
	}
	signers := inOrder(signersIn(views), func(s signer) int { return btoi(!s.tagged) })
	for _, s := range signers[:min(len(signers), signersMax)] {
		if ctx.Err() != nil {
			return
		}
		if n.holds(placement.Artifact{Digest: s.digest, Tree: true}) {
			continue
		}
		if err := n.fetchSigner(ctx, s); err != nil {
			n.log.Debug("signatures of an image did not come", "image", root, "signatures", s.digest, "err", err)
		}
	}
}

// fetchSigner brings one image of signatures here. What its layers are made of, if one
// says to be a manifest, does not come.
func (n *Node) fetchSigner(ctx context.Context, s signer) error {
	_, m, err := n.signaturesIn(ctx, s)
	if err != nil {
		return err
	}
	for _, p := range m.Parts() {
		if p.Size <= 0 { // its length is not bounded
			continue
		}
		if err := n.fetchFile(ctx, p.Digest, p.Size, nil); err != nil {
			return err
		}
	}
	return nil
}
