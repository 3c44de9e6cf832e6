package node

import (
	"maps"
	"sync"
	"time"
)

const (
	// claimsFor is for how long a peer's word that it holds a file counts for nothing,
	// after it was asked for that file and nobody gave it.
	claimsFor = 5 * time.Minute
	claimsMax = 4096
)

// claim is a peer's word that it holds a file.
type claim struct{ digest, peer string }

// claims are those that turned out to be worth nothing.
type claims struct {
	mu    sync.Mutex // guards what follows
	until map[claim]time.Duration
}

// hollow notes that peers said that they hold a file, and that it was not to be had.
func (c *claims) hollow(digest string, peers []string, now time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.until, func(_ claim, until time.Duration) bool { return now > until })
	if c.until == nil || len(c.until)+len(peers) > claimsMax { // they will be noted again
		c.until = map[claim]time.Duration{}
	}
	for _, p := range peers {
		c.until[claim{digest, p}] = now + claimsFor
	}
}

// counts says whether a peer's word that it holds a file is worth something.
func (c *claims) counts(digest, peer string, now time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, ok := c.until[claim{digest, peer}]
	return !ok || now > until
}
