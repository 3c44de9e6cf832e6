package node

import (
	"maps"
	"sync"
	"time"
)

const (
	// forgottenFor is how long it is known that a file was deleted on a person's word.
	forgottenFor = time.Minute
	// forgottenMax bounds the files of which that is known.
	forgottenMax = 10_000
)

// forgotten are files that were deleted on a person's word a moment ago. One that was
// being fetched then would come back.
type forgotten struct {
	mu sync.Mutex // guards what follows
	at map[string]time.Duration
}

func (f *forgotten) add(digest string, now time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	maps.DeleteFunc(f.at, func(_ string, at time.Duration) bool { return now-at > forgottenFor })
	if f.at == nil {
		f.at = map[string]time.Duration{}
	}
	if len(f.at) < forgottenMax { // beyond it they go as others do that nothing needs
		f.at[digest] = now
	}
}

// want takes back that a file was forgotten: somebody pushes it again, or asks for it.
func (f *forgotten) want(digest string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.at, digest)
}

func (f *forgotten) has(digest string, now time.Duration) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, ok := f.at[digest]
	return ok && now-at <= forgottenFor
}

// cameTooLate drops a file that was forgotten while it was fetched, unless something
// needs it now.
func (n *Node) cameTooLate(digest string) {
	if !n.images.forgotten.has(digest, n.clock.mono()) {
		return
	}
	n.work.Go(func() {
		if n.tells(n.ctx) != nil {
			return // it goes later, if nothing needs it
		}
		if _, err := n.drop(n.ctx, digest); err != nil && n.ctx.Err() == nil {
			n.log.Warn("a file that was deleted came back, and is not deleted again; it goes when nothing has needed it for long", "digest", digest, "err", err)
		}
	})
}
