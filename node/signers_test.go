package node

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	digests "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/hansa-mesh/hansa/node/signature"
	"github.com/hansa-mesh/hansa/placement"
)

// Who may push can't hide what is under the tag for signatures: not behind many that
// refer to the same manifest, and not by giving its image the tag of another.
func TestSignersAreNotHidden(t *testing.T) {
	digest := func(text string) string { return digests.FromString(text).String() }
	subject, good := digest("subject"), digest("good")
	view := func(reference, digest, subject string, at int64) placement.ImageView {
		return placement.ImageView{Version: placement.Version{Millis: at}, Image: placement.Image{Repository: "shop",
			Reference: reference, Digest: digest, MediaType: ocispec.MediaTypeImageManifest, Size: 100, Subject: subject}}
	}
	other := digest("another")
	views := []placement.ImageView{view(signature.Tag(other), good, "", 9), view(good, good, subject, 8), view(signature.Tag(subject), good, "", 1)}
	for i := range 20_000 {
		d := digest(fmt.Sprint("referrer ", i))
		views = append(views, view(d, d, subject, int64(10+i)))
	}
	big := view(signature.Tag(digest("big")), digest("of big"), "", 1)
	big.Image.Size = signatureManifestMax + 1
	index := view(digest("index"), digest("index"), subject, 1)
	index.Image.MediaType = ocispec.MediaTypeImageIndex
	signers := signersIn(append(views, big, index))
	if len(signers) != 20_002 {
		t.Errorf("%d images of signatures", len(signers))
	}
	signers = inOrder(signers, func(s signer) int { return 2*btoi(s.subject != subject) + btoi(!s.tagged) })
	if s := signers[0]; s.digest != good || s.subject != subject || !s.tagged {
		t.Errorf("first comes %+v", s)
	}
	if a, b := signers[1], signers[2]; a.at.Millis != 10+19_999 || b.at.Millis != 10 {
		t.Errorf("then come %+v, %+v; want the newest and the oldest", a, b)
	}
	if slices.ContainsFunc(signers, func(s signer) bool { return s.digest == index.Image.Digest || s.digest == big.Image.Digest }) {
		t.Error("an index, or what is too long, is among them")
	}
}

// Of what only has a name as if it were the signatures of an image, nothing comes along
// with the image but a manifest; and its signature does.
func TestOnlySignaturesTravel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 5, 20*time.Millisecond)
		defer m.close()
		key, _ := signingKey(t)
		first, last := m.sites[0], m.sites[4]
		parts, err := m.push(first, "shop/api", "1.4", 1000)
		if err != nil {
			t.Fatal(err)
		}
		root := parts[len(parts)-1]
		m.sign(first, key, "shop/api", root, "shop/api")
		large := m.write(first, ocispec.MediaTypeImageLayer, layer("large", 100_000))
		manifest, err := json.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
			Config: m.write(first, ocispec.MediaTypeImageConfig, []byte("{}")), Layers: []ocispec.Descriptor{large},
			Subject: &ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digests.Digest(root), Size: 1}})
		if err != nil {
			t.Fatal(err)
		}
		d := m.write(first, ocispec.MediaTypeImageManifest, manifest)
		named := placement.Image{Repository: "shop/api", Reference: d.Digest.String(), Digest: d.Digest.String(), MediaType: d.MediaType, Size: d.Size, Subject: root}
		if _, err := first.node.submit(t.Context(), func(ticket uint64) placement.Event {
			return placement.Submit{Ticket: ticket, App: named.App(), Copies: 2, Artifacts: []placement.Artifact{{Digest: named.Digest, Size: 100_000 + d.Size + 2, Tree: true}}}
		}); err != nil {
			t.Fatal(err)
		}
		for _, reference := range []string{signature.Tag(root), named.Reference} {
			m.until("it is known there", time.Minute, func() error {
				_, err := registryNames{last.node}.Get(t.Context(), "shop/api", reference)
				return err
			})
		}
		at := m.sites[slices.IndexFunc(m.sites, func(s *testSite) bool { return !s.node.store.Blobs().Has(large.Digest.String()) })]
		at.node.fetchSignatures(t.Context(), root)
		if at.node.store.Blobs().Has(large.Digest.String()) {
			t.Error("100,000 bytes came that are no signatures")
		}
		view, _, err := at.node.imageNamed(t.Context(), "shop/api", signature.Tag(root))
		if err != nil || !at.node.holds(placement.Artifact{Digest: view.Image.Digest, Tree: true}) {
			t.Errorf("its signatures did not come: %v", err)
		}
	})
}
