package placement

import (
	"slices"
	"strconv"
	"strings"
	"time"
	"unique"
)

// This file is what a peer tells everyone of what it runs: counts for each app, on
// pages of many apps. A record of each would cost a signature, a dot, a check and a
// write at every peer of the mesh, which is more than what is in it.

const (
	pageApps    = 32           // of one page
	pageAppsMax = 4 * pageApps // that others take
	pageBytes   = 8 << 10      // past which a page takes no further app
	pageGrown   = 64 << 10     // past which it is divided: its apps grew
)

// Summary is what a peer tells everyone of one app: counts, not slots.
type Summary struct {
	UID    UID         `json:"uid"`
	Counts []SlotCount `json:"counts,omitempty"` // in order of component and state
	// Slots is which slots a component has here, where its disconnect policy makes
	// others wait for them: whoever drives the app later must know.
	Slots map[string]Slots `json:"slots,omitempty"`
	// Kept is which slots of a component have their volumes here.
	Kept map[string]Slots `json:"kept,omitempty"`
}

// SlotCount is how many slots of a component are in a state.
type SlotCount struct {
	Component string     `json:"component"`
	State     AllocState `json:"state"`
	N         int        `json:"n"`
}

// count is how many slots of a component are in a state.
func (s *Summary) count(component string, state AllocState) int {
	for _, c := range s.Counts {
		if c.Component == component && c.State == state {
			return c.N
		}
	}
	return 0
}

// Summaries is a page: what a peer told of some of its apps at one time.
type Summaries struct {
	Peer PeerRef   `json:"peer"`
	Site SiteID    `json:"site"`
	AsOf int64     `json:"as_of"` // Unix milliseconds
	Apps []Summary `json:"apps"`
}

// told is a summary, and the page that it is on.
type told struct {
	*Summary
	*Summaries
}

// StatusOf is the peer that a key of TableStatus belongs to: nobody else writes it.
func StatusOf(key string) PeerID {
	_, peer, _ := strings.Cut(key, "/")
	return PeerID(peer)
}

// setStatus takes a page.
func (c *Catalog) setStatus(key string, siblings [][]byte) {
	peer := StatusOf(key)
	var page *Summaries
	for _, raw := range siblings[:min(len(siblings), siblingsMax)] {
		var s Signed
		next := &Summaries{}
		if Decode(raw, &s) != nil || s.By != peer || readSigned(c.verify, s, next) != nil {
			continue
		}
		if next.Peer.Peer != peer || len(next.Apps) > pageAppsMax {
			continue // a peer speaks for itself only
		}
		if page == nil || next.AsOf > page.AsOf {
			page = next
		}
	}
	c.dropPage(key)
	if page == nil {
		return
	}
	c.pages[key] = page
	for i := range page.Apps {
		s := &page.Apps[i]
		s.share()
		if at, ok := c.status[s.UID][peer]; ok && at.AsOf > page.AsOf {
			continue
		}
		if c.status[s.UID] == nil {
			c.status[s.UID] = map[PeerID]told{}
		}
		c.status[s.UID][peer] = told{s, page}
	}
}

func (c *Catalog) dropPage(key string) {
	page := c.pages[key]
	if page == nil {
		return
	}
	delete(c.pages, key)
	for i := range page.Apps {
		uid := page.Apps[i].UID
		if c.status[uid][page.Peer.Peer].Summaries != page {
			continue
		}
		if delete(c.status[uid], page.Peer.Peer); len(c.status[uid]) == 0 {
			delete(c.status, uid)
		}
	}
}

// share keeps one copy of each text that all summaries have in common: there are
// as many as apps times peers.
func (s *Summary) share() {
	s.UID = unique.Make(s.UID).Value()
	for i := range s.Counts {
		c := &s.Counts[i]
		c.Component, c.State = unique.Make(c.Component).Value(), unique.Make(c.State).Value()
	}
}

// pages are those that this peer tells of itself.
type pages struct {
	of   map[UID]string // the page that an app is on
	own  map[string]*ownPage
	open string // the one that takes the next app
	last uint64 // number of one

	dropping bool // those of an earlier life are being taken away
}

type ownPage struct {
	apps map[UID]bool
	told string        // what was published last, without its time
	next time.Duration // when it may be published again
}

func newPages() pages { return pages{of: map[UID]string{}, own: map[string]*ownPage{}} }

// pageKey is the key of a page of this life of the store.
func (p *Peer) pageKey(n uint64) string {
	return p.pagePrefix() + strconv.FormatUint(n, 36) + "/" + string(p.cfg.Self.Peer)
}

func (p *Peer) pagePrefix() string {
	return strconv.FormatUint(uint64(p.cfg.Self.Incarnation), 36) + "."
}

