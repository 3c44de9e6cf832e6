package placement

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// This file is what an app's keepers hold beside its intent: how its roll-outs
// stand, and its last revisions. The steward writes it under its term, and builds
// on nothing of it that a majority of the keepers does not have on disk. Whoever
// is voted into the next term learns it with the votes, and writes it again under
// that: so a verdict outlives the steward that came to it.

// tablePast holds chronicles at keepers: UID -> chronicle.
const tablePast = "past"

// Bounds of a chronicle.
const (
	revisionsMax  = 10 // the newest, and those that a roll-out goes back to
	goneBackMax   = 16
	pastBytesMax  = 512 << 10 // of revisions, at most; the newest stays in any case
	whatChangeMax = 200
)

// chronicle is of one app. Of two the one written under the later term counts,
// and of one term the one with the higher number.
type chronicle struct {
	Term  Term               `cbor:"t"`
	Seq   uint64             `cbor:"s"`
	Rolls map[string]rollout `cbor:"r,omitempty"` // by component
	Past  []revision         `cbor:"p,omitempty"` // newest first
	Last  int                `cbor:"n,omitempty"` // number of the newest revision ever
}

// revision is a version of an app that people deployed. Versions that follow one
// another and say the same are one revision.
type revision struct {
	Number  int     `cbor:"n"`
	Version Version `cbor:"v"` // the last that said so
	What    string  `cbor:"w,omitempty"`
	App     uint64  `cbor:"a"` // hash of what it says
	Intent  Signed  `cbor:"i"`
}

// chronicleMsg asks a keeper to hold a chronicle; chronicledMsg says which one it has on
// disk.
type (
	chronicleMsg struct {
		UID  UID       `cbor:"u"`
		Term Term      `cbor:"t"`
		Past chronicle `cbor:"p"`
	}

	chronicledMsg struct {
		UID  UID         `cbor:"u"`
		Term Term        `cbor:"t"`
		Seq  uint64      `cbor:"s"`
		Life Incarnation `cbor:"l"` // of this keeper's store

		Refused Term `cbor:"r,omitzero"` // a later term that this keeper granted: it holds nothing under that one
	}
)

func (c *chronicle) after(o *chronicle) bool {
	return o == nil || cmp.Or(c.Term.Compare(o.Term), cmp.Compare(c.Seq, o.Seq)) > 0
}

// check holds a chronicle of another peer against the bounds.
func (c *chronicle) check() error {
	if c == nil {
		return nil
	}
	bytes, text := 0, 0
	for name, r := range c.Rolls {
		text = max(text, len(name), len(r.Why))
	}
	for _, r := range c.Past {
		bytes += len(r.Intent.Body) + len(r.Intent.Sig)
		text = max(text, len(r.What))
	}
	return errors.Join(within(len(c.Rolls), ComponentsMax, "roll-outs"), within(len(c.Past), revisionsMax+goneBackMax, "revisions"),
		within(bytes, pastBytesMax+intentBytesMax, "bytes of revisions"), within(text, textMax, "bytes of text"))
}

// onChronicle holds a chronicle for its app's steward.
func (p *Peer) onChronicle(from PeerID, m *chronicleMsg) {
	r := p.keeper.records[m.UID]
	if r == nil || !p.keeper.votesIn(r) || m.Past.Term != m.Term || !p.mayOrder(from, m.UID, m.Term) {
		return
	}
	if m.Term.Compare(r.Term) < 0 { // it is over, or whoever was granted the next one did not win it
		p.out.send(from, message{Chronicled: &chronicledMsg{UID: m.UID, Term: m.Term, Life: p.cfg.Self.Incarnation, Refused: r.Term}})
		return
	}
	if m.Term.Number == r.Term.Number && m.Term != r.Term { // it is nobody's
		return
	}
	held := p.keeper.pasts[m.UID]
	if m.Past.after(held) {
		held = &m.Past
		p.keeper.pasts[m.UID] = held
		p.keeper.changed(m.UID)
	}
	if held.Term != m.Term {
		return
	}
	// A repeated one is written again: the answer never rests on a write that failed.
	p.out.persist([]Write{{Table: tablePast, Key: string(m.UID), Value: Encode(held)}}, func(failed *PersistFailed) {
		if failed == nil {
			p.out.send(from, message{Chronicled: &chronicledMsg{UID: m.UID, Term: held.Term, Seq: held.Seq, Life: p.cfg.Self.Incarnation}})
		}
	})
}

