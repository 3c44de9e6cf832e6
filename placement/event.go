package placement

import "time"

// Event is what happens to a peer's core. Peer.Step takes one at a time.
type Event interface{ event() }

type (
	// Submit is a person's PUT of an app. Its Answer comes when the intent is
	// durable, or when the wait for its keepers is over.
	Submit struct {
		Ticket      uint64 // names the Answer
		App         App    // validated, artifacts by digest
		Artifacts   []Artifact
		IfMatch     string // an ETag, "*", or "" for any
		IfNoneMatch bool   // only if there is no such app
		MinCopies   int    // 0 asks for a quorum but accepts fewer
		// Copies is how many keepers should hold it before the answer, if so many
		// live; 0 for a quorum. Fewer after the wait are no error: see Result.
		Copies         int
		IdempotencyKey string
		UID            UID // of several apps under this name the one that is meant; "" for the one edited last
	}

	// Remove is a person's DELETE of an app.
	Remove struct {
		Ticket         uint64
		Key            AppKey
		IfMatch        string
		MinCopies      int
		IdempotencyKey string
		UID            UID // as in Submit
	}

	// ForceEpoch is a person's order to give new keepers to the apps that a
	// peer kept and that have no majority of their keepers left. Forced is the
	// answer.
	ForceEpoch struct {
		Ticket uint64
		Peer   PeerID
	}

	// Receive is a message from another peer's core, as Send carried it. The
	// transport vouches for From.
	Receive struct {
		From PeerID
		Body []byte
	}

	// Undelivered says that a Send may not have arrived: the peer could not be
	// reached or did not acknowledge. It may have arrived all the same.
	Undelivered struct {
		To   PeerID
		Body []byte
	}

	// Persisted says that the Persist with this token is on disk.
	Persisted struct{ Token uint64 }

	// PersistFailed says that the Persist with this token is not on disk and
	// will not be: what depended on it is dropped and what it held is let go.
	PersistFailed struct {
		Token uint64
		Err   string
		Full  bool // no space, or the disk fails: the answer is 507
	}

	// RecordChanged is a change of a replicated table: all live siblings of a
	// key (none: the key was removed, which is positive evidence).
	RecordChanged struct {
		Table    string
		Key      string
		Siblings [][]byte
	}

	// MemberChanged is what failure detection says of a peer. It is a view,
	// not a truth: other peers may see another one.
	MemberChanged struct {
		Peer  PeerID
		Site  SiteID
		State MemberState
		// BackWithin is what is left of the time in which a peer that left
		// has announced to be back: its work is not lost until then.
		BackWithin time.Duration
	}

	// DigestChanged brings a newer digest of another peer.
	DigestChanged struct{ Digest Digest }

	// RTTChanged brings a new round-trip time from this peer to another.
	RTTChanged struct {
		Peer PeerID
		RTT  time.Duration
	}

	// Measured is the answer to a Measure: the round trip to each of To, below 0
	// where that is not known; none when From did not answer.
	Measured struct {
		From PeerID
		To   []PeerID
		RTT  []time.Duration
	}

	// HostChanged is what one of this peer's hosts has to give, by its id. The first
	// that is told of is the peer's own: at each start it must be the same.
	HostChanged struct{ Host Host }

	// HostGone says that a host is no more: nothing runs there, and its disk is
	// lost. What was granted on it goes to other hosts of this peer, or is given
	// back.
	HostGone struct{ ID string }

	// WorkListed is the answer of a driver to "what do you run?", once at
	// start. Before it the ledger grants nothing on that driver.
	WorkListed struct {
		Driver string
		Work   []Found
	}

	// WorkChanged is news of one allocation from the runner.
	WorkChanged struct {
		ID    AllocationID
		State WorkState
	}

	// RestartWork is a person's order to begin an allocation anew, where it is.
	// It counts against no budget. The Answer says whether it is done, or why not.
	RestartWork struct {
		Ticket uint64
		ID     AllocationID
	}

	// BlobArrived says that this peer holds the artifact, verified: of a tree, by the
	// digest of its root, all that was asked for. It may come once too often.
	BlobArrived struct{ Digest string }

	// BlobFailed says that an artifact could not be fetched for now.
	BlobFailed struct{ Digest, Reason string }

	// Holds is what a peer says it holds: the first 32 bits of the digests of its
	// blobs, rising; of a manifest only once all that it references is there. It is
	// a hint, by which places are preferred, bytes counted, and an app acknowledged
	// whose image was pushed before.
	Holds struct {
		Peer  PeerID
		Blobs []uint32
	}

	// VolumesFound is what lies on the disks of this peer's hosts, once at start.
	VolumesFound struct{ Volumes []FoundVolume }

	// VolumeGone says that the data of a volume is deleted.
	VolumeGone struct{ ID VolumeID }

	// DeleteVolume asks for a volume to be deleted, on a person's word. One whose
	// slot is granted here stays.
	DeleteVolume struct{ ID VolumeID }

	// TimerFired is the Timer of that key. Setting a key again replaces it.
	TimerFired struct{ Key string }
)

