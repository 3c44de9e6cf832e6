package placement

import "time"

// Effect is what a peer's core wants done. Step returns only effects that may
// be carried out now, in order: those that depend on a Persist come out of the
// Step that takes its Persisted event.
type Effect interface{ effect() }

type (
	// Persist is one atomic batch for this peer's disk. The answer is a
	// Persisted or PersistFailed event with the same token.
	Persist struct {
		Token  uint64
		Writes []Write
	}

	// Send is a message to another peer's core (never to itself). Messages to
	// one peer may be batched, delayed, reordered, repeated and lost.
	Send struct {
		To   PeerID
		Body []byte
		m    *message // what Body says, for Inspect
	}

	// Publish writes a replicated table, or with a Value of nil removes. Either
	// is over the siblings of the key that this peer has seen, but for those
	// whose value is in Beside: they stay.
	Publish struct {
		Table  string
		Key    string
		Value  []byte
		Beside [][]byte
	}

	// Start asks the runner to run an allocation. It is idempotent by id.
	Start struct {
		ID   AllocationID
		Spec WorkSpec
	}

	// Stop asks the runner to end an allocation and forget it. The runner
	// reports AllocStopped when it is gone; stopping what is not there is
	// reported the same.
	Stop struct {
		ID     AllocationID
		Reason string
		Keep   bool // it is started again here: what it wrote stays, where the driver can keep it
	}

	// Watch tells the runner what an allocation is that ran before the daemon did,
	// so that its health is checked as that of one which was started.
	Watch struct {
		ID   AllocationID
		Spec WorkSpec
	}

	// Extend moves the time at which an exclusive allocation is fenced to a
	// later one.
	Extend struct {
		ID    AllocationID
		Until time.Duration // Now.Mono
	}

	// DropVolume asks for the data of a volume to be deleted, for good. The
	// answer is VolumeGone; what is not there is gone.
	DropVolume struct {
		ID   VolumeID
		Host string // where it lies; "" is the peer's own host
	}

	// Timer asks for a TimerFired event at Now.Mono >= At. An At of 0 cancels.
	Timer struct {
		Key string
		At  int64 // nanoseconds, as Now.Mono
	}

	// Fetch asks for an artifact that this peer does not hold, from any of
	// From; Warm asks to compile it ahead once it is here. The answer is
	// BlobArrived or BlobFailed. Of a tree it asks for the manifest and all that
	// it references, or with Arch for what of it runs there, and From may hold
	// parts of it.
	Fetch struct {
		Artifact Artifact
		From     []PeerID
		Warm     bool
	}

	// Measure asks how far a peer is from others: from all that it has measured
	// lately, and of the rest from the first Probe, which it measures for that. The
	// answer is Measured.
	Measure struct {
		From  PeerID // it may be this one
		To    []PeerID
		Probe int
	}

	// Answer ends a Submit, a Remove or a RestartWork.
	Answer struct {
		Ticket uint64
		Result Result
	}

	// Forced ends a ForceEpoch.
	Forced struct {
		Ticket  uint64
		Apps    []AppKey          // that have new keepers
		Refused map[AppKey]string // why not
	}

	// Record tells what happened or was decided, for events and explain.
	Record struct {
		Event    *Happened
		Decision *Decision
	}
)

// Write is one key of a Persist; a nil Value deletes.
type Write struct {
	Table string
	Key   string
	Value []byte
}

// WorkSpec is what the runner needs to run one slot.
type WorkSpec struct {
	UID       UID
	Key       AppKey
	Component string
	Spec      Component // as in the version that was granted
	SpecHash  uint64    // of Spec; 0 where it is not known
	Version   Version
	Restarts  int      // how often it was restarted in place
	Devices   []string // the GPUs that it may use, as the host names them
	Host      string   // where it runs; "" is the peer's own host

	// Fence numbers the right to run an exclusive slot; it rises with each
	// grant, and is 0 when the slot is not exclusive. Until is when that right
	// ends, as Now.Mono: whatever happens to the daemon, nothing of the
	// allocation runs past it, unless Extend moved it.
	Fence uint64
	Until time.Duration
}

// Result is the outcome of a Submit or a Remove.
type Result struct {
	Err     error // nil, or one of the kinds in errors.go
	UID     UID
	Version Version
	ETag    string
	Created bool
	Copies  int      // keepers that hold the intent and its bytes on disk
	Peers   []PeerID // those keepers
	Quorum  bool     // Copies is a majority of the keepers
	Driver  PeerID   // with ErrUnavailable: who drives the app, if this peer does not
	Notes   []string // what the person should know, though nothing failed
}

// Happened is one event as people see it.
type Happened struct {
	Type      string // "deployed", "placed", "running", "exited", "lost", "taken-over", …
	UID       UID
	Key       AppKey
	Component string
	Slots     string // "0-5,8"
	Peer      PeerID // the peer that it is about
	Message   string
}

// Decision is a placement, made or refused, with what it was made from.
type Decision struct {
	UID        UID
	Key        AppKey
	Component  string
	Version    Version
	Term       Term
	At         int64 // Unix milliseconds
	Since      int64 // when it was made first, of one that was made Times in a row
	Times      int
	Slots      string
	Reason     string            // why a decision was needed: "missing", "lost: peer x is dead", …
	Considered []Considered      // every candidate, best first
	Outcome    string            // in words: what is placed where, or why not
	Taken      map[PeerID]string // peer -> slots asked
	Travel     int64             // bytes that have to go to those peers
}

// Considered is one candidate of a decision.
type Considered struct {
	Peer   PeerID
	Name   string
	Site   SiteID
	Age    int64   // for which it may have had another digest, milliseconds
	Score  float64 // higher is better; 0 when it was filtered out
	Fits   int     // slots that would fit
	Taken  int     // slots given to it
	Travel int64   // bytes that would have to go there
	Reason string  // why it was filtered, or what its score is made of
}

func (Persist) effect()    {}
func (Send) effect()       {}
func (Publish) effect()    {}
func (Start) effect()      {}
func (Stop) effect()       {}
func (Watch) effect()      {}
func (Extend) effect()     {}
func (DropVolume) effect() {}
func (Timer) effect()      {}
func (Fetch) effect()      {}
func (Measure) effect()    {}
func (Answer) effect()     {}
func (Forced) effect()     {}
func (Record) effect()     {}

// Names of the replicated tables that Publish writes.
const (
	TableIntents = "intents" // namespace/app -> Signed Intent
	TableKeepers = "keepers" // UID -> Signed Keepers
	TableStatus  = "status"  // page/peer -> Signed Summaries
)