// onChronicled counts a copy.
func (p *Peer) onChronicled(from PeerID, m *chronicledMsg) {
	a := p.apps[m.UID]
	if a == nil || a.steward == nil || a.steward.term != m.Term || !p.isKeeper(m.UID, from) {
		return
	}
	if m.Refused != (Term{}) {
		if m.Refused.within(p.highest(m.UID)) {
			p.tune.mark(MarkPastRefused)
			p.overtaken(m.UID, m.Refused)
		}
		return
	}
	s, ref := a.steward, a.refOf(from, m.Life)
	if m.Seq <= s.past.Seq && m.Seq > s.copied[ref] {
		s.copied[ref] = m.Seq
		p.dirty[m.UID] = true
	}
}

// learnPast takes what a keeper that voted for this term holds.
func (s *Steward) learnPast(c *chronicle) {
	if c != nil && c.after(&s.past) && c.Term.within(s.term.Number) {
		s.past = *c
	}
}

// beginPast has what was learned written again, under this steward's own term.
func (s *Steward) beginPast() {
	s.learnPast(s.p.keeper.pasts[s.a.uid])
	if s.past.Seq > 0 && s.past.Term != s.term {
		s.rewrite(true)
	}
}

// rewrite says that the chronicle changed. What must be at the keepers before
// anything is built on it is waited for.
func (s *Steward) rewrite(must bool) {
	s.past.Term = s.term
	if s.past.Seq++; must {
		s.mustHave = s.past.Seq
	}
}

// recorded says whether a majority of the keepers has on disk what this steward
// builds on.
func (s *Steward) recorded() bool {
	return s.p.decided(s.a, func(ref PeerRef) bool { return s.copied[ref] >= s.mustHave })
}

// spreadPast brings the chronicle to keepers that do not have it.
func (s *Steward) spreadPast() {
	if s.deputy || s.past.Seq == 0 {
		return
	}
	for _, ref := range s.a.lists().refs() {
		if s.copied[ref] < s.past.Seq && s.p.keeperLives(ref) && s.mayRepeat(fmt.Sprintf("past/%s/%d", ref.Peer, s.past.Seq)) {
			s.p.out.send(ref.Peer, message{Chronicle: &chronicleMsg{UID: s.a.uid, Term: s.term, Past: s.past.clone()}})
		}
	}
	if !s.recorded() {
		s.dueBy(s.p.out.now.Mono + s.p.tune.Resend)
	}
}

// clone is a copy that does not change with the original.
func (c chronicle) clone() chronicle {
	rolls := make(map[string]rollout, len(c.Rolls))
	for name, r := range c.Rolls {
		rolls[name] = r
	}
	c.Rolls, c.Past = rolls, slices.Clone(c.Past)
	return c
}

// notePast enters versions that the mesh lists by now among the revisions.
func (s *Steward) notePast() {
	listed := s.p.catalog.versions(s.a.uid)
	slices.SortFunc(listed, func(a, b version) int { return a.intent.Version.Compare(b.intent.Version) })
	for i := range listed {
		v := &listed[i]
		if v.intent.Removed || len(s.past.Past) > 0 && v.intent.Version.Compare(s.past.Past[0].Version) <= 0 {
			continue
		}
		s.enterRevision(v)
		s.rewrite(true)
	}
}

func (s *Steward) enterRevision(v *version) {
	c := &s.past
	r := revision{Number: c.Last + 1, Version: v.intent.Version, App: fnvOf(v.intent.App), Intent: v.signed, What: "created"}
	c.Past = slices.Clone(c.Past)
	switch {
	case len(c.Past) == 0:
	case c.Past[0].App == r.App:
		r.Number, r.What = c.Past[0].Number, c.Past[0].What
		c.Past = c.Past[1:]
	default:
		r.What = ""
		if last, err := s.p.catalog.readIntent(c.Past[0].Intent); err == nil {
			r.What = whatChanged(last.intent.App, v.intent.App)
		}
	}
	c.Last = r.Number
	c.Past = slices.Insert(c.Past, 0, r)
	rolls := c.clone().Rolls
	for name, roll := range rolls {
		if _, has := v.intent.App.Components[name]; !has {
			delete(rolls, name)
		} else if roll.GoodSpec != 0 && roll.GoodSpec == v.spec(name) {
			roll.Good = r.Version
			rolls[name] = roll
		}
	}
	c.Rolls = rolls
	c.trim()
}

