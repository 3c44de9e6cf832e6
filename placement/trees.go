package placement

import "time"

// This file is how long edits wait for images, which are large: see Artifact.Tree.

const (
	// treeRateMin is the rate below which a tree is no longer waited for, in bytes
	// a second, and treeWaitMax the longest wait.
	treeRateMin = 2 << 20
	treeWaitMax = 30 * time.Minute

	// treeCopies is how many peers hold a tree that no keeper of an app that runs
	// it has to hold before that is acknowledged.
	treeCopies = 2
)

// treesTake is how long the trees among artifacts may take from peer to peer.
func treesTake(artifacts []Artifact) time.Duration {
	bytes := int64(0)
	for _, a := range artifacts {
		if a.Tree {
			bytes += min(a.Size, treeRateMin*int64(treeWaitMax/time.Second))
		}
	}
	return min(time.Duration(bytes)*time.Second/treeRateMin, treeWaitMax)
}

// durable says whether an app may be acknowledged without an artifact: an image
// that enough peers hold, since it was pushed before. A name may not.
func (p *Peer) durable(i *Intent, a Artifact) bool {
	if !a.Tree || i.App.recorded() {
		return false
	}
	copies := 0
	for id, m := range p.members.peers {
		if m.live && id != p.cfg.Self.Peer && m.holdsBlob(a.Digest) {
			copies++
		}
	}
	return copies >= treeCopies
}
