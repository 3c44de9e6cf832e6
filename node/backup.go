package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/store"
	"github.com/hansa-mesh/hansa/transport/identity"
)

// A backup holds what the store holds. What a restore brings back of it is the
// catalog: the replicated records with their causal contexts, so that what was
// removed since stays removed. What the peer had promised (claims, votes, terms,
// leases) does not come back, since others may have built on it since; its
// drivers and the mesh say what of it stands. A restored store is another life
// of the peer, with another incarnation.
//
// The peer's key is in a backup only when that was asked for: whoever has it is
// the peer. It lies in tables of its own, beside those of the store.
const tableIdentity = "identity"

// Backup writes what the store holds.
func (n backend) Backup(ctx context.Context, w io.Writer) error {
	if err := n.store.Backup(ctx, w); err != nil {
		return storeError(err)
	}
	n.happened("backup", "what the store of this peer holds was read out, at a person's request")
	return nil
}

// comesBack says whether a restore brings a table back.
func comesBack(table string) bool {
	return strings.HasPrefix(table, replicatedPrefix) && table != replicatedPrefix+placement.TableStatus
}

// BackupConfig says what to back up.
type BackupConfig struct {
	DataDir string // of a peer that does not run
	WithKey bool   // the peer's key and membership too
}

// Backup writes what the store in a data folder holds, whose daemon does not
// run.
func Backup(ctx context.Context, cfg BackupConfig, w io.Writer) (err error) {
	member, err := loadMembership(cfg.DataDir)
	if err != nil {
		return fmt.Errorf("data folder %s: %w", cfg.DataDir, err)
	}
	if _, err := os.Stat(filepath.Join(cfg.DataDir, "db")); err != nil {
		return fmt.Errorf("data folder %s: %w: there is no store in it", cfg.DataDir, placement.ErrNotFound)
	}
	var more []store.Write
	if cfg.WithKey {
		for _, name := range identityFiles {
			data, err := os.ReadFile(filepath.Join(cfg.DataDir, identityDir, name))
			if err != nil {
				return fmt.Errorf("back up the identity: %w", err)
			}
			more = append(more, store.Write{Table: tableIdentity, Key: name, Value: data})
		}
	}
	s, err := store.Open(store.Config{Dir: cfg.DataDir, Mesh: member.Mesh, IncarnationFloor: member.Incarnation})
	if errors.Is(err, store.ErrLocked) {
		return fmt.Errorf("%w: or ask the daemon itself, without --data-dir", err)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return s.Backup(ctx, w, more...)
}

// identityFiles are those that make a peer, beside its store.
var identityFiles = []string{identity.KeyFile, meshFile}

// RestoreConfig says what to restore, and where.
type RestoreConfig struct {
	DataDir string
	// PutAside moves a store that is there to quarantine-TIME.
	PutAside bool
	// FreeFloor is as Config.FreeFloor.
	FreeFloor int64
}

// RestoreResult says what was restored.
type RestoreResult struct {
	Mesh, Peer, Name, Site string
	At                     time.Time // of the backup
	Records                int       // in it
	Identity               bool      // the peer's key came from the backup
}

// Restore makes the store of a data folder from a backup, which is read through
// before anything is written. The folder belongs to a peer of the same mesh, or
// to none when the backup holds a peer's key. It starts nothing.
func Restore(ctx context.Context, cfg RestoreConfig, backup io.ReadSeeker) (RestoreResult, error) {
	var none RestoreResult
	files := map[string][]byte{}
	info, err := store.ReadBackup(backup, func(table, key string, value []byte) error {
		if table == tableIdentity {
			files[key] = value
		}
		return nil
	})
	if err != nil {
		return none, err
	}
	if _, err := backup.Seek(0, io.SeekStart); err != nil {
		return none, fmt.Errorf("restore: read the backup again: %w", err)
	}
	member, err := loadMembership(cfg.DataDir)
	fresh := errors.Is(err, errNotInMesh)
	switch {
	case fresh && len(files) == 0:
		return none, fmt.Errorf("data folder %s: %w, and the backup holds no key: let it in first ('hansa join'), or use a backup that was made with --with-key",
			cfg.DataDir, err)
	case fresh:
		if member, err = restoreIdentity(cfg.DataDir, files); err != nil {
			return none, err
		}
	case err != nil:
		return none, err
	}
	err = store.Restore(ctx, store.Config{
		Dir: cfg.DataDir, Mesh: member.Mesh, IncarnationFloor: member.Incarnation, Quarantine: cfg.PutAside, FreeFloor: cfg.FreeFloor,
	}, backup, comesBack)
	if err != nil {
		return none, err
	}
	id, err := identity.Load(filepath.Join(cfg.DataDir, identityDir))
	if err != nil {
		return none, fmt.Errorf("identity: %w", err)
	}
	return RestoreResult{
		Mesh: member.Mesh, Peer: id.ID(), Name: member.Name, Site: member.Site, At: info.At, Records: info.Records, Identity: fresh,
	}, nil
}

// restoreIdentity writes a peer's key and membership; the membership last, since
// it is what makes the folder a peer's.
func restoreIdentity(dir string, files map[string][]byte) (membership, error) {
	folder := filepath.Join(dir, identityDir)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return membership{}, fmt.Errorf("restore the identity: %w", err)
	}
	have, err := os.ReadFile(filepath.Join(folder, identity.KeyFile))
	if err == nil && !bytes.Equal(have, files[identity.KeyFile]) { // the same: of a restore that did not end
		return membership{}, fmt.Errorf("restore the identity: %w: %s holds another peer's key: name another folder", placement.ErrConflict, folder)
	}
	for _, name := range identityFiles {
		data, ok := files[name]
		if !ok {
			return membership{}, fmt.Errorf("restore the identity: %w: the backup has no %s", placement.ErrInvalid, name)
		}
		if err := store.ReplaceFile(filepath.Join(folder, name), data); err != nil {
			return membership{}, fmt.Errorf("restore the identity: %w", err)
		}
	}
	member, err := loadMembership(dir)
	if err != nil {
		return member, err
	}
	return member, member.save(dir) // with its copy
}

// CheckBackup reads a backup through, and says what it is of.
func CheckBackup(r io.Reader) (store.BackupInfo, error) { return store.ReadBackup(r, nil) }
