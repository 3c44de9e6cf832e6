package node

import (
	"context"
	"fmt"

	"github.com/hansa-mesh/hansa/node/artifact"
	"github.com/hansa-mesh/hansa/store"
	"github.com/hansa-mesh/hansa/store/chain"
)

// blobStore is the store's files as package artifact wants them.
type blobStore struct{ *store.Blobs }

func (b blobStore) Open(digest string) (artifact.File, chain.Chain, error) {
	return b.OpenChain(digest)
}

func (b blobStore) Assemble(digest string, size int64) (artifact.Assembly, error) {
	return b.Blobs.Assemble(digest, size)
}

// newMover makes what moves files by digest between peers.
func (n *Node) newMover() *artifact.Mover {
	return artifact.New(artifact.Config{
		Store: blobStore{n.store.Blobs()},
		Open: func(ctx context.Context, peer string) (artifact.Stream, error) {
			return n.link.Open(ctx, peer, artifact.Kind)
		},
		Lied: n.peerLied,
		Log:  n.log.With("part", "artifact"),
	})
}

// peerLied tells of a peer that sent bytes that are not those of their digest.
func (n *Node) peerLied(peer, digest string, reason error) {
	if n.events != nil {
		n.happened("peer-lied", fmt.Sprintf("peer %s sent bytes that are not those of %s, and is avoided for a while: %v", peer, digest, reason))
	}
}
