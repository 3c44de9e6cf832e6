package placement

// situation is one component as its steward sees it.
type situation struct {
	wanted    Slots
	spec      uint64 // SpecHash of what is wanted
	keep      string // of two copies: Policy.Reconcile
	claims    []fact
	fates     map[PeerID]fate // of the peers in claims
	inflight  Slots           // asked for, to fill what is missing
	moving    Slots           // asked for, to replace other claims
	conflict  bool            // more than one version stands
	mayStop   bool            // a steward with its term, not a deputy
	mayMove   bool            // a roll-out may begin: in no conflict and, of a deputy, to what its own side was given
	fault     Fault
	exclusive bool // what is wanted runs under leases
	update    UpdatePolicy
	sticky    bool // what is wanted has volumes, which two copies never share
}

// fact is one claim as it was last heard of.
type fact struct {
	claimStatus
	peer PeerID
	lost bool  // its peer is not in reach, and what it has is to be placed anew
	live bool  // its peer can be spoken to, and has said what it has since it can
	back bool  // its peer can be spoken to again, and has not said yet what is left
	run  int64 // with LongestRunning, when its slots began to run; Unix milliseconds

	ending Slots // ordered to stop, which its peer has not said of them yet
}

// settled is the slots of a claim that run and have done so for min_healthy.
func (c claimStatus) settled() Slots { return c.Running.Minus(c.Fresh) }

// course is what should be done about a situation. It is a pure function of
// it: the same facts give the same course at every peer.
type course struct {
	missing    Slots
	lost       Slots // of missing: held by peers that are lost
	moves      []share
	done       []share // parts of claims that another claim has replaced
	duplicates []duplicate
	outdated   Slots // still at an older version
	waiting    Slots // placed, not running yet
	stops      int   // slots that the roll-out may still leave without a healthy copy
}

// share is a part of a claim.
type share struct {
	claim fact
	slots Slots
	why   string
	stops bool // before a newer copy is healthy
}

// duplicate is slots that run twice, and which of the two claims stays.
type duplicate struct {
	survivor, loser fact
	slots           Slots
	keep            string // the rule
}

const (
	// movesMax is how many claims one round moves, each with a plan of its own.
	movesMax = 64
	// survivorsMax is how many claims one round holds all others against; the
	// rest has its turn when these are done.
	survivorsMax = 256
)

// reconcile compares what is wanted with what is.
func reconcile(s situation) course {
	var c course
	standing := make([]fact, 0, len(s.claims))
	placed, double, lost, running := Slots{}, Slots{}, Slots{}, Slots{}
	for _, f := range s.claims {
		if f.lost {
			lost = lost.Union(f.Slots)
			continue
		}
		standing = append(standing, f)
		double = double.Union(placed.Intersect(f.Slots))
		placed = placed.Union(f.Slots)
		running = running.Union(f.Running)
	}
	c.missing = s.wanted.Minus(placed).Minus(s.inflight)
	c.lost = c.missing.Intersect(lost)
	c.waiting = s.wanted.Intersect(placed).Minus(running)
	if s.fault == FaultCountTwice && len(standing) > 0 && countSlots(standing) >= s.wanted.Len() {
		c.missing, double = Slots{}, Slots{}
	}
	if s.mayStop {
		c.handOver(s, standing)
	}
	if s.mayStop || s.mayMove {
		c.resolve(s, standing, double)
	}
	if !s.mayStop {
		c.duplicates = nil // which of two copies stays is a steward's to decide
	}
	if s.mayMove {
		c.rollOut(s, standing, double)
	}
	return c
}
