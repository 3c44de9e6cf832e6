package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

func (s *session) backupVerb() *cobra.Command {
	if s.runners.Backup == nil || s.runners.CheckBackup == nil {
		return nil
	}
	var cfg BackupConfig
	cmd := &cobra.Command{
		Use: "backup FILE", Short: "Writes what a peer's store holds to a file",
		Long: `Writes what the store of the asked peer holds, as it stands at one moment, to a
file, and reads it through: the file has its name only once it is whole. With
--data-dir the folder of a peer that does not run is read.

In it are the apps of the mesh and what the peer keeps of them; not the files of
apps (copy blobs/ beside it, or leave them to the mesh), and no key. With
--with-key the peer's own key is in it too: whoever has the file is the peer.

Examples:
  hansa backup fra-1.backup
  hansa backup fra-1.backup --api fra:7601
  hansa backup fra-1.backup --data-dir /var/lib/hansa --with-key`,
		Args: takes(1, 1, "a file"), // completed by the shell
		RunE: func(cmd *cobra.Command, args []string) error {
			if cfg.WithKey && cfg.DataDir == "" {
				return usagef("--with-key goes with --data-dir: a key never leaves a running peer")
			}
			return s.backup(cmd.Context(), args[0], cfg)
		},
	}
	cmd.Flags().StringVar(&cfg.DataDir, "data-dir", "", "data folder of a peer that does not run (default: ask a running one)")
	cmd.Flags().BoolVar(&cfg.WithKey, "with-key", false, "and the peer's key, which makes whoever has it that peer")
	return cmd
}

// backup writes the file beside its name first, checks it, and then names it.
func (s *session) backup(ctx context.Context, path string, cfg BackupConfig) (err error) {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("backup: %s is there already: name another file", path)
	}
	file, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer func() { // gone when it has its name
		if rest := os.Remove(file.Name()); rest != nil && !errors.Is(rest, fs.ErrNotExist) {
			err = errors.Join(err, rest)
		}
	}()
	defer file.Close()
	if cfg.DataDir != "" {
		err = s.runners.Backup(ctx, cfg, file)
	} else {
		err = s.readBackup(ctx, file)
	}
	if err != nil {
		return err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	info, err := s.runners.CheckBackup(file)
	if err != nil {
		return fmt.Errorf("backup: what came is not whole: %w", err)
	}
	if err := errors.Join(file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return s.print(info, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s of mesh %s are in %s\n", plural(info.Records, "record"), info.Mesh, path)
		return err
	})
}

func (s *session) readBackup(ctx context.Context, w io.Writer) error {
	c, err := s.client()
	if err != nil {
		return err
	}
	_, err = c.Backup(ctx, w)
	return err
}

func (s *session) restoreVerb() *cobra.Command {
	if s.runners.Restore == nil {
		return nil
	}
	var cfg RestoreConfig
	cmd := &cobra.Command{
		Use: "restore FILE", Short: "Makes a peer's store from a backup; the peer is then started with hansa agent",
		Long: `Makes the store of a peer that does not run from a backup of its mesh, which is
read through before anything is written. The folder belongs to a peer of that mesh
(hansa join) and holds no store; or to none, when the backup holds a key.

A peer whose store is lost needs none of this as long as others of its mesh live:
it starts empty and they give back what it held. Restore when they are lost too.

The apps come back as the backup has them, and what others removed since stays
removed. What the peer had promised does not come back: its store is in another
life, so that it keeps no app before the mesh, or a person (hansa forget
--force-epoch), names it a keeper again.

Examples:
  hansa restore fra-1.backup --data-dir /var/lib/hansa
  hansa restore fra-1.backup --data-dir /var/lib/hansa --put-aside`,
		Args: takes(1, 1, "the file of a backup"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := os.Open(args[0])
			if err != nil {
				return fmt.Errorf("restore: %w", err)
			}
			defer file.Close()
			result, err := s.runners.Restore(cmd.Context(), cfg, file)
			if err != nil {
				return fmt.Errorf("restore %s: %w", args[0], err)
			}
			result.DataDir = cfg.DataDir
			return s.print(result, func(w io.Writer) error {
				if result.Identity {
					s.say("the key of %s came with the backup: it must run at one place only", peerName(result.Peer))
				}
				_, err := fmt.Fprintf(w, "%s has what the backup of %s holds, %s\n\nnext: start it\n  hansa agent --data-dir %s\n",
					peerName(result.Peer), s.age(result.At), plural(result.Records, "record"), result.DataDir)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&cfg.DataDir, "data-dir", s.dataDirDefault(), "data folder of the peer")
	cmd.Flags().BoolVar(&cfg.PutAside, "put-aside", false, "move a store that is there to quarantine-TIME")
	return cmd
}