// trim drops revisions past the bounds, the oldest first; last those that a
// roll-out may go back to.
func (c *chronicle) trim() {
	used, back, bytes := map[Version]bool{}, 0, 0
	for _, r := range c.Rolls {
		used[r.Good] = true
	}
	kept := c.Past[:0:0]
	for i, r := range c.Past {
		bytes += len(r.Intent.Body)
		old := i >= revisionsMax
		if i > 0 && bytes > pastBytesMax || old && (!used[r.Version] || back == goneBackMax) {
			bytes -= len(r.Intent.Body)
			continue
		}
		back += btoi(old)
		kept = append(kept, r)
	}
	c.Past = kept
}

// intentOf is the version of a revision that is kept.
func (c *chronicle) intentOf(read func(Signed) (version, error), uid UID, at Version) (version, bool) {
	for _, r := range c.Past {
		if r.Version == at {
			v, err := read(r.Intent)
			return v, err == nil && v.intent.UID == uid && v.intent.Version == at
		}
	}
	return version{}, false
}

// whatChanged tells two apps apart, by component and field of the manifest.
func whatChanged(old, new App) string {
	var parts []string
	names := map[string]bool{}
	for name := range old.Components {
		names[name] = true
	}
	for name := range new.Components {
		names[name] = true
	}
	for _, name := range sortedKeys(names) {
		was, had := old.Components[name]
		is, has := new.Components[name]
		switch {
		case !had:
			parts = append(parts, name+" added")
		case !has:
			parts = append(parts, name+" removed")
		default:
			if fields := fieldsChanged(was, is); len(fields) > 0 {
				parts = append(parts, name+": "+strings.Join(fields, ", "))
			}
		}
	}
	text := strings.Join(parts, "; ")
	return text[:min(len(text), whatChangeMax)]
}

func fieldsChanged(old, new Component) []string {
	read := func(c Component) (fields map[string]json.RawMessage) {
		data, err := json.Marshal(c)
		if err == nil {
			err = json.Unmarshal(data, &fields)
		}
		assert(err == nil, "a component has no JSON: %v", err)
		return fields
	}
	was, is := read(old), read(new)
	changed := map[string]bool{}
	for name, value := range was {
		changed[name] = string(is[name]) != string(value)
	}
	for name := range is {
		if _, had := was[name]; !had {
			changed[name] = true
		}
	}
	var out []string
	for _, name := range sortedKeys(changed) {
		if changed[name] {
			out = append(out, name)
		}
	}
	return out
}

// RevisionView is one revision as people see it.
type RevisionView struct {
	Number  int
	Version Version
	At      time.Time
	By      PeerID // which peer wrote it
	What    string // changed against the one before it
	App     App

	Artifacts []Artifact
	Current   bool     // it is what is wanted
	InUse     []string // components that run as it says, because the one after it failed
}

// History is the last revisions of an app, newest first, as far as this peer, one
// of its keepers, knows.
func (p *Peer) History(key AppKey) (list []RevisionView, ok bool) {
	a := p.find(key)
	if a == nil {
		return nil, false
	}
	c := p.pastOf(a)
	if c == nil {
		return nil, p.keeper.records[a.uid] != nil
	}
	for _, r := range c.Past {
		v, err := p.catalog.readIntent(r.Intent)
		if err != nil || v.intent.UID != a.uid {
			continue
		}
		view := RevisionView{
			Number: r.Number, Version: r.Version, At: time.UnixMilli(r.Version.Millis).UTC(), By: r.Version.Peer, What: r.What,
			App: v.intent.App, Artifacts: v.intent.Artifacts, Current: r.App == fnvOf(a.win.intent.App),
		}
		for _, name := range sortedKeys(c.Rolls) {
			if roll := c.Rolls[name]; roll.Verdict == RolloutReverted && roll.Good == r.Version && roll.Spec == a.win.spec(name) {
				view.InUse = append(view.InUse, name)
			}
		}
		list = append(list, view)
	}
	return list, true
}

// pastOf is the chronicle of an app as this peer has it: what it wrote itself, or
// holds for another.
func (p *Peer) pastOf(a *app) *chronicle {
	if s := a.steward; s != nil && !s.deputy && s.past.Seq > 0 {
		return &s.past
	}
	return p.keeper.pasts[a.uid]
}
