package placement

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"
)

// Catalog is what this peer knows of the replicated intents and keeper lists.
// It holds what the tables said last and decides nothing.
type Catalog struct {
	verify  func(Signed) error
	byKey   map[AppKey][]version
	keyOf   map[UID]AppKey
	keepers map[UID]keeperList
	status  map[UID]map[PeerID]told
	pages   map[string]*Summaries // by the key that they have in the table
	outlast map[AppKey]bool       // the table has records that a person decided against
	opened  opened

	// follows says whether a list may count after the known one; nil lets any.
	follows    func(known, k keeperList) bool
	gone       func(PeerID) bool  // says who never comes back
	highest    func(UID) uint64   // the highest number of a term that is known; nil believes any
	unfollowed map[UID][][]byte   // siblings of which one may count later
	next       map[UID]keeperList // that keepers said is to follow
}

// version is one intent with the bytes that were signed.
type version struct {
	signed Signed
	intent Intent
	specs  map[string]uint64 // see spec
	raw    []byte            // as the table has it; nil when it came another way
}

// spec is the SpecHash of a component.
func (v *version) spec(name string) uint64 {
	if hash, ok := v.specs[name]; ok {
		return hash
	}
	return SpecHash(v.intent.App.Components[name]) // of an edit that was not read, or has no such component
}

type keeperList struct {
	signed Signed
	list   Keepers
}

func newCatalog(verify func(Signed) error) *Catalog {
	return &Catalog{
		verify: verify, byKey: map[AppKey][]version{}, keyOf: map[UID]AppKey{},
		keepers: map[UID]keeperList{}, status: map[UID]map[PeerID]told{}, pages: map[string]*Summaries{}, unfollowed: map[UID][][]byte{}, next: map[UID]keeperList{},
		outlast: map[AppKey]bool{},
	}
}

// readSigned opens a signed record of another peer into v.
func readSigned(verify func(Signed) error, s Signed, v any) error {
	if verify != nil {
		if err := verify(s); err != nil {
			return fmt.Errorf("record of %s: %w", s.By, err)
		}
	}
	return Decode(s.Body, v)
}

func (c *Catalog) readIntent(s Signed) (version, error) {
	v := version{signed: s}
	if c.verify != nil {
		if err := c.verify(s); err != nil {
			return v, fmt.Errorf("record of %s: %w", s.By, err)
		}
	}
	e, ok := c.opened.get(s)
	if !ok {
		if err := Decode(s.Body, &v.intent); err != nil {
			return v, err
		}
		if err := v.intent.check(s); err != nil {
			return v, err
		}
		e = c.opened.add(s, v.intent)
	}
	v.intent, v.specs = e.intent, e.specs
	c.boundTerm(&v.intent)
	return v, nil
}

// boundTerm takes away a term that is out of reach of all that are known: no keepers
// have granted it, and who says so would come before all that they decide. What is
// left is an edit as of a release that did not say its term.
func (c *Catalog) boundTerm(i *Intent) {
	if i.Term > termJumpMax && c.highest != nil && !(Term{Number: i.Term}).within(c.highest(i.UID)) {
		i.Term = 0
	}
}

func (c *Catalog) readKeepers(s Signed) (keeperList, error) {
	k := keeperList{signed: s}
	err := readSigned(c.verify, s, &k.list)
	if err == nil {
		err = k.list.check(s)
	}
	return k, err
}

// setIntents takes all live siblings of a key and returns the apps it touches,
// sorted. Siblings that cannot be read are left out: they are relayed by the
// table all the same.
func (c *Catalog) setIntents(key AppKey, siblings [][]byte) []UID {
	touched := map[UID]bool{}
	for _, v := range c.byKey[key] {
		touched[v.intent.UID] = true
	}
	var versions []version
	// What was told of and not read would be removed by whatever is published next.
	for _, raw := range siblings[:min(len(siblings), listedMax)] {
		var s Signed
		if Decode(raw, &s) != nil {
			continue
		}
		// A UID belongs to one name: another name's records can't end it.
		if v, err := c.readIntent(s); err == nil && v.intent.Key == key && (!c.has(v.intent.UID) || c.keyOf[v.intent.UID] == key) {
			v.raw = raw
			versions = append(versions, v)
			touched[v.intent.UID] = true
			c.keyOf[v.intent.UID] = key
			c.firstKeepers(&v.intent)
			for _, e := range v.intent.Ends { // which may be kept here without being listed
				touched[e.UID] = true
			}
		}
	}
	all := len(versions)
	versions = decided(versions)
	c.byKey[key], c.outlast[key] = versions, len(versions) < all
	if len(versions) == all {
		delete(c.outlast, key)
	}
	if len(versions) == 0 {
		delete(c.byKey, key)
	}
	for uid := range touched {
		if c.keyOf[uid] == key && !slices.ContainsFunc(versions, func(v version) bool { return v.intent.UID == uid }) {
			delete(c.keyOf, uid)
		}
	}
	return sortedKeys(touched)
}

