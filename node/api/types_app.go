package api

import (
	"time"

	"github.com/hansa-mesh/hansa/placement"
)

// App is one app in a list.
type App struct {
	Namespace  string           `json:"namespace"`
	App        string           `json:"app"`
	UID        string           `json:"uid"`
	State      string           `json:"state" enum:"running,deploying,degraded,removing,unknown" doc:"running: all that is wanted runs"`
	Wanted     int              `json:"wanted"`
	Running    int              `json:"running"`
	Components []ComponentCount `json:"components"`
	Revision   string           `json:"revision"`
	ETag       string           `json:"etag"`
	Conflict   bool             `json:"conflict,omitempty" doc:"More than one version stands"`
	Steward    PeerRef          `json:"steward,omitzero" doc:"Who drives it, as far as is known"`
	Deputy     bool             `json:"deputy,omitempty" doc:"It is driven without a majority of its keepers"`
	Created    time.Time        `json:"created,omitzero"`
	Updated    time.Time        `json:"updated,omitzero"`
	AsOf       time.Time        `json:"as_of,omitzero"`
}

// ComponentCount is the size of a component.
type ComponentCount struct {
	Name    string `json:"name"`
	Kind    string `json:"kind"`
	Wanted  int    `json:"wanted"`
	Running int    `json:"running"`
}

// AppDetail is one app as a person wants it, and who keeps it.
type AppDetail struct {
	App
	Spec      placement.App        `json:"spec"`
	Artifacts []placement.Artifact `json:"artifacts,omitempty"`
	Keepers   []PeerRef            `json:"keepers"`
	Epoch     uint64               `json:"epoch" doc:"Of the list of keepers"`
	Term      uint64               `json:"term"`
	Sides     []Side               `json:"sides,omitempty" doc:"In a conflict, every version that stands"`

	Disconnect map[string]placement.Policy `json:"disconnect" doc:"In force, by component: what the manifest leaves out is filled in"`
}

// Durability says who holds an edit on disk.
type Durability struct {
	Copies  int       `json:"copies" doc:"Peers that hold the intent and its bytes on disk: keepers and, below a majority of them, the peer that took the edit"`
	Keepers int       `json:"keepers" doc:"How many the app has"`
	Quorum  bool      `json:"quorum" doc:"The copies are a majority of the keepers"`
	Peers   []PeerRef `json:"peers" doc:"Those that hold it"`
}

// PutResult is the answer to a PUT of an app.
type PutResult struct {
	Namespace  string     `json:"namespace"`
	App        string     `json:"app"`
	UID        string     `json:"uid"`
	Revision   string     `json:"revision"`
	ETag       string     `json:"etag"`
	Created    bool       `json:"created"`
	Unchanged  bool       `json:"unchanged,omitempty" doc:"It was so already, or this is the answer to a repeated Idempotency-Key"`
	Durability Durability `json:"durability"`
	Warnings   []string   `json:"warnings,omitempty"`
}

// DeleteResult is the answer to a DELETE of an app.
type DeleteResult struct {
	Namespace  string     `json:"namespace"`
	App        string     `json:"app"`
	UID        string     `json:"uid"`
	Revision   string     `json:"revision"`
	Durability Durability `json:"durability"`
}

// Plan is what a deploy would do.
type Plan struct {
	Namespace  string          `json:"namespace"`
	App        string          `json:"app"`
	Change     string          `json:"change" enum:"create,update,none"`
	Complete   bool            `json:"complete" doc:"Every slot finds a place"`
	Components []PlanComponent `json:"components"`
	Travel     int64           `json:"travel_bytes,omitempty" doc:"Bytes that would travel for all of it"`
	Warnings   []string        `json:"warnings,omitempty"`
	AsOf       time.Time       `json:"as_of"`
}

