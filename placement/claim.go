package placement

import (
	"hash/fnv"
	"slices"
	"time"
)

// Tables of the ledger on its peer's disk.
const (
	tableClaims = "claims" // claim id -> claim
	tableAskers = "askers" // asker/incarnation -> askerRecord
	tableTerms  = "terms"  // UID -> Term
	tablePlaces = "places" // claim id -> claim.At, where that says anything
)

// claimState is where a claim is in its life.
//
//	             admit                     commit
//	(ask) ──later──▶ reserved ───────────────────────┐
//	  │                 │ expiry                     ▼
//	  └─now─▶ unconfirmed ──intent in the catalog──▶ active
//	                │ expiry, no intent                │ release, scale-down, removal,
//	                ▼                                  ▼ restarts used up
//	            releasing ◀──────────────────────── releasing ──all stopped──▶ gone
//
// A claim holds capacity in every state, for each of its slots until the slot
// has stopped.
type claimState uint8

const (
	claimReserved claimState = iota + 1
	claimUnconfirmed
	claimActive
	claimReleasing
)

func (s claimState) String() string {
	return [...]string{"none", "reserved", "unconfirmed", "active", "releasing"}[s]
}

// claim is one grant of capacity, as it stands on disk.
type claim struct {
	ID           ClaimID           `cbor:"i"`
	UID          UID               `cbor:"u"`
	Key          AppKey            `cbor:"k"`
	Component    string            `cbor:"c"`
	Version      Version           `cbor:"v"`
	Term         Term              `cbor:"m,omitzero"` // that it was granted under
	Deputy       bool              `cbor:"d,omitempty"`
	Spec         Component         `cbor:"s"`
	SpecHash     uint64            `cbor:"h"`
	Artifact     Artifact          `cbor:"a,omitzero"`  // the first that it needs
	Artifacts    []Artifact        `cbor:"b,omitempty"` // and the others
	Need         Resources         `cbor:"n"`           // of one slot
	Devices      map[Slot][]string `cbor:"q,omitempty"` // the GPUs that each slot has
	State        claimState        `cbor:"t"`
	Slots        Slots             `cbor:"l,omitzero"` // held to run
	Stopping     Slots             `cbor:"x,omitzero"` // being stopped: capacity still held
	Granted      Slots             `cbor:"g"`          // as answered, for a repeated ask
	Refused      Slots             `cbor:"r,omitzero"`
	Reason       string            `cbor:"w,omitempty"`
	Replaces     *ClaimID          `cbor:"o,omitempty"`
	Keepers      []PeerID          `cbor:"p,omitempty"`
	FirstRunning int64             `cbor:"f,omitempty"` // Unix milliseconds
	// Again is when slots began to run that did so later than the claim:
	// restarted ones. Unix milliseconds.
	Again map[Slot]int64 `cbor:"y,omitempty"`
	Score *float64       `cbor:"z,omitempty"` // of its place when it was asked for; higher is better
	Left  int64          `cbor:"e,omitempty"` // of a reserved or unconfirmed claim: nanoseconds, re-armed after a restart

	// At is which slots are on which host, in order of the hosts; nothing where all
	// are on the peer's own. It has a record of its own, which is not written anew
	// for each slot that stops: there slots may be named that have.
	At []slotsAt `cbor:"-"`

	held     bool          // not on disk yet
	entered  Slots         // whose volumes were entered for it
	work     bool          // its disk says that it is work, and not reserved
	leaving  Slots         // of Stopping: that is not on disk yet
	expires  time.Duration // Now.Mono; 0: never
	runs     []hostRun     // as At
	moving   Slots         // whose new host is not on disk yet
	stranded Slots         // whose host is gone, also if one of that name came since
	pinned   Slots
	pinUntil time.Duration
	pinTerm  Term   // of the steward that pinned it last,
	pinOrder uint64 // and the number of that order
}

// holds is the slots that take capacity.
func (c *claim) holds() Slots { return c.Slots.Union(c.Stopping) }

// artifacts are the files that a slot needs before it starts.
func (c *claim) artifacts() []Artifact {
	if c.Artifact.Digest == "" {
		return nil
	}
	return append([]Artifact{c.Artifact}, c.Artifacts...)
}

// needs notes the files that the claim's component needs on an architecture, with
// the sizes that the intent has for them.
func (c *claim) needs(i *Intent, arch string) {
	c.Artifact, c.Artifacts = Artifact{}, nil
	if needs := c.Spec.needs(i, arch); len(needs) > 0 {
		c.Artifact, c.Artifacts = needs[0], needs[1:]
	}
}

// needs are the files, and the tree of the image or disk, that a component of an intent
// needs on an architecture. An image that is not pinned, or that the intent has
// no tree of, is the engine's to find.
func (c Component) needs(i *Intent, arch string) []Artifact {
	var out []Artifact
	for _, digest := range c.ArtifactsOn(arch) {
		art := Artifact{Digest: digest}
		if at := slices.IndexFunc(i.Artifacts, func(a Artifact) bool { return a.Digest == digest }); at >= 0 {
			art = i.Artifacts[at]
		}
		out = append(out, art)
	}
	for _, root := range []string{c.ImageDigest(), c.DiskDigest(arch)} {
		for _, exact := range []bool{true, false} { // of several trees the one for this architecture
			at := slices.IndexFunc(i.Artifacts, func(a Artifact) bool { return a.Tree && a.Digest == root && (a.Arch == arch || !exact) })
			if at >= 0 {
				art := i.Artifacts[at]
				art.Arch = arch
				out = append(out, art)
				break
			}
		}
	}
	return out
}

// SpecHash tells components apart by what would run. Replicas, place,
// disconnect, how it is updated and restarted, and who votes on an exclusive one
// are left out: changing them restarts nothing.
func SpecHash(c Component) uint64 {
	c.Replicas, c.Place, c.Disconnect, c.Exclusive.Keepers = nil, Place{}, Disconnect{}, ""
	c.Update, c.Restart = nil, nil
	h := fnv.New64a()
	h.Write(Encode(c))
	return h.Sum64()
}

// askerRecord is what the ledger remembers of one asker in one life of its
// store.
//
// A repeated ask is told apart by three things: a claim that it made and that
// still stands; Spent, for a claim that is gone; and Floor, below which the
// asker itself has no open ask any more.
type askerRecord struct {
	Floor uint64   `cbor:"f"`
	Spent []uint64 `cbor:"s,omitempty"`

	refused map[uint64]string // why
	claims  map[uint64]ClaimID
}

// Bounds of an askerRecord. An ask past them is refused until the floor rises.
const (
	spentMax   = 4096
	refusedMax = 256
)

type askerKey struct {
	peer PeerID
	inc  Incarnation
}
