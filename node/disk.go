package node

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/hansa-mesh/hansa/placement"
	"github.com/hansa-mesh/hansa/store"
)

// diskEvery is how often it is looked whether the store takes writes.
const diskEvery = time.Second

// openStore opens the store. What it had promised in lives before is not known
// to an empty one: membership keeps the number of the last, apart from it.
func (n *Node) openStore() (err error) {
	n.store, err = store.Open(store.Config{
		Dir: n.cfg.DataDir, Mesh: n.member.Mesh, FreeFloor: n.cfg.FreeFloor, Quarantine: true,
		IncarnationFloor: n.member.Incarnation, Rotten: n.fileRotten, Log: n.log.With("part", "store"),
	})
	if err != nil {
		return err
	}
	if n.store.Incarnation() <= n.member.Incarnation {
		return nil
	}
	n.member.Incarnation = n.store.Incarnation()
	return n.member.save(n.cfg.DataDir)
}

// tellQuarantine says that this life of the store began because the one before
// was damaged.
func (n *Node) tellQuarantine() {
	reason, path, was := n.store.Quarantined()
	if !was {
		return
	}
	const todo = "this peer starts empty, and the mesh gives back what it holds; look after the disk, and delete the folder when nobody wants to look into it"
	n.log.Error("the store was damaged and was put aside: "+todo, "reason", reason, "kept", path)
	n.happened("store", fmt.Sprintf("it was damaged (%s) and was put aside, to %s: %s", reason, path, todo))
}

// happened records an event that is about this peer and no app.
func (n *Node) happened(kind, message string) {
	n.events.add(placement.Happened{Type: kind, Peer: n.self().Peer, Message: message})
}

// lookAtDisk tells people and the mesh when the store stops taking writes, and
// when it takes them again. Only feed calls it.
func (n *Node) lookAtDisk(ctx context.Context) {
	err := n.store.Health()
	full := ""
	switch {
	case errors.Is(err, store.ErrFull):
		full = "its disk is full"
	case err != nil:
		full = "its disk failed"
	}
	if full == n.full {
		return
	}
	n.full = full
	if full == "" {
		n.log.Info("the store takes writes again")
		n.happened("disk", "there is room again: this peer takes new work")
	} else {
		n.log.Error("the store takes no writes: what runs here goes on, and nothing new is taken", "err", err)
		n.happened("disk", err.Error()+"; what runs here goes on, and nothing new is taken")
	}
	n.probe(ctx)
}

// What the system says when a disk takes nothing.
const (
	errNoSpace  = syscall.ENOSPC
	errQuota    = syscall.EDQUOT
	errIO       = syscall.EIO
	errReadOnly = syscall.EROFS
)

// diskError says whether the system refused a write for want of space or of a
// disk that works.
func diskError(err error) bool {
	for _, no := range []error{errNoSpace, errQuota, errIO, errReadOnly} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}
