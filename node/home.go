package node

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hansa-mesh/hansa/store"
	"github.com/hansa-mesh/hansa/transport/identity"
)

// A peer's data folder:
//
//	identity/   the peer's key, and mesh.json: which mesh, as whom, who else.
//	            Apart from the store, so that losing the store keeps the peer
//	db/ …       the store (package store)
//	blobs/      artifacts by digest (package store)
//	work/       what the drivers keep
//	root/       the mesh's root key, where the mesh was founded: to be put away
const (
	identityDir = "identity"
	rootDir     = "root"
	workDir     = "work"
	meshFile    = "mesh.json"
)

// errNotInMesh says that this folder belongs to no mesh yet.
var errNotInMesh = errors.New("this peer is in no mesh yet")

// membership is what a peer must know before it can read its store: which
// mesh it is in, under which name, and the records that prove it.
type membership struct {
	Mesh    string   `json:"mesh"`
	Root    []byte   `json:"root"` // public key
	Name    string   `json:"name"`
	Site    string   `json:"site"`
	Records [][]byte `json:"records"` // from the root's to this peer's admission
	Known   []known  `json:"known"`   // peers to try first
	// Incarnation is the highest that the store has had: an empty one must
	// begin above it even where the clock went back.
	Incarnation uint64 `json:"incarnation,omitempty"`
}

// known is a peer and where it was last seen.
type known struct {
	ID   string `json:"id"`
	Addr string `json:"addr"`
}

func loadMembership(dir string) (membership, error) {
	var m membership
	data, err := os.ReadFile(filepath.Join(dir, identityDir, meshFile))
	if errors.Is(err, os.ErrNotExist) {
		return m, errNotInMesh
	}
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("%s: %w", filepath.Join(dir, identityDir, meshFile), err)
	}
	if len(m.Root) != ed25519.PublicKeySize {
		return m, fmt.Errorf("%s: the root key has %d bytes, not %d", filepath.Join(dir, identityDir, meshFile), len(m.Root), ed25519.PublicKeySize)
	}
	return m, nil
}

// save replaces mesh.json in the data folder.
func (m membership) save(dir string) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	folder := filepath.Join(dir, identityDir)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	return store.ReplaceFile(filepath.Join(folder, meshFile), append(data, '\n'))
}

// identityOf loads or makes the peer's key.
func identityOf(dir string) (*identity.Identity, error) {
	id, err := identity.LoadOrNew(filepath.Join(dir, identityDir))
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	return id, nil
}
