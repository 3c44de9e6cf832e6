package placement

import "time"

// patience is how long asks took of late to be answered. In a mesh that has too much to
// do whoever asks again, and then elsewhere, gives it more to do: so the pauses follow the
// answers, as the timer of TCP does (RFC 6298), and double while there is none. What is
// sent goes over streams, which lose nothing; it is sent again for a peer that restarted.
type patience struct {
	mean, spread time.Duration
}

// The limits of what is waited for, as multiples of what is in a quiet mesh.
const (
	resendMost = 8 // of Tuning.Resend
	giveUpMost = 4 // of Tuning.AskGiveUp
)

// answered notes how long an answer took from when it was asked for first: of
// one that was sent again nobody knows which was answered, and the first is the cautious
// guess.
func (p *patience) answered(took time.Duration) {
	if p.mean == 0 {
		p.mean, p.spread = took, took/2
		return
	}
	p.spread += (max(p.mean-took, took-p.mean) - p.spread) / 4
	p.mean += (took - p.mean) / 8
}

// resend is how long to wait until a message is sent again that was so often before.
func (p *patience) resend(t *Tuning, again int) time.Duration {
	return min(max(t.Resend, p.mean+4*p.spread)<<min(again, 3), resendMost*t.Resend)
}

// giveUp is how long to wait until an ask has an unknown outcome and is planned again.
func (p *patience) giveUp(t *Tuning) time.Duration {
	return min(max(t.AskGiveUp, 2*(p.mean+4*p.spread)), giveUpMost*t.AskGiveUp)
}