// firstKeepers takes the list that an app was made with, where no other is known
// and who made it is gone for good: its record may have been lost with them.
func (c *Catalog) firstKeepers(i *Intent) bool {
	if _, known := c.keepers[i.UID]; known || i.Keepers == nil || c.gone == nil || !c.gone(i.Keepers.By) {
		return false
	}
	k, err := c.readKeepers(*i.Keepers)
	if err != nil || k.list.UID != i.UID || k.list.Epoch != 1 {
		return false
	}
	c.keepers[i.UID] = k
	return true
}

// adopt looks once more at apps of which no keepers are known, and tells of each
// that it finds some for.
func (c *Catalog) adopt(found func(UID, keeperList)) {
	var orphans []UID
	for uid := range c.keyOf {
		if _, known := c.keepers[uid]; !known {
			orphans = append(orphans, uid)
		}
	}
	slices.Sort(orphans)
	for _, uid := range orphans {
		for _, v := range c.versions(uid) {
			if c.firstKeepers(&v.intent) {
				found(uid, c.keepers[uid])
			}
		}
	}
}

// setKeepers takes the siblings of a keeper list. Of those that may follow what
// is known the last counts; one that may not yet is looked at again.
func (c *Catalog) setKeepers(uid UID, siblings [][]byte) {
	if delete(c.unfollowed, uid); len(siblings) == 0 {
		delete(c.keepers, uid)
		delete(c.next, uid)
		return
	}
	siblings = siblings[:min(len(siblings), listedMax)]
	for _, raw := range siblings {
		var s Signed
		if Decode(raw, &s) != nil {
			continue
		}
		k, err := c.readKeepers(s)
		known, had := c.keepers[uid]
		if err != nil || k.list.UID != uid || had && !k.after(known) {
			continue
		}
		if c.follows == nil || c.follows(known, k) {
			c.keepers[uid] = k
		} else {
			c.unfollowed[uid] = siblings
		}
	}
}

// again looks once more at lists that did not count, and tells of each.
func (c *Catalog) again(changed func(UID)) {
	for _, uid := range sortedKeys(c.unfollowed) {
		c.setKeepers(uid, c.unfollowed[uid])
		changed(uid)
	}
}

// has says whether the catalog lists an app.
func (c *Catalog) has(uid UID) bool {
	_, ok := c.keyOf[uid]
	return ok
}

// lists says whether the table has a version of an app.
func (c *Catalog) lists(uid UID, v Version) bool {
	return slices.ContainsFunc(c.byKey[c.keyOf[uid]], func(l version) bool { return l.intent.UID == uid && l.intent.Version == v })
}

// versions is the siblings of an app, as the table has them.
func (c *Catalog) versions(uid UID) []version {
	var out []version
	for _, v := range c.byKey[c.keyOf[uid]] {
		if v.intent.UID == uid {
			out = append(out, v)
		}
	}
	return out
}

// standing is the versions that none that stands supersedes, each once, newest
// first. More than one is a conflict. One that was itself superseded takes
// nobody with it: what replaced it had seen all that it replaced, or had not
// seen it, since it came to nothing.
func standing(all []version) []version {
	left := slices.Clone(all)
	slices.SortStableFunc(left, func(a, b version) int { return b.intent.Version.Compare(a.intent.Version) })
	left = slices.CompactFunc(left, func(a, b version) bool { return a.intent.Version == b.intent.Version })
	var out []version
	for len(left) > 0 {
		// What supersedes is newer, but where a later term was won by a slower clock.
		n := slices.IndexFunc(left, func(v version) bool {
			return !slices.ContainsFunc(left, func(o version) bool { return o.intent.supersedes(&v.intent) })
		})
		v := left[max(n, 0)]
		out = append(out, v)
		left = slices.DeleteFunc(left, func(o version) bool {
			return o.intent.Version == v.intent.Version || v.intent.supersedes(&o.intent)
		})
	}
	slices.SortStableFunc(out, func(a, b version) int { return b.intent.Version.Compare(a.intent.Version) })
	return out
}

// winner is the version that lost slots follow, by a rule that is the same
// everywhere: the newest, but an edit beats a concurrent removal, and one that
// was made by a clock too far ahead loses to any other.
func winner(versions []version, wall time.Time) *version {
	var best *version
	rank := func(v *version) int { return 2*btoi(v.intent.Removed) + btoi(v.intent.Version.ahead(wall)) }
	for i := range versions {
		if v := &versions[i]; best == nil || rank(v) < rank(best) {
			best = v
		}
	}
	return best
}

// etag names all sides of what stands.
func etag(versions []version) string {
	if len(versions) == 1 {
		return versions[0].intent.Version.String()
	}
	h := sha256.New()
	for _, v := range versions {
		fmt.Fprintln(h, v.intent.Version)
	}
	return hex.EncodeToString(h.Sum(nil)[:12])
}
