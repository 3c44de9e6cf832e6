package placement

// What people ask of a peer, answered from what this peer knows; every answer
// says how old it is.

// AppView is one app as this peer knows it.
type AppView struct {
	Intent     Intent
	ETag       string
	Conflict   bool // more than one version stands
	Keepers    []PeerID
	Epoch      uint64   // of the list of keepers
	Next       []PeerID // those that are to follow, while the list changes
	Term       Term
	Steward    PeerID // who drives it now as far as this peer knows
	Deputy     bool   // it is driven without a majority
	Components []ComponentView
	Open       []string // what its steward still has to do, in words
}

// ComponentView is the slots of a component by state.
type ComponentView struct {
	Name    string
	Kind    string
	Wanted  int
	States  map[AllocState]int
	Sites   []SiteCount
	Policy  Policy       // in force
	Missing string       // slots wanted and nowhere known, "0-5,8"
	Double  string       // slots that run at more than one peer
	Leases  []LeaseView  // of exclusive slots, as far as this peer knows
	Rollout *RolloutView // the last, as its keepers know it
}

// SiteCount is how many slots of a component a peer has, and how old that is.
type SiteCount struct {
	Site   SiteID
	Peer   PeerID
	States map[AllocState]int
	AsOf   int64  // Unix milliseconds
	Cut    bool   // the peer is not in reach: the row is what was last heard
	Slots  string // which slots, where that is known
	Next   Outlook
}

// AllocationView is one allocation at this peer.
type AllocationView struct {
	ID        AllocationID
	UID       UID
	Key       AppKey
	Component string
	Kind      string
	Site      SiteID
	Peer      PeerID
	Host      string
	State     WorkState
	Since     int64 // Unix milliseconds of the last change of state
	Restarts  int
	Version   Version
	Fence     uint64 // the number of its right to run, when it is exclusive
	Made      int64  // Unix milliseconds: since when it is at this peer
	Last      *Exit  // how the run before this one ended
}

// PlanView is what a deploy would do.
type PlanView struct {
	Components []PlannedComponent
	// Measure is what to ask before the plan is made anew, if it is to know how far
	// candidates are and not only to estimate it.
	Measure []Measure
}

// PlannedComponent is one component of a PlanView.
type PlannedComponent struct {
	Component string
	Wanted    int
	Placed    int
	Decision  Decision
}
