package placement

// leave ends this peer's part in the mesh, after a person shut it out: what it
// runs is placed elsewhere, and nobody could order it to stop any more. It drives
// nothing and gives back all that it holds, which is stopped.
func (p *Peer) leave() {
	if p.left {
		return
	}
	p.left = true
	for _, uid := range p.uids() {
		p.endSteward(p.apps[uid])
	}
	p.giveBack()
	p.out.happened(Happened{Type: "forgotten", Peer: p.cfg.Self.Peer,
		Message: "this peer was shut out of the mesh: it takes nothing new, and stops what it runs, which is placed elsewhere"})
}

// giveBack releases all claims of a peer that was shut out.
func (p *Peer) giveBack() {
	for _, c := range p.ledger.sorted() {
		if !c.held && c.State != claimReleasing {
			p.releaseSlots(c, c.Slots, "this peer was shut out of the mesh")
		}
	}
}