// PlanComponent is one component of a Plan.
type PlanComponent struct {
	Name     string   `json:"name"`
	Kind     string   `json:"kind"`
	Driver   string   `json:"driver"`
	Wanted   int      `json:"wanted"`
	Placed   int      `json:"placed"`
	Refused  string   `json:"refused,omitempty" doc:"Why the namespace's policy would refuse it at a deploy, in the words of that"`
	Decision Decision `json:"decision"`
}

// Decision is a placement, made or refused, with what it was made from.
type Decision struct {
	Component  string       `json:"component"`
	At         time.Time    `json:"at,omitzero"`
	Since      time.Time    `json:"since,omitzero" doc:"When it was made first, of one that was made several times in a row"`
	Times      int          `json:"times,omitempty" doc:"How often it was made in a row, if more than once"`
	By         PeerRef      `json:"by,omitzero" doc:"Who decided"`
	Revision   string       `json:"revision,omitempty"`
	Term       uint64       `json:"term,omitempty"`
	Slots      string       `json:"slots" doc:"What had to be placed"`
	Reason     string       `json:"reason" doc:"Why a decision was needed"`
	Outcome    string       `json:"outcome" doc:"What is placed where, or why not, in words"`
	Taken      []Taken      `json:"taken,omitempty"`
	Travel     int64        `json:"travel_bytes,omitempty" doc:"Bytes of files and images that have to go to the peers that were chosen; 0 also while no peer has said what it holds"`
	Considered []Considered `json:"considered"`
}

// Taken is what a decision gave to one peer.
type Taken struct {
	Peer  PeerRef `json:"peer"`
	Slots string  `json:"slots"`
}

// Considered is one candidate of a decision, best first.
type Considered struct {
	Peer      PeerRef `json:"peer"`
	AgeMillis int64   `json:"age_ms" doc:"Of what was known about it"`
	Score     float64 `json:"score" doc:"Higher is better"`
	Fits      int     `json:"fits" doc:"Slots that would fit"`
	Taken     int     `json:"taken" doc:"Slots given to it"`
	Travel    int64   `json:"travel_bytes,omitempty" doc:"Bytes of files and images that would have to go there"`
	Reason    string  `json:"reason" doc:"Why it was left out, or what its score is made of"`
}

// Status is what is wanted of an app and what is.
type Status struct {
	Namespace  string            `json:"namespace"`
	App        string            `json:"app"`
	UID        string            `json:"uid"`
	State      string            `json:"state" enum:"running,deploying,degraded,removing,unknown"`
	Revision   string            `json:"revision"`
	ETag       string            `json:"etag"`
	Conflict   bool              `json:"conflict,omitempty"`
	Keepers    []PeerRef         `json:"keepers"`
	Epoch      uint64            `json:"epoch" doc:"Of the list of keepers"`
	KeepersOut []PeerRef         `json:"keepers_out,omitempty" doc:"Keepers that are not in reach of the peer that answers"`
	Next       []PeerRef         `json:"next_keepers,omitempty" doc:"Those that are to follow them, while the list is being changed"`
	Steward    PeerRef           `json:"steward,omitzero"`
	Deputy     bool              `json:"deputy,omitempty"`
	Term       uint64            `json:"term"`
	Components []ComponentStatus `json:"components"`
	Open       []string          `json:"open,omitempty" doc:"What its steward still has to do, in words"`
	AsOf       time.Time         `json:"as_of"`
}

// ComponentStatus is one component of a Status.
type ComponentStatus struct {
	Name    string         `json:"name"`
	Kind    string         `json:"kind"`
	Driver  string         `json:"driver,omitempty"`
	Wanted  int            `json:"wanted"`
	Running int            `json:"running"`
	States  map[string]int `json:"states"`
	Missing string         `json:"missing,omitempty" doc:"Slots wanted and known nowhere"`
	Double  string         `json:"double,omitempty" doc:"Slots that run at more than one peer"`
	Places  []PlaceStatus  `json:"places"`
	Leases  []LeaseStatus  `json:"leases,omitempty" doc:"Of exclusive slots, as the peer that answered knows them"`
	Rollout *RolloutStatus `json:"rollout,omitempty" doc:"Of its last change, where a keeper of the app answered"`

	Disconnect placement.Policy `json:"disconnect" doc:"In force: what the manifest leaves out is filled in"`
}

