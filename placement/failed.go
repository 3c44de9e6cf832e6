package placement

// giveBackFailed gives slots back that ended once too often, and whose release
// the disk did not take then: nothing else speaks of them again.
func (p *Peer) giveBackFailed() {
	for _, a := range p.work.sorted() {
		if c := a.claim; a.state.State == AllocFailed && p.ledger.claims[c.ID] == c {
			p.releaseSlots(c, SlotsOf(a.id.Slot), a.state.Reason)
		}
	}
}
