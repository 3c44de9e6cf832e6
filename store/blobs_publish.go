package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/hansa-mesh/hansa/store/chain"
)

// partial is where the unfinished file of a digest lies.
func (b *Blobs) partial(digest string) string {
	_, hexed, _ := strings.Cut(digest, ":")
	return filepath.Join(b.dir, partialDir, hexed)
}

// digestOfPartial is the digest of an unfinished file by its name; "" for what
// one of several writers has for itself.
func digestOfPartial(name string) string {
	for _, algorithm := range algorithms {
		if digest := algorithm + ":" + name; ValidDigest(digest) {
			return digest
		}
	}
	return ""
}

// publish shows a file that is whole under its digest, once it was read through
// and is durable; ErrDigest when it is something else. The file is moved.
func (b *Blobs) publish(file *os.File, digest string) error {
	if err := rewind(file); err != nil {
		return err
	}
	got, c, err := chain.Sum(file, digest)
	if err != nil {
		return err
	}
	if got != digest {
		return fmt.Errorf("%w: they are %s", ErrDigest, got)
	}
	if err := file.Sync(); err != nil {
		return err
	}
	info, err := file.Stat() // as it was read: once it has its name, others can reach it
	if err != nil {
		return err
	}
	path := b.Path(digest)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), path); err != nil {
		return err
	}
	folder := filepath.Dir(path) // it may be new
	if err := errors.Join(syncDir(folder), syncDir(filepath.Dir(folder))); err != nil {
		return err
	}
	b.mu.Lock()
	b.whole[digest] = verified{stampOf(info), c}
	b.mu.Unlock()
	return nil
}

func rewind(file *os.File) error {
	_, err := file.Seek(0, io.SeekStart)
	return err
}
