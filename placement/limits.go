package placement

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// This file is what an admitted peer may send at most. Admission says who a
// peer is, not that it is right or well: what it says of amounts, of times and
// of names is bounded here, before anything remembers it or counts with it.

// Bounds of what records and messages of other peers hold.
const (
	idBytesMax     = 64 // of a peer's id and of a UID
	nameBytesMax   = 63
	keepersMax     = 16
	holdersMax     = 1 << 14
	siblingsMax    = 16      // versions of one app that a keeper holds, and that one message brings
	listedMax      = 64      // that a table lists under one key: all that it holds
	claimsMax      = 1 << 14 // for each host of a peer,
	peerClaimsMax  = 1 << 17 // and at most
	appClaimsMax   = 1 << 11 // of one app at one peer
	slotsHeldMax   = 1 << 14 // at one host; see peerSlotsMax
	artifactsMax   = 256
	textMax        = 4096
	hostBytesMax   = 128 // of a host's id
	reportBytesMax = 2 << 20

	// intentBytesMax is below what a replicated table takes for one value, and
	// siblingsMax of them fit into one message.
	intentBytesMax = 192 << 10

	// millisMax bounds clocks: 2^53 is the year 287396, and exact in JSON.
	millisMax = 1 << 53

	// termJumpMax is how far one message may raise the number of a term. Terms
	// rise by one, so that nobody who lies uses the numbers up.
	termJumpMax = 1 << 20

	// epochJumpMax is how many lists of keepers a peer may have missed.
	epochJumpMax = 1 << 16

	digestLabelsMax = 64
	digestShapesMax = 16
	priceMax        = 1e9
)

var errMessage = errors.New("broken message")

func within(n, limit int, what string) error {
	if n > limit {
		return fmt.Errorf("%w: %d %s: at most %d", errMessage, n, what, limit)
	}
	return nil
}

// UnmarshalCBOR reads a peer's id, which is never long.
func (id *PeerID) UnmarshalCBOR(data []byte) error { return unmarshalID((*string)(id), data) }

// UnmarshalCBOR reads a UID, which is never long.
func (id *UID) UnmarshalCBOR(data []byte) error { return unmarshalID((*string)(id), data) }

func unmarshalID(id *string, data []byte) error {
	if err := decMode.Unmarshal(data, id); err != nil {
		return err
	}
	return within(len(*id), idBytesMax, "bytes of an id")
}

// check holds a message against the bounds; size is that of its encoding.
func (m *message) check(size int) error {
	switch {
	case m.Forward != nil:
		return errors.Join(within(len(m.Forward.Artifacts), artifactsMax, "artifacts"),
			within(len(m.Forward.Key.Namespace), nameBytesMax, "bytes of a name"),
			within(len(m.Forward.Key.App), keyBytesMax, "bytes of a name"),
			within(len(m.Forward.IdemKey)+len(m.Forward.IfMatch), textMax, "bytes of text"))
	case m.Forwarded != nil:
		return errors.Join(within(len(m.Forwarded.Peers), keepersMax+1, "peers"), within(len(m.Forwarded.Notes), ComponentsMax, "notes"))
	case m.Store != nil:
		return errors.Join(within(len(m.Store.Intents), siblingsMax, "intents"),
			within(len(m.Store.Holders), holdersMax, "holders"), within(len(m.Store.From), keepersMax, "sources"))
	case m.Stored != nil:
		return within(len(m.Stored.Versions), siblingsMax, "versions")
	case m.Raised != nil:
		return errors.Join(within(len(m.Raised.Holders), holdersMax, "holders"),
			within(len(m.Raised.Intents), siblingsMax, "intents"), m.Raised.Past.check())
	case m.Chronicle != nil:
		return m.Chronicle.Past.check()
	case m.Hold != nil:
		return within(len(m.Hold.Holders), holdersMax, "holders")
	case m.Report != nil:
		return errors.Join(within(size, reportBytesMax, "bytes of a report"), within(len(m.Report.Claims), appClaimsMax, "claims"),
			within(max(len(m.Report.Failed)+len(m.Report.FailedSpecs), 2*len(m.Report.Kept), 2*len(m.Report.FailedWhy), 2*len(m.Report.FailedFinal)), 2*ComponentsMax, "components"), within(len(m.Report.Why)+m.Report.longest(), textMax, "bytes of text"))
	case m.Ask != nil:
		return within(len(m.Ask.Keepers), keepersMax, "keepers")
	case m.Offer != nil:
		return within(len(m.Offer.Reason), textMax, "bytes of text")
	case m.Release != nil:
		return within(len(m.Release.Reason), textMax, "bytes of text")
	case m.Lease != nil:
		return within(len(m.Lease.Items), leaseItemsMax, "leases")
	case m.Leased != nil:
		return within(len(m.Leased.Items), leaseItemsMax, "leases")
	case m.Drop != nil, m.Raise != nil, m.Census != nil, m.Held != nil, m.Commit != nil, m.Committed != nil, m.Pin != nil, m.Pinned != nil, m.Chronicled != nil:
		return nil
	}
	return fmt.Errorf("%w: no kind that this peer knows", errMessage)
}

