package sweep

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Blob is what is known of a file.
type Blob struct {
	Digest string
	Size   int64
	Idle   time.Duration // since it was last used, or came
	Needed bool          // by a name, a revision or an allocation anywhere in the mesh
	Kept   bool          // this peer itself has to hold it: as a keeper, or for its work
}

// Rules say what may go.
type Rules struct {
	// Grace is for how long what nothing needs is kept after it was last used, and
	// GraceMin the same while there is too little room.
	Grace, GraceMin time.Duration
	// Excess is how many bytes are to be had; 0 or less while there is room.
	Excess int64
	// Blind is set while it can't be told what something that is needed is made of:
	// then nothing is taken for not needed.
	Blind bool
}

// Choice is what goes.
type Choice struct {
	Drop  []Blob // at once
	Offer []Blob // in this order, what others promise to hold, until Excess bytes are had
	Then  []Blob // in this order, if that was not enough
	// Excess is what is left to be had after Drop.
	Excess int64
}

// Choose says what of the files here may go.
func Choose(blobs []Blob, r Rules) Choice {
	c := Choice{Excess: r.Excess}
	for _, b := range blobs {
		switch {
		case b.Kept:
		case b.Needed:
			c.Offer = append(c.Offer, b)
		case r.Blind:
		case b.Idle >= r.Grace:
			c.Drop = append(c.Drop, b)
			c.Excess -= b.Size
		case b.Idle >= r.GraceMin:
			c.Then = append(c.Then, b)
		}
	}
	if c.Excess <= 0 {
		c.Offer, c.Then, c.Excess = nil, nil, 0
	}
	for _, list := range [][]Blob{c.Drop, c.Offer, c.Then} {
		slices.SortFunc(list, func(a, b Blob) int {
			return cmp.Or(cmp.Compare(b.Idle, a.Idle), cmp.Compare(b.Size, a.Size), strings.Compare(a.Digest, b.Digest))
		})
	}
	return c
}
