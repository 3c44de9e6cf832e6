package node

import (
	"context"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/node/runner"
	"github.com/hansa-mesh/hansa/placement"
)

const (
	// collectEvery is how often a driver deletes what is left of work that is over.
	collectEvery = time.Hour
	// collectMax bounds one such round.
	collectMax = 10 * time.Minute
)

// keepCollected has a driver that has said what it runs delete, now and every
// hour, what is left of work that is over. What is over the ledger says: a folder
// that nobody knows stays, for it may be what a lost store was to be made whole
// from.
func (n *Node) keepCollected(ctx context.Context, d driver.Driver) {
	c, ok := d.(driver.Collector)
	if !ok {
		return
	}
	every := time.NewTicker(collectEvery)
	defer every.Stop()
	for {
		n.collect(ctx, d.Name(), c)
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
	}
}

func (n *Node) collect(ctx context.Context, name string, c driver.Collector) {
	ctx, cancel := context.WithTimeout(ctx, collectMax)
	defer cancel()
	err := c.Collect(ctx, func(id string) bool { return n.ended(ctx, id) })
	if err != nil && ctx.Err() == nil {
		n.log.Warn("something that is left of ended work is not deleted; it is tried again in an hour", "driver", name, "err", err)
	}
}

// ended asks the ledger whether the allocation with a driver's id is over.
func (n *Node) ended(ctx context.Context, id string) bool {
	parsed, err := runner.FromDriverID(id)
	if err != nil {
		return false
	}
	over := false
	if err := n.loop.look(ctx, func(core *placement.Peer) { over = core.Ended(parsed) }); err != nil {
		return false // and over may still be written
	}
	return over
}
