package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hansa-mesh/hansa/node/image"
	"github.com/hansa-mesh/hansa/node/sweep"
	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/transport/trust"
)

const (
	// sweepEvery is how often it is looked what may go, and whether what must be here is.
	sweepEvery = 10 * time.Minute
	// pressureEvery is how often it is looked whether there is room.
	pressureEvery = time.Minute
	// sweepMax bounds one sweep.
	sweepMax = 5 * time.Minute
	// graceDefault is for how long what nothing needs is kept after its last use.
	graceDefault = 24 * time.Hour
	// graceMin is the same while there is too little room.
	graceMin = time.Hour
	// promisesWanted is how many others must hold what this peer lets go, where there
	// are so many.
	promisesWanted = 2
	// holdersAsked bounds those that are asked to promise one file.
	holdersAsked = 4
	// offersMax bounds the files that are offered at once.
	offersMax = 256
)

// keepSwept looks what may go and what is missing, until ctx ends.
func (n *Node) keepSwept(ctx context.Context) error {
	look := time.NewTicker(pressureEvery)
	defer look.Stop()
	next := n.clock.mono() + pressureEvery
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			if n.clock.mono() < next && n.shortOfRoom() <= 0 {
				continue
			}
		case <-n.images.sweeps:
		}
		next = n.clock.mono() + sweepEvery
		sweepCtx, cancel := context.WithTimeout(ctx, sweepMax)
		if err := n.sweep(sweepCtx); err != nil && ctx.Err() == nil {
			n.log.Warn("it could not be looked which files may go; it is tried again", "err", err)
		}
		cancel()
	}
}

// sweepSoon has it looked at once what may go and what is missing.
func (n *Node) sweepSoon() {
	select {
	case n.images.sweeps <- struct{}{}:
	default:
	}
}

// shortOfRoom is how many bytes are missing on the disk above the floor below which
// the store takes nothing: as much again is to be free.
func (n *Node) shortOfRoom() int64 {
	s := n.store.Stats()
	return 2*s.Floor - s.Free
}

// inventory is what is known of the files here.
type inventory struct {
	files   []sweep.Blob
	bytes   int64
	missing []placement.Reference // what this peer has to hold, and does not
	needs   needs
}

// needs is what is needed of files, here or anywhere.
type needs struct {
	files map[string]bool // true where this peer has to hold it
	trees [][]image.Part
	blind bool // of something that this peer has to hold it can't be told what it is made of
}

// needsOf says what files artifacts are made of, as far as their manifests are here.
func (n *Node) needsOf(refs []placement.Reference) (needs, []placement.Reference) {
	out := needs{files: map[string]bool{}}
	var missing []placement.Reference
	for _, r := range refs {
		out.files[r.Digest] = out.files[r.Digest] || r.Here
		whole := false
		if r.Tree {
			tree, err := n.images.trees.Tree(r.Digest, r.Arch)
			whole = err == nil && tree.Whole()
			for _, p := range tree.Parts {
				out.files[p.Digest] = out.files[p.Digest] || r.Here
			}
			out.trees = append(out.trees, tree.Parts)
			// What is no manifest is made of nothing, now and ever.
			out.blind = out.blind || r.Here && (err != nil && !errors.Is(err, image.ErrInvalid) ||
				slices.ContainsFunc(tree.Missing, func(p image.Part) bool { return p.Manifest }))
		} else {
			whole = n.store.Blobs().Has(r.Digest)
		}
		if r.Here && !whole {
			missing = append(missing, r)
		}
	}
	return out, missing
}

// inventory looks at all files, and asks the core what is needed of them.
func (n *Node) inventory(ctx context.Context) (inventory, error) {
	refs, err := n.referenced(ctx)
	if err != nil {
		return inventory{}, err
	}
	blobs, err := n.store.Blobs().List()
	if err != nil {
		return inventory{}, err
	}
	var inv inventory
	inv.needs, inv.missing = n.needsOf(refs)
	idle := map[string]time.Duration{}
	for _, b := range blobs {
		idle[b.Digest] = max(0, time.Since(b.Used))
		if used, ok := n.images.guard.Idle(b.Digest); ok {
			idle[b.Digest] = min(idle[b.Digest], used)
		}
		inv.bytes += b.Size
	}
	for _, parts := range inv.needs.trees { // an image is used as one
		least := time.Duration(1<<63 - 1)
		for _, p := range parts {
			if at, here := idle[p.Digest]; here {
				least = min(least, at)
			}
		}
		for _, p := range parts {
			if at, here := idle[p.Digest]; here {
				idle[p.Digest] = min(at, least)
			}
		}
	}
	for _, b := range blobs {
		kept, needed := inv.needs.files[b.Digest]
		inv.files = append(inv.files, sweep.Blob{Digest: b.Digest, Size: b.Size, Idle: idle[b.Digest], Needed: needed, Kept: kept})
	}
	return inv, nil
}

