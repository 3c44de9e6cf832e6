package node

import (
	"context"
	"time"

	"github.com/hansa-mesh/hansa/store"
)

const (
	// checkEvery is how often some files are read through, to find what has rotted.
	checkEvery = time.Minute
	// checkBytes is how much is read each time, but for a last file that is larger.
	checkBytes = 256 << 20
	// checkAgain is the least time between two readings of one file.
	checkAgain = 7 * 24 * time.Hour
	// rottenMax bounds the files that are remembered to have rotted.
	rottenMax = 1024
)

// fileRotten takes the store's word that a file is not what its digest says, and was
// put aside. It does not block.
func (n *Node) fileRotten(digest string, err error) {
	n.log.Error("a file has rotted on the disk and was put aside; if anything needs it it is fetched from another peer: look after the disk", "digest", digest, "err", err)
	if n.images == nil {
		return // the store was just opened
	}
	n.gone(digest)
	n.images.mu.Lock()
	n.images.counted.Rotten++
	if len(n.images.rotten) < rottenMax {
		n.images.rotten[digest] = true
	}
	n.images.mu.Unlock()
	if n.events != nil {
		n.happened("image-quarantined", digest+" has rotted on the disk and was put aside; if anything needs it, it is fetched from another peer")
	}
	n.sweepSoon()
}

// keepChecked reads all files through, a few each minute, until ctx ends: what nobody
// reads would else rot unseen until it is the last copy.
func (n *Node) keepChecked(ctx context.Context) error {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	last, next := "", n.clock.mono()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if last == "" && n.clock.mono() < next { // all were read in this round
			continue
		}
		blobs, err := n.store.Blobs().List()
		if err != nil {
			n.log.Warn("the files here can't be listed", "err", err)
			continue
		}
		if last == "" {
			next = n.clock.mono() + checkAgain
		}
		last = n.checkSome(ctx, blobs, last)
	}
}

// checkSome reads files through from the one after last on, and gives the one that was
// read last, or "" at the end.
func (n *Node) checkSome(ctx context.Context, sorted []store.Blob, last string) string {
	read := int64(0)
	for _, b := range sorted {
		switch {
		case b.Digest <= last:
			continue
		case read >= checkBytes || ctx.Err() != nil:
			return last
		}
		_ = n.store.Blobs().Check(b.Digest) // what is wrong fileRotten is told
		n.images.count(func(c *imageCounts) { c.Checked++ })
		read, last = read+b.Size, b.Digest
	}
	return ""
}
