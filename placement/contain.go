package placement

// contained runs one part of a step: an event, a message, or one app's round of
// its steward, and says whether it came to its end. Where Config.Panicked is
// set, a panic in it (an invariant that does not hold: a bug here) ends that
// part alone, and the rest of the step goes on. What the part had not done yet
// is level-triggered and is looked at again in a later round; what it had
// booked stays booked, and so is promised to nobody else.
func (p *Peer) contained(what, subject string, part func()) (ok bool) {
	if p.cfg.Panicked != nil {
		defer func() {
			if v := recover(); v != nil {
				p.cfg.Panicked(what, subject, v)
			}
		}()
	}
	part()
	return true
}
