package placement

import (
	"math"
	"time"
)

// clockAheadMax is how far another peer's clock may be ahead of this one's and
// still be followed.
const clockAheadMax = 60 * time.Second

// aheadWatched is how far ahead a version may be for this peer to wait until
// it no longer is.
const aheadWatched = 24 * time.Hour

// hlc is a hybrid logical clock: it follows the wall clock, never steps back,
// and passes everything that it saw.
type hlc struct {
	peer    PeerID
	millis  int64
	logical uint32
}

// next is a version later than every one seen.
func (c *hlc) next(wall time.Time) Version {
	if ms := wall.UnixMilli(); ms > c.millis {
		c.millis, c.logical = ms, 0
	} else {
		v := Version{Millis: c.millis, Logical: c.logical}.successor()
		c.millis, c.logical = v.Millis, v.Logical
	}
	return Version{Millis: c.millis, Logical: c.logical, Peer: c.peer}
}

// successor is the next version of the same clock.
func (v Version) successor() Version {
	if v.Logical == math.MaxUint32 {
		v.Millis, v.Logical = v.Millis+1, 0
	} else {
		v.Logical++
	}
	return v
}

// after is a version later than v as well, so that an edit always comes after
// what it edits, even when that was made by a clock far ahead.
func (c *hlc) after(v Version, wall time.Time) Version {
	n := c.next(wall)
	if n.Compare(v) > 0 {
		return n
	}
	n = v.successor()
	n.Peer = c.peer
	return n
}

// observe follows v, unless its clock is too far ahead: then it is false.
func (c *hlc) observe(v Version, wall time.Time) bool {
	if v.ahead(wall) {
		return false
	}
	if v.Millis > c.millis || v.Millis == c.millis && v.Logical > c.logical {
		c.millis, c.logical = v.Millis, v.Logical
	}
	return true
}