// Found is an allocation that a driver runs, with the labels that it was
// started with: enough to book it again after the ledger was lost.
type Found struct {
	ID     AllocationID
	Labels map[string]string
	State  WorkState
	Since  int64 // Unix milliseconds of its start, 0 if it never ran
}

// FoundVolume is what a slot keeps on a disk, as that says itself.
type FoundVolume struct {
	ID      VolumeID
	Key     AppKey
	Sizes   map[string]Bytes
	Created int64  // Unix milliseconds
	Host    string // whose disk it is; "" for the peer's own
}

// MemberState is how failure detection sees a peer.
type MemberState string

// The states of a member.
const (
	MemberAlive   MemberState = "alive"
	MemberSuspect MemberState = "suspect"
	MemberDead    MemberState = "dead"
	MemberLeft    MemberState = "left"
	// MemberForgotten was shut out of the mesh: it never comes back, and
	// nothing waits for it.
	MemberForgotten MemberState = "forgotten"
)

// AllocState is the state of an allocation.
type AllocState string

// The states of an allocation.
const (
	AllocPending   AllocState = "pending"
	AllocFetching  AllocState = "fetching"
	AllocStarting  AllocState = "starting" // or it waits for its first successful check
	AllocRunning   AllocState = "running"
	AllocUnhealthy AllocState = "unhealthy" // it runs, and its checks fail
	AllocStopping  AllocState = "stopping"
	AllocStopped   AllocState = "stopped"
	AllocFailed    AllocState = "failed"
	AllocLost      AllocState = "lost"
)

// WorkState is what the runner knows of an allocation.
type WorkState struct {
	State    AllocState        `json:"state"`
	Reason   string            `json:"reason,omitempty"`
	ExitCode *int              `json:"exit_code,omitempty"`
	Ports    map[string]string `json:"ports,omitempty"` // name -> host:port
	Driver   string            `json:"driver,omitempty"`
	Fenced   bool              `json:"fenced,omitempty"`  // its deadline ended it, not itself
	Started  int64             `json:"started,omitempty"` // Unix milliseconds of this run, where it is known
	// Final says of a start that failed that another one here will fail too, as when
	// the image does not exist: the slot is given back at once.
	Final bool `json:"-"`
}

// Exit is how a run of an allocation ended.
type Exit struct {
	Code   *int   `json:"code,omitempty"`
	Reason string `json:"reason"`
	At     int64  `json:"at"` // Unix milliseconds
}

func (Submit) event()        {}
func (Remove) event()        {}
func (ForceEpoch) event()    {}
func (Receive) event()       {}
func (Undelivered) event()   {}
func (Persisted) event()     {}
func (PersistFailed) event() {}
func (RecordChanged) event() {}
func (MemberChanged) event() {}
func (DigestChanged) event() {}
func (RTTChanged) event()    {}
func (Measured) event()      {}
func (HostChanged) event()   {}
func (HostGone) event()      {}
func (WorkListed) event()    {}
func (WorkChanged) event()   {}
func (RestartWork) event()   {}
func (BlobArrived) event()   {}
func (BlobFailed) event()    {}
func (Holds) event()         {}
func (VolumesFound) event()  {}
func (VolumeGone) event()    {}
func (DeleteVolume) event()  {}
func (TimerFired) event()    {}