// beginPages goes on with the pages that the table has of this life of the store.
func (p *Peer) beginPages() {
	for _, key := range sortedKeys(p.catalog.pages) {
		number, ours := strings.CutPrefix(key, p.pagePrefix())
		if !ours || StatusOf(key) != p.cfg.Self.Peer {
			continue
		}
		number, _, _ = strings.Cut(number, "/")
		if n, err := strconv.ParseUint(number, 36, 64); err == nil {
			p.pages.last = max(p.pages.last, n)
		}
		pg := &ownPage{apps: map[UID]bool{}}
		p.pages.own[key] = pg
		for _, s := range p.catalog.pages[key].Apps {
			if p.pages.of[s.UID] == "" {
				p.pages.of[s.UID], pg.apps[s.UID] = key, true
			}
		}
	}
}

// touchPages has this peer tell what is so now, whatever it told before it started.
func (p *Peer) touchPages() {
	for _, key := range sortedKeys(p.pages.own) {
		p.timers.before(timerSummary, key, p.out.now.Mono+p.tune.ReportDelay)
	}
	p.dropOldPages()
}

// dropOldPages takes away what this peer told in an earlier life of its store, once
// it knows again what it runs.
func (p *Peer) dropOldPages() {
	if p.counters.boot == 0 || p.pages.dropping || !p.ledger.allListed() {
		return
	}
	p.pages.dropping = true // what is published comes back here
	for _, key := range sortedKeys(p.catalog.pages) {
		if StatusOf(key) == p.cfg.Self.Peer && !strings.HasPrefix(key, p.pagePrefix()) {
			p.publish(Publish{Table: TableStatus, Key: key})
		}
	}
	p.pages.dropping = false
}

// touchSummary has this peer tell of an app anew, if it has anything of it or said so.
func (p *Peer) touchSummary(uid UID) {
	key := p.pages.of[uid]
	if key == "" {
		if len(p.ledger.byApp[uid]) == 0 && len(p.ledger.volumes.byApp[uid]) == 0 {
			return
		}
		key = p.pageWithRoom()
		p.pages.of[uid], p.pages.own[key].apps[uid] = key, true
	}
	p.timers.before(timerSummary, key, max(p.out.now.Mono+p.tune.ReportDelay, p.pages.own[key].next))
}

func (p *Peer) pageWithRoom() string {
	if pg := p.pages.own[p.pages.open]; pg == nil || len(pg.apps) >= pageApps || len(pg.told) > pageBytes {
		p.pages.last++
		p.pages.open = p.pageKey(p.pages.last)
		p.pages.own[p.pages.open] = &ownPage{apps: map[UID]bool{}}
	}
	return p.pages.open
}

// tellPage publishes a page, if what is on it changed.
func (p *Peer) tellPage(key string) {
	pg := p.pages.own[key]
	if pg == nil || p.counters.boot == 0 {
		return
	}
	page := Summaries{Peer: p.cfg.Self, Site: p.cfg.Site}
	for _, uid := range sortedKeys(pg.apps) {
		if s := p.summary(uid); len(s.Counts)+len(s.Kept) > 0 {
			page.Apps = append(page.Apps, s)
		} else {
			delete(pg.apps, uid)
			delete(p.pages.of, uid)
		}
	}
	_, listed := p.catalog.pages[key]
	if len(page.Apps) == 0 {
		if delete(p.pages.own, key); listed {
			p.publish(Publish{Table: TableStatus, Key: key})
		}
		return
	}
	now := string(Encode(page))
	if n := len(page.Apps); len(now) > pageGrown && n > 1 {
		for _, s := range page.Apps[n/2:] {
			delete(pg.apps, s.UID)
			delete(p.pages.of, s.UID)
		}
		if p.pages.open == key {
			p.pages.open = ""
		}
		for _, s := range page.Apps[n/2:] {
			p.touchSummary(s.UID)
		}
		p.tellPage(key)
		return
	}
	if listed && pg.told == now {
		return
	}
	pg.told, pg.next = now, p.out.now.Mono+p.tune.SummaryEvery
	page.AsOf = p.out.now.Wall.UnixMilli()
	p.publish(Publish{Table: TableStatus, Key: key, Value: Encode(p.sign(page))})
}

// summary is what this peer tells of an app; nothing, when it has nothing of it.
func (p *Peer) summary(uid UID) Summary {
	sum := Summary{UID: uid, Kept: p.ledger.kept(uid, true)}
	states := map[SlotCount]int{}
	for _, c := range p.ledger.of(uid) {
		for n := range c.holds().All() {
			state := AllocPending
			if a := p.work.allocs[AllocationID{c.ID, n}]; a != nil {
				state = a.state.State
			}
			states[SlotCount{Component: c.Component, State: state}]++
		}
		if a := p.apps[uid]; a != nil && p.policyOf(a, c).waits() && !c.Slots.IsEmpty() {
			if sum.Slots == nil {
				sum.Slots = map[string]Slots{}
			}
			sum.Slots[c.Component] = sum.Slots[c.Component].Union(c.Slots)
		}
	}
	for s, n := range states {
		s.N = n
		sum.Counts = append(sum.Counts, s)
	}
	slices.SortFunc(sum.Counts, func(a, b SlotCount) int {
		return strings.Compare(a.Component+"\x00"+string(a.State), b.Component+"\x00"+string(b.State))
	})
	return sum
}
