package placement

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// Signed is a record as it is stored, relayed and shown to others: the bytes
// that its writer signed, never re-encoded by anyone else, so that fields this
// version does not know survive.
type Signed struct {
	Body []byte `json:"body"`
	By   PeerID `json:"by"`
	Sig  []byte `json:"sig"`
}

// Intent is one version of an app as a person wants it.
type Intent struct {
	UID       UID        `json:"uid"`
	Key       AppKey     `json:"key"`
	Version   Version    `json:"version"`
	Created   int64      `json:"created"` // Unix milliseconds of the first version
	App       App        `json:"app"`
	Artifacts []Artifact `json:"artifacts,omitempty"`
	Removed   bool       `json:"removed,omitempty"` // the app is to go; its work stops
	MinSchema int        `json:"min_schema"`        // a peer whose schema is lower neither edits nor stewards it
	Request   string     `json:"request,omitempty"` // the Idempotency-Key of this edit
	Past      []Made     `json:"past,omitempty"`    // those of the edits before it, newest first

	// Over is what this edit replaced, of each writer the newest, and Base the
	// newest version under a term that its writer knew: what tells a sibling
	// from an ancestor (supersedes).
	Over []Ancestor `json:"over,omitempty"`
	Base Version    `json:"base,omitzero"`
	// Term is the number of the term that the edit was made under, or that Base was:
	// what was left over from an earlier term comes before what a later one decided,
	// whatever the clocks said. Older releases did not say.
	Term uint64 `json:"term,omitempty"`
	// Incarnation is that of the store of the peer in Version.
	Incarnation Incarnation `json:"incarnation"`
	// Changes names, of components that this edit left as they were, the edit
	// that changed each last (merge.go).
	Changes map[string]Change `json:"changes,omitempty"`
	// Restates names the edits that people made and that this writes once more;
	// without any it is one itself. Ends is what a person decided against
	// (ends.go).
	Restates []Change `json:"restates,omitempty"`
	Ends     []End    `json:"ends,omitempty"`
	// Alone says that the edit was accepted below a majority of the keepers.
	// What it adds belongs to the side that accepted it: the slots past those
	// that Before had for a component.
	Alone  bool           `json:"alone,omitempty"`
	Before map[string]int `json:"before,omitempty"`
	// Keepers is the list that the app was made with, until another counts: whoever
	// hears of an app also hears who keeps it.
	Keepers *Signed `json:"keepers,omitempty"`
}

// Ancestor is a version that another replaced. A writer knows its own edits
// in one life of its store, so each of its versions stands for the earlier
// ones: Over is a version vector.
type Ancestor struct {
	Version     Version     `json:"version"`
	Incarnation Incarnation `json:"incarnation"`
}

// Made is an edit that was made, for whoever sends it again.
type Made struct {
	Request string  `json:"request"` // requestHash of its Idempotency-Key
	Version Version `json:"version"`
	Own     bool    `json:"own,omitempty"` // the key is a peer's, since the person gave none
}

// pastMax bounds how many edits are known again: a retry comes soon. pastOwnMax is how
// many of them peers gave keys to, in case one is sent on: they leave room for those
// that people may send again.
const (
	pastMax    = 16
	pastOwnMax = pastMax / 2
)

// boundPast is the newest of edits, newest first.
func boundPast(all []Made) []Made {
	own, out := 0, make([]Made, 0, min(len(all), pastMax))
	for _, m := range all {
		if own += btoi(m.Own); len(out) < pastMax && (!m.Own || own <= pastOwnMax) {
			out = append(out, m)
		}
	}
	return out
}

func requestHash(key string) string {
	h := sha256.Sum256([]byte(key))
	return hex.EncodeToString(h[:12])
}

// made is the version that an edit with this Idempotency-Key became, if it is
// this version or one not long before.
func (i *Intent) made(key string) (Version, bool) {
	h := requestHash(key)
	for _, m := range i.Past { // first: what stands may be that edit, written again
		if m.Request == h {
			return m.Version, true
		}
	}
	return i.Version, key != "" && key == i.Request
}

// past is what an edit over this version knows of those before it.
func (i *Intent) past() []Made {
	out := i.Past
	h := requestHash(i.Request)
	again := slices.ContainsFunc(out, func(m Made) bool { return m.Request == h }) // this version is that edit, written again
	if i.Request != "" && !again {
		out = append([]Made{{h, i.Version, strings.HasPrefix(i.Request, reqPrefix)}}, out...)
	}
	return boundPast(out)
}

