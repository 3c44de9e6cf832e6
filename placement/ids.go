package placement

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// PeerID is a peer's identity: the hash of its key, never its name.
type PeerID string

// SiteID names a region or edge location.
type SiteID string

// UID identifies one app for its whole life; an app that is removed and
// deployed again under the same name has another.
type UID string

// Slot is the number of one replica of a component, 0..replicas-1.
type Slot uint32

// Incarnation numbers the life of a peer's store; it is new, and higher,
// whenever the store is opened empty.
type Incarnation uint64

// PeerRef is a peer in one life of its store. What a peer promised it promised
// as a PeerRef: after its disk was lost it is another one.
type PeerRef struct {
	Peer        PeerID      `json:"peer"`
	Incarnation Incarnation `json:"incarnation"`
}

func (r PeerRef) compare(o PeerRef) int {
	return cmp.Or(cmp.Compare(r.Peer, o.Peer), cmp.Compare(r.Incarnation, o.Incarnation))
}

// AppKey is the name that a person uses for an app.
type AppKey struct {
	Namespace string `json:"namespace"`
	App       string `json:"app"`
}

// String is "namespace/app", which is also the key in the table of intents.
func (k AppKey) String() string { return k.Namespace + "/" + k.App }

// Now is the time that a caller passes in. Mono only ever advances and orders
// timeouts; Wall is for show and for the hybrid logical clock, and may jump.
type Now struct {
	Mono time.Duration
	Wall time.Time
}

// Version orders the edits of an app: a hybrid logical clock (Kulkarni et al.,
// 2014) with the writer as the tie-break, so that any two differ.
type Version struct {
	Millis  int64  `json:"millis"` // Unix time in milliseconds, never behind what was seen
	Logical uint32 `json:"logical"`
	Peer    PeerID `json:"peer"`
}

// Compare orders versions; the zero Version is before all others.
func (v Version) Compare(o Version) int {
	return cmp.Or(cmp.Compare(v.Millis, o.Millis), cmp.Compare(v.Logical, o.Logical), cmp.Compare(v.Peer, o.Peer))
}

// IsZero says whether v is no version at all.
func (v Version) IsZero() bool { return v == Version{} }

// String is the text form, "millis.logical.peer" with numbers in base 36; it
// is what ETag and revision show.
func (v Version) String() string {
	return strconv.FormatInt(v.Millis, 36) + "." + strconv.FormatUint(uint64(v.Logical), 36) + "." + string(v.Peer)
}

// ParseVersion reads what Version.String wrote.
func ParseVersion(s string) (Version, error) {
	parts := strings.SplitN(s, ".", 3)
	if len(parts) != 3 {
		return Version{}, fmt.Errorf("version %q: want millis.logical.peer", s)
	}
	millis, err1 := strconv.ParseInt(parts[0], 36, 64)
	logical, err2 := strconv.ParseUint(parts[1], 36, 32)
	if err := errors.Join(err1, err2); err != nil {
		return Version{}, fmt.Errorf("version %q: %w", s, err)
	}
	return Version{Millis: millis, Logical: uint32(logical), Peer: PeerID(parts[2])}, nil
}

// Term numbers a stewardship. Higher numbers win; for one number the keepers
// grant one peer only.
type Term struct {
	Number uint64 `json:"number"`
	Peer   PeerID `json:"peer"`
}

// Compare orders terms by number, then peer.
func (t Term) Compare(o Term) int {
	return cmp.Or(cmp.Compare(t.Number, o.Number), cmp.Compare(t.Peer, o.Peer))
}

// AskID names one ask for capacity. A repeated ask carries the same id and
// gets the recorded answer.
type AskID struct {
	Asker       PeerID      `json:"asker"`
	Incarnation Incarnation `json:"incarnation"`
	Counter     uint64      `json:"counter"`
}

// ClaimID names one grant: the ask and the owner that granted it, in one life
// of its store.
type ClaimID struct {
	Ask   AskID   `json:"ask"`
	Owner PeerRef `json:"owner"`
}

// String is "asker-incarnation-counter-owner-incarnation", numbers in base 36;
// it is safe as a file name.
func (c ClaimID) String() string {
	return strings.Join([]string{
		string(c.Ask.Asker), strconv.FormatUint(uint64(c.Ask.Incarnation), 36), strconv.FormatUint(c.Ask.Counter, 36),
		string(c.Owner.Peer), strconv.FormatUint(uint64(c.Owner.Incarnation), 36),
	}, "-")
}

// ParseClaimID reads what ClaimID.String wrote, and nothing else: a claim has one
// name.
func ParseClaimID(s string) (ClaimID, error) {
	p := strings.Split(s, "-")
	if len(p) != 5 {
		return ClaimID{}, fmt.Errorf("claim %q: want asker-incarnation-counter-owner-incarnation", s)
	}
	inc1, err1 := strconv.ParseUint(p[1], 36, 64)
	n, err2 := strconv.ParseUint(p[2], 36, 64)
	inc2, err3 := strconv.ParseUint(p[4], 36, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return ClaimID{}, fmt.Errorf("claim %q: %w", s, err)
	}
	c := ClaimID{
		Ask:   AskID{Asker: PeerID(p[0]), Incarnation: Incarnation(inc1), Counter: n},
		Owner: PeerRef{Peer: PeerID(p[3]), Incarnation: Incarnation(inc2)},
	}
	if c.String() != s {
		return ClaimID{}, fmt.Errorf("claim %q: write %q", s, c)
	}
	return c, nil
}

// Compare orders claims for ties and for sorted output.
func (c ClaimID) Compare(o ClaimID) int {
	return cmp.Or(
		cmp.Compare(c.Ask.Asker, o.Ask.Asker), cmp.Compare(c.Ask.Incarnation, o.Ask.Incarnation),
		cmp.Compare(c.Ask.Counter, o.Ask.Counter), cmp.Compare(c.Owner.Peer, o.Owner.Peer),
		cmp.Compare(c.Owner.Incarnation, o.Owner.Incarnation))
}

// AllocationID names one slot of a claim: what a host runs.
type AllocationID struct {
	Claim ClaimID `json:"claim"`
	Slot  Slot    `json:"slot"`
}

func (a AllocationID) compare(o AllocationID) int {
	return cmp.Or(a.Claim.Compare(o.Claim), cmp.Compare(a.Slot, o.Slot))
}

// String is the claim's text, a dot, and the slot.
func (a AllocationID) String() string {
	return a.Claim.String() + "." + strconv.FormatUint(uint64(a.Slot), 10)
}

// ParseAllocationID reads what AllocationID.String wrote, and nothing else: so no
// order about one allocation is taken for one about another, "…01" for "…1".
func ParseAllocationID(s string) (AllocationID, error) {
	claim, slot, ok := strings.Cut(s, ".")
	if !ok {
		return AllocationID{}, fmt.Errorf("allocation %q: want claim.slot", s)
	}
	c, err := ParseClaimID(claim)
	if err != nil {
		return AllocationID{}, fmt.Errorf("allocation %q: %w", s, err)
	}
	n, err := strconv.ParseUint(slot, 10, 32)
	if err != nil {
		return AllocationID{}, fmt.Errorf("allocation %q: slot: %w", s, err)
	}
	a := AllocationID{Claim: c, Slot: Slot(n)}
	if a.String() != s {
		return AllocationID{}, fmt.Errorf("allocation %q: write %q", s, a)
	}
	return a, nil
}