// check holds an intent against the bounds of what a person may submit, but for
// what only a newer release has: that is kept, and left to peers that run it.
func (i *Intent) check(s Signed) error {
	switch {
	case len(s.Body) > intentBytesMax:
		return fmt.Errorf("intent: %w: %d bytes, at most %d", ErrInvalid, len(s.Body), intentBytesMax)
	case i.UID == "" || i.Key != i.App.Key():
		return fmt.Errorf("intent: %w: it names no app, or two", ErrInvalid)
	case i.Version.Peer != s.By:
		return fmt.Errorf("intent: %w: version %v is not its writer's", ErrInvalid, i.Version)
	case i.Version.Millis < 0 || i.Version.Millis > millisMax:
		return fmt.Errorf("intent: %w: version %v has no time", ErrInvalid, i.Version)
	case len(i.Over) > ancestorsMax || len(i.Past) > pastMax || len(i.Before) > ComponentsMax || len(i.Changes) > ComponentsMax || len(i.Request) > textMax:
		return fmt.Errorf("intent: %w: too long a past", ErrInvalid)
	case len(i.Restates) > editsOfMax || len(i.Ends) > endsMax || slices.ContainsFunc(i.Ends, func(e End) bool { return len(e.Over) > ancestorsMax }):
		return fmt.Errorf("intent: %w: it ends or restates too much", ErrInvalid)
	case len(i.Artifacts) > artifactsMax:
		return fmt.Errorf("intent: %w: %d artifacts, at most %d", ErrInvalid, len(i.Artifacts), artifactsMax)
	}
	for _, a := range i.Artifacts {
		if !isDigest(a.Digest) || a.Size < 0 {
			return fmt.Errorf("intent: %w: artifact %.80q of %d bytes", ErrInvalid, a.Digest, a.Size)
		}
	}
	if i.App.recorded() && !i.Removed {
		return errors.Join(i.App.bounded(), i.App.checkTree(i.Artifacts))
	}
	return i.App.bounded()
}

// check holds a keeper list against what can be known of it alone: the first is
// made with its app, by the first of it; a later one by whoever had the term, or
// by whoever a person asked to force it. Peer.follows looks at the rest.
func (k *Keepers) check(s Signed) error {
	if k.UID == "" || k.Epoch == 0 || len(k.Peers) == 0 || len(k.Peers) > keepersMax {
		return fmt.Errorf("keepers: %w", ErrInvalid)
	}
	if by := s.By; k.Epoch == 1 && (k.Forced || k.Peers[0].Peer != by) || k.Epoch > 1 && !k.Forced && k.Term.Peer != by {
		return fmt.Errorf("keepers: %w: epoch %d is not for %.80q to make", ErrInvalid, k.Epoch, by)
	}
	for i, ref := range k.Peers {
		if ref.Peer == "" ||
			slices.ContainsFunc(k.Peers[:i], func(o PeerRef) bool { return o.Peer == ref.Peer }) {
			return fmt.Errorf("keepers: %w: peer %.80q", ErrInvalid, ref.Peer)
		}
	}
	return nil
}

