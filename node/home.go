package node

import (
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"

	"github.com/hansa-mesh/hansa/store"
	"github.com/hansa-mesh/hansa/transport/identity"
)

// A peer's data folder:
//
//	identity/   the peer's key, and mesh.json: which mesh, as whom, who else,
//	            and a copy of that. Apart from the store, so that losing the store keeps the peer
//	db/ …       the store (package store)
//	blobs/      artifacts by digest (package store)
//	work/       what the drivers keep
//	volumes/    what slots find again (package volume)
//	disks/      disks of machines that came in chunks, put together
//	root/       the mesh's root key, where the mesh was founded: to be put away
const (
	identityDir = "identity"
	rootDir     = "root"
	workDir     = "work"
	volumesDir  = "volumes"
	disksDir    = "disks"
	meshFile    = "mesh.json"
	meshCopy    = "mesh.json.copy"
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
	// Check is the checksum of the rest; "" of a release before this one.
	Check string `json:"check,omitempty"`
}

// known is a peer and where it was last seen.
type known struct {
	ID   string `json:"id"`
	Addr string `json:"addr"`
}

// loadMembership reads mesh.json, or its copy when that is damaged or gone: it
// alone says which mesh a peer is in, and the store that could be asked again
// can't be opened without it.
func loadMembership(dir string) (membership, error) {
	m, err := readMembership(filepath.Join(dir, identityDir, meshFile))
	if err == nil {
		return m, nil
	}
	spare, spareErr := readMembership(filepath.Join(dir, identityDir, meshCopy))
	switch {
	case spareErr == nil:
		return spare, nil
	case errors.Is(err, os.ErrNotExist) && errors.Is(spareErr, os.ErrNotExist):
		return m, errNotInMesh
	}
	return m, fmt.Errorf("%w; %w: restore the peer from a backup that was made with --with-key, or start with an empty folder and a new invitation ('hansa invite --replaces')",
		err, spareErr)
}

// InMesh says whether a data folder is that of a peer of a mesh.
func InMesh(dir string) (bool, error) {
	_, err := loadMembership(dir)
	if errors.Is(err, errNotInMesh) {
		return false, nil
	}
	return err == nil, err
}

func readMembership(path string) (membership, error) {
	var m membership
	data, err := os.ReadFile(path)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("%s: %w", path, err)
	}
	if m.Check != "" && m.Check != m.sum() {
		return m, fmt.Errorf("%s was changed: its checksum is %s, and says %s", path, m.sum(), m.Check)
	}
	if len(m.Root) != ed25519.PublicKeySize {
		return m, fmt.Errorf("%s: the root key has %d bytes, not %d", path, len(m.Root), ed25519.PublicKeySize)
	}
	return m, nil
}

// sum is what Check must be.
func (m membership) sum() string {
	m.Check = ""
	data, err := json.Marshal(m)
	if err != nil {
		return "" // strings, numbers and bytes always encode
	}
	return fmt.Sprintf("%08x", crc32.ChecksumIEEE(data))
}

// save replaces mesh.json in the data folder, and its copy.
func (m membership) save(dir string) error {
	m.Check = m.sum()
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	folder := filepath.Join(dir, identityDir)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	data = append(data, '\n')
	return errors.Join(store.ReplaceFile(filepath.Join(folder, meshFile), data), store.ReplaceFile(filepath.Join(folder, meshCopy), data))
}

// identityOf loads or makes the peer's key.
func identityOf(dir string) (*identity.Identity, error) {
	id, err := identity.LoadOrNew(filepath.Join(dir, identityDir))
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	return id, nil
}