// ancestorsMax bounds a version vector. Past it the oldest writers are dropped,
// and what they wrote below a majority could show as a conflict again.
const ancestorsMax = 64

// ancestors is what an edit over these versions replaces.
func ancestors(versions []version) []Ancestor {
	var all []Ancestor
	enter := func(a Ancestor) {
		for i := range all {
			if all[i].Version.Peer == a.Version.Peer && all[i].Incarnation == a.Incarnation {
				if a.Version.Compare(all[i].Version) > 0 {
					all[i] = a
				}
				return
			}
		}
		all = append(all, a)
	}
	for _, v := range versions {
		enter(Ancestor{v.intent.Version, v.intent.Incarnation})
		for _, a := range v.intent.Over {
			enter(a)
		}
	}
	slices.SortFunc(all, func(a, b Ancestor) int { return b.Version.Compare(a.Version) })
	return all[:min(len(all), ancestorsMax)]
}

// compareUnder orders what was made under terms: by those, and of one by the clock.
// Of two clocks the one that won a later term may be the slower.
func compareUnder(term uint64, v Version, oTerm uint64, o Version) int {
	return cmp.Or(cmp.Compare(term, oTerm), v.Compare(o))
}

// supersedes says whether this version makes o an ancestor of it. Versions
// made under a term are compare-and-set one after another, and whoever raised a
// term knew all that was decided under those before it; only those accepted below
// a majority can stand side by side.
func (i *Intent) supersedes(o *Intent) bool {
	if i.Version == o.Version || i.UID != o.UID {
		return false
	}
	if i.over(o) {
		return true
	}
	if o.Alone || o.over(i) {
		return false
	}
	if i.Term != o.Term && i.Term > 0 && o.Term > 0 {
		return i.Term > o.Term
	}
	newest := i.Version
	if i.Alone {
		newest = i.Base
	}
	return o.Version.Compare(newest) <= 0
}

// over says whether this version names o, or a later one of its writer, among what
// it replaced.
func (i *Intent) over(o *Intent) bool {
	return slices.ContainsFunc(i.Over, func(a Ancestor) bool {
		return a.Version.Peer == o.Version.Peer && a.Incarnation == o.Incarnation && o.Version.Compare(a.Version) <= 0
	})
}

// Schema is the newest schema of intents that this build understands.
const Schema = 4

// schemaExclusive is the first schema with exclusive components.
const schemaExclusive = 2

// schemaVolumes is the first schema with volumes and architectures.
const schemaVolumes = 3

// schemaRecorded is the first schema with names of images, policies of
// namespaces and artifacts that are trees.
const schemaRecorded = 4

// Artifact is a file that the mesh stores for an app, or with Tree a manifest
// and all that it references: whoever stores it stores all of that, and Size is
// of all of that together.
type Artifact struct {
	Digest string `json:"digest"`
	Size   int64  `json:"size"`
	Tree   bool   `json:"tree,omitempty"`
	// Arch leaves out of a tree what an index has for other architectures; empty
	// for all of it.
	Arch string `json:"arch,omitempty"`
}

// Keepers is the recorded, ordered list of the peers that hold an app's
// intent before it is acknowledged and that vote on its term. epochs.go says
// how one list follows another.
type Keepers struct {
	UID   UID       `json:"uid"`
	Epoch uint64    `json:"epoch"`         // 1 for the first; each follows the one before it
	Peers []PeerRef `json:"peers"`         // the accepting peer first
	Term  Term      `json:"term,omitzero"` // that it was proposed under
	// Forced says that a person wanted it: no majority of the list before it
	// agreed, since none was left.
	Forced bool `json:"forced,omitempty"`
	// Free says that nobody but who made this list has proposed it.
	Free bool `json:"free,omitempty"`
}

// Majority is the number of keepers that decides.
func (k Keepers) Majority() int { return len(k.Peers)/2 + 1 }