// LeaseStatus is the lease of one exclusive slot.
type LeaseStatus struct {
	Slot   int      `json:"slot"`
	Holder *PeerRef `json:"holder,omitempty" doc:"Whose copy may run; none when nobody's may"`
	Number uint64   `json:"number,omitempty" doc:"What the copy has as HANSA_FENCE; it rises with each new right to run"`
	LeftMS int64    `json:"left_ms,omitempty" doc:"Until it is over, unless it is renewed"`
	Waits  string   `json:"waits,omitempty" doc:"Why a copy waits for it"`
}

// PlaceStatus is what one peer has of a component.
type PlaceStatus struct {
	Peer   PeerRef        `json:"peer"`
	States map[string]int `json:"states"`
	Stale  bool           `json:"stale,omitempty" doc:"The peer is not in reach: this is what was last heard"`
	AsOf   time.Time      `json:"as_of"`
	Slots  string         `json:"slots,omitempty" doc:"Which slots, where that is known"`
	Next   string         `json:"next,omitempty" doc:"What will be done about it, and when, in words; times of day are in UTC"`
	Action string         `json:"action,omitempty" enum:"replace,never,mass-loss,announced,forgotten,elsewhere,unknown" doc:"The same for programs. replace: its slots are placed anew, from at on; never: they wait for the peer; mass-loss: too many sites were lost at once, so they wait until at; announced: the peer said that it comes back; forgotten: it was shut out, and they are placed anew; elsewhere: this side of a cut leaves them alone; unknown: nobody who decides is in reach"`
	At     time.Time      `json:"at,omitzero"`

	StopsAt time.Time `json:"stops_at,omitzero" doc:"When its peer stops them itself (stop_after), if it reaches no majority of the keepers until then; of a peer that is not in reach, about when"`
}

// Allocation is one slot of a component, bound to a host.
type Allocation struct {
	ID        string            `json:"id" doc:"Claim and slot"`
	Namespace string            `json:"namespace"`
	App       string            `json:"app"`
	Component string            `json:"component"`
	Slot      int               `json:"slot"`
	Site      string            `json:"site"`
	Peer      string            `json:"peer"`
	Host      string            `json:"host"`
	Kind      string            `json:"kind" enum:"server,container,function"`
	Driver    string            `json:"driver"`
	State     string            `json:"state" enum:"pending,fetching,starting,running,unhealthy,stopping,stopped,failed,lost"`
	Reason    string            `json:"reason"`
	Since     time.Time         `json:"since" doc:"Of the last change of state"`
	CreatedAt time.Time         `json:"created_at,omitzero" doc:"Since when it is at this peer"`
	StartedAt time.Time         `json:"started_at,omitzero" doc:"Of this run; none while it does not run"`
	Ports     map[string]string `json:"ports" doc:"Name to the host:port where it is reached"`
	Revision  string            `json:"revision" doc:"Opaque"`

	PeerName string     `json:"peer_name,omitempty"`
	UID      string     `json:"uid,omitempty" doc:"Of the app"`
	Restarts int        `json:"restarts,omitempty" doc:"In place"`
	LastExit *Exit      `json:"last_exit,omitempty" doc:"How the run before this one ended"`
	Usage    *WorkUsage `json:"usage,omitempty" doc:"What it uses, where its driver measures that; sampled every 10 seconds"`
	Fence    uint64     `json:"fence,omitempty" doc:"Of an exclusive slot: the number of its right to run"`
	ExitCode *int       `json:"exit_code,omitempty"`
	Stale    bool       `json:"stale,omitempty" doc:"Its peer is not in reach: this is what was last heard"`
	AsOf     time.Time  `json:"as_of,omitzero"`
}