// bounded is a digest whose numbers can be counted with and whose labels are
// not a burden, whatever its peer says: it has no more room than it has.
func (d Digest) bounded() Digest {
	d.Capacity = least(d.Capacity, capacityMax)
	d.Free = least(d.Free, d.Capacity)
	d.Largest = least(d.Largest, d.Free)
	d.Fits = boundedFits(d.Fits, d.Free)
	d.Hosts, d.Pools = max(0, min(d.Hosts, hostsMax)), boundedPools(d.Pools)
	d.Unsaid = boundedUnsaid(d.Unsaid)
	number := func(v, most float64) float64 {
		if math.IsNaN(v) {
			return 0
		}
		return max(-most, min(v, most))
	}
	d.Price = max(0, number(d.Price, priceMax))
	d.Lat, d.Lon = number(d.Lat, 90), number(d.Lon, 180)
	d.Name, d.Site, d.Version, d.Full = clip(d.Name), SiteID(clip(string(d.Site))), clip(d.Version), clip(d.Full)
	d.Drivers, d.Arch = d.Drivers[:min(len(d.Drivers), digestShapesMax)], d.Arch[:min(len(d.Arch), digestShapesMax)]
	d.GPUs = boundedGPUs(d.GPUs)
	d.Fences = d.Fences[:min(len(d.Fences), digestShapesMax)]
	d.Lacks = shortLacks(d.Lacks)
	labels := map[string]string{}
	for _, name := range sortedKeys(d.Labels) {
		if value := d.Labels[name]; len(labels) < digestLabelsMax && name != "" && len(name) <= textMax/16 && len(value) <= textMax/16 {
			labels[name] = value
		}
	}
	d.Labels = labels
	return d
}

// capacityMax is so many of the largest slot: no peer has more.
var capacityMax = Resources{CPU: cpuMax << 10, Memory: bytesMax << 10, Disk: bytesMax << 10}

// least is the smaller of each resource, and nothing where that is below nothing.
func least(a, b Resources) Resources {
	return Resources{CPU: max(0, min(a.CPU, b.CPU)), Memory: max(0, min(a.Memory, b.Memory)), Disk: max(0, min(a.Disk, b.Disk))}
}

// boundedFits is what a digest may say of shapes.
func boundedFits(fits []ShapeFit, free Resources) []ShapeFit {
	fits = slices.Clone(fits[:min(len(fits), digestShapesMax)])
	for i := range fits {
		fits[i].Count = max(0, min(fits[i].Count, free.Fits(fits[i].Shape)))
	}
	return fits
}

// ahead says whether a version was made by a clock too far ahead of this one's
// to be followed.
func (v Version) ahead(wall time.Time) bool { return v.Millis > wall.Add(clockAheadMax).UnixMilli() }

// lackMax bounds, in bytes, why a driver is not offered, as digests say it.
const lackMax = 100

// shortLacks is why drivers are not offered, in a digest's bounds.
func shortLacks(lacks map[string]string) map[string]string {
	var out map[string]string
	for _, name := range sortedKeys(lacks) {
		if len(out) >= digestShapesMax || name == "" || len(name) > textMax/16 {
			continue
		}
		if out == nil {
			out = map[string]string{}
		}
		why := lacks[name]
		if len(why) > lackMax {
			why = strings.ToValidUTF8(why[:lackMax-len("…")], "") + "…"
		}
		out[name] = why
	}
	return out
}