// Host is something that runs work and belongs to this peer. In a mesh whose
// peers have no workers it is the peer's own machine.
type Host struct {
	ID       string            `json:"id"`
	Labels   map[string]string `json:"labels,omitempty"`
	Arch     string            `json:"arch"` // GOARCH
	Drivers  []string          `json:"drivers"`
	Fences   []string          `json:"fences,omitempty"` // of Drivers, those that can end work at a deadline without the daemon
	Lacks    map[string]string `json:"lacks,omitempty"`  // drivers that can't run anything, and why
	Capacity Resources         `json:"capacity"`
	GPUs     []Device          `json:"gpus,omitempty"`
	Cordoned bool              `json:"cordoned,omitempty"`
	Full     string            `json:"full,omitempty"` // why it takes no new work for now, or ""
}

// Digest is a peer's summary of what it could still take. It is a hint: only
// the ledger decides.
type Digest struct {
	Peer     PeerRef           `json:"peer"`
	Name     string            `json:"name"`
	Site     SiteID            `json:"site"`
	Labels   map[string]string `json:"labels,omitempty"` // of peer and site; site, region, peer, arch, os among them
	Lat      float64           `json:"lat,omitempty"`
	Lon      float64           `json:"lon,omitempty"`
	Drivers  []string          `json:"drivers"`
	Fences   []string          `json:"fences,omitempty"` // of Drivers, those that may run exclusive slots
	Lacks    map[string]string `json:"lacks,omitempty"`  // drivers that are not offered, and why, in short
	Arch     []string          `json:"arch"`
	Capacity Resources         `json:"capacity"`
	Free     Resources         `json:"free"`
	Largest  Resources         `json:"largest"` // the largest free piece on one host
	Fits     []ShapeFit        `json:"fits,omitempty"`
	GPUs     []FreeGPU         `json:"gpus,omitempty"` // what is left of each device
	Price    float64           `json:"price"`          // per core-hour, in the mesh's unit of account
	Slots    int               `json:"slots"`          // held now
	Version  string            `json:"version"`
	Sequence uint64            `json:"sequence"`
	Full     string            `json:"full,omitempty"` // why it takes no new work, or ""
	// Hosts is how many hosts a peer has that has several; then what it has and has
	// free are sums over them. Pools are hosts that are alike, where not all are, or
	// where they have GPUs; the last of many is of hosts that are not. Unsaid are labels
	// that are not told where Pools do not, for they differ too much from host to host
	// or had no room; "*" is all that Labels do not tell either.
	Hosts  int      `json:"hosts,omitempty"`
	Pools  []Pool   `json:"pools,omitempty"`
	Unsaid []string `json:"unsaid,omitempty"`
}

// Pool is hosts of one peer that are alike: of equal labels (their peer's, and
// their own, which outrank those), architecture, drivers and models of GPUs. The last
// of many may be Mixed, of hosts of all sorts: it has what any of them has, and does
// not say the architecture, where that differs, and those labels that are Unsaid. A
// model of no name is all models that it has no room for.
type Pool struct {
	Mixed    bool              `json:"mixed,omitempty"`
	Hosts    int               `json:"hosts"`
	Labels   map[string]string `json:"labels,omitempty"`
	Unsaid   []string          `json:"unsaid,omitempty"`
	Arch     string            `json:"arch,omitempty"`
	Drivers  []string          `json:"drivers"`
	Fences   []string          `json:"fences,omitempty"`
	Capacity Resources         `json:"capacity"`
	Free     Resources         `json:"free"`
	Largest  Resources         `json:"largest"` // of each resource what is free on one host
	Fits     []ShapeFit        `json:"fits,omitempty"`
	GPUs     []PoolGPU         `json:"gpus,omitempty"`
}

// PoolGPU is what is left of the devices of one model.
type PoolGPU struct {
	Model   string   `json:"model"`
	Devices int      `json:"devices"`
	Whole   int      `json:"whole"` // of them, those that are wholly free
	Most    int      `json:"most"`  // wholly free on one host
	Free    GPUShare `json:"free"`  // the sum
	Share   GPUShare `json:"share"` // most that is free of one device
}

// ShapeFit says how many more slots of a common shape fit.
type ShapeFit struct {
	Shape Resources `json:"shape"`
	Count int       `json:"count"`
}

// Candidate is a peer as a planner sees it.
type Candidate struct {
	Digest Digest
	Age    int64 // milliseconds for which the peer may have had another digest
	RTT    int64 // microseconds from the planner, -1 when unknown
	Alive  bool
}