// sweep lets go what may go, and fetches what is missing.
func (n *Node) sweep(ctx context.Context) error {
	since := n.images.guard.Begin()
	defer n.images.guard.End()
	inv, err := n.inventory(ctx)
	if err != nil {
		return err
	}
	n.repair(inv)
	n.forgetHoldings(ctx)
	n.sweepDisks(ctx)
	n.sweepEngines(ctx, inv.needs, n.shortOfRoom() > 0)
	excess := n.shortOfRoom()
	if n.cfg.ImagesMax > 0 {
		excess = max(excess, inv.bytes-n.cfg.ImagesMax)
	}
	choice := sweep.Choose(inv.files, sweep.Rules{Grace: n.cfg.ImagesGrace, GraceMin: min(graceMin, n.cfg.ImagesGrace), Excess: excess, Blind: inv.needs.blind})
	freed, files := n.deleteUnneeded(ctx, choice.Drop, since, 1<<62)
	if choice.Excess > 0 {
		offered, more := n.letGo(ctx, choice.Offer, choice.Excess)
		then, last := n.deleteUnneeded(ctx, choice.Then, since, choice.Excess-offered)
		freed, files = freed+offered+then, files+more+last
		if left := choice.Excess - offered - then; left > 0 {
			n.log.Warn("there is less room for images than there should be, and what is here has to stay", "missing_bytes", left,
				"images_bytes", inv.bytes-freed, "fix", "give this peer more disk, or remove names and apps that nobody needs")
		}
	}
	if files > 0 {
		n.images.count(func(c *imageCounts) { c.Swept, c.SweptBytes = c.Swept+int64(files), c.SweptBytes+freed })
		n.log.Info("files were deleted that nothing needs, or that others hold", "files", files, "bytes", freed)
		n.happened("images-swept", fmt.Sprintf("%d files of %d bytes were deleted here: nothing needs them, or others hold them", files, freed))
	}
	return nil
}

// deleteUnneeded deletes files that nothing needs as far as this peer knows, until so
// many bytes are had, unless one in reach needs them: what an image is made of only
// those know that have its manifest.
func (n *Node) deleteUnneeded(ctx context.Context, files []sweep.Blob, since time.Duration, want int64) (freed int64, count int) {
	for batch := range slices.Chunk(files, askedFilesMax) {
		if want <= freed || ctx.Err() != nil {
			return freed, count
		}
		digests := make([]string, len(batch))
		for i, b := range batch {
			digests[i] = b.Digest
		}
		needed := n.neededElsewhere(ctx, digests)
		for i, b := range batch {
			if needed[i] || freed >= want {
				continue
			}
			gone, err := n.images.guard.Delete(b.Digest, since, n.deleteFile)
			if err != nil {
				n.log.Warn("a file that nothing needs is not deleted; it is tried again", "digest", b.Digest, "err", err)
			}
			if gone {
				freed, count = freed+b.Size, count+1
			}
		}
	}
	return freed, count
}

func (n *Node) deleteFile(digest string) error {
	if err := n.store.Blobs().Delete(digest); err != nil {
		return err
	}
	n.gone(digest)
	return nil
}

// letGo deletes files that the mesh needs and this peer need not hold, once enough
// others have promised to hold them, until so many bytes are had.
func (n *Node) letGo(ctx context.Context, files []sweep.Blob, want int64) (freed int64, count int) {
	for batch := range slices.Chunk(files, offersMax) {
		if freed >= want || ctx.Err() != nil {
			return freed, count
		}
		var offered []sweep.Blob
		for _, b := range batch {
			if sum(offered) < want-freed && n.images.guard.Offer(b.Digest) {
				offered = append(offered, b)
			}
		}
		promised, wanted := n.promises(ctx, offered), min(promisesWanted, max(1, len(n.others())))
		for _, b := range offered {
			if promised[b.Digest] < wanted {
				n.images.guard.Keep(b.Digest)
				continue
			}
			gone, err := n.images.guard.LetGo(b.Digest, n.deleteFile)
			if err != nil {
				n.log.Warn("a file that others hold is not deleted; it is tried again", "digest", b.Digest, "err", err)
			}
			if gone {
				freed, count = freed+b.Size, count+1
			}
		}
	}
	return freed, count
}

func sum(files []sweep.Blob) (bytes int64) {
	for _, b := range files {
		bytes += b.Size
	}
	return bytes
}

// forgetHoldings drops what peers said that were shut out since.
func (n *Node) forgetHoldings(ctx context.Context) {
	for _, peer := range n.images.holdings.Peers() {
		if errors.Is(n.trust.Admitted(peer), trust.ErrRevoked) {
			if err := n.images.holdings.Forget(ctx, peer); err != nil && ctx.Err() == nil {
				n.log.Warn("what a peer held that was shut out is not forgotten; it is tried again", "peer", peer, "err", err)
			}
		}
	}
}

// repair fetches what this peer has to hold and does not, and what had rotted and is
// needed.
func (n *Node) repair(inv inventory) {
	for _, r := range inv.missing {
		n.startFetch(placement.Fetch{Artifact: r.Artifact})
	}
	n.images.mu.Lock()
	var rotten []string
	for digest := range n.images.rotten {
		if here, needed := inv.needs.files[digest]; needed && !here {
			rotten = append(rotten, digest)
		}
	}
	n.images.mu.Unlock()
	for _, digest := range rotten {
		n.startFetch(placement.Fetch{Artifact: placement.Artifact{Digest: digest}})
	}
}
