package node

import (
	"context"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
)

// sweepEngines has the engines of this machine let go of the images that they were
// given from the mesh, by the rules for files: what nothing needs after the grace time,
// and when there is too little room what no work here has used for the short one. What
// the mesh needs is in the mesh still, so nobody has to promise anything.
func (n *Node) sweepEngines(ctx context.Context, need needs, short bool) {
	keep := func(digest string, idle time.Duration) bool {
		if short {
			return idle < min(graceMin, n.cfg.ImagesGrace)
		}
		_, needed := need.files[digest]
		return needed || need.blind || idle < n.cfg.ImagesGrace
	}
	for _, d := range n.drivers {
		imager, ok := d.(driver.Imager)
		if !ok {
			continue
		}
		gone, err := imager.PruneImages(ctx, keep)
		if err != nil && ctx.Err() == nil {
			n.log.Warn("an engine keeps images that nothing needs; it is tried again", "driver", d.Name(), "err", err)
		}
		if len(gone) > 0 {
			n.images.count(func(c *imageCounts) { c.Pruned += int64(len(gone)) })
			n.log.Info("an engine let go of images that nothing here needs", "driver", d.Name(), "images", gone)
		}
	}
}
