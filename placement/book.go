package placement

import "time"

// Book is a peer's ledger by itself, for those who measure how well plans fill
// hosts (testbed/bench). What it grants, refuses, frees and says is what a peer
// does, by the same code; there is no disk and nobody to talk to.
type Book struct {
	peer  *Peer
	now   Now
	asked uint64
}

// NewBook is the ledger of a peer with these hosts, on which nothing runs. The
// labels are those of the peer.
func NewBook(self PeerRef, name string, site SiteID, labels map[string]string, hosts ...Host) *Book {
	b := &Book{
		peer: New(Config{Self: self, Name: name, Site: site, Labels: labels}),
		now:  Now{Wall: time.UnixMilli(0)},
	}
	b.settle(b.peer.Begin(b.now))
	for _, h := range hosts {
		b.Add(h)
	}
	return b
}

// Add brings one host more, on which nothing runs.
func (b *Book) Add(h Host) {
	b.step(HostChanged{Host: h})
	for _, driver := range h.Drivers {
		b.step(WorkListed{Driver: driver})
	}
}

func (b *Book) step(ev Event) { b.settle(b.peer.Step(b.now, ev)) }

// settle answers each write as a disk that always takes them.
func (b *Book) settle(effects []Effect) {
	for len(effects) > 0 {
		e := effects[0]
		effects = effects[1:]
		if w, ok := e.(Persist); ok {
			effects = append(effects, b.peer.Step(b.now, Persisted{Token: w.Token})...)
		}
	}
}

// Digest is what the peer says of itself now.
func (b *Book) Digest() Digest { return b.peer.Digest() }

// Ask asks for slots of an app's component and returns those that are granted,
// under a claim, and why the others are not.
func (b *Book) Ask(uid UID, app App, component string, slots Slots) (id ClaimID, granted Slots, why string) {
	b.asked++
	self := b.peer.cfg.Self
	ask := &askMsg{
		ID:    AskID{Asker: self.Peer, Incarnation: self.Incarnation, Counter: b.asked},
		Floor: b.asked, UID: uid, Component: component, Slots: slots,
	}
	intent := &Intent{UID: uid, Key: app.Key(), App: app}
	adm := b.peer.ledger.Admit(b.now, ask, intent, intent)
	if adm.claim != nil {
		b.peer.ledger.Committed(adm.claim)
	}
	return adm.reply.Claim, adm.reply.Granted, adm.reply.Reason
}

// Hosts are the peer's hosts, and what is granted on each.
func (b *Book) Hosts() []HostView { return b.peer.Hosts() }

// Free ends a claim: its slots have stopped.
func (b *Book) Free(id ClaimID) {
	l := b.peer.ledger
	c := l.claims[id]
	if c == nil {
		return
	}
	stopping, _ := l.release(c, c.Slots)
	for n := range stopping.All() {
		l.stopped(c, n)
	}
	l.settles(id)()
}
