package gossip

import (
	"context"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Whoever is to hold a peer for dead asks it first. Anybody can say that a peer
// is dead or suspect, and memberlist takes every member's word; so its word
// only begins or ends the waiting here: each peer that hears of a suspicion asks
// the suspect at once, again and again, by itself, by way of others and over a
// stream, and tells it what it is accused of, so that it refutes. It is dead to
// those alone who asked askTimes and had no answer.
//
// Such a peer waits for nobody else: memberlist's own suspicion, which grows with
// the logarithm of the mesh since it goes by hearsay, is ended then.
const (
	askTimes = 4
	askEvery = 500 * time.Millisecond
	askWait  = 600 * time.Millisecond // for an answer to the last: three round trips by way of others
	askAgain = time.Second            // after an answer, as long as it is suspect
	askTurn  = 50 * time.Millisecond
	askLag   = 500 * time.Millisecond // between turns: this peer did not run, and has not read the answers
	asksMax  = 32                     // peers asked in a turn; who was not asked often enough is not dead

	callsMax     = 16 // streams at once
	callPatience = 1500 * time.Millisecond

	// askersMax is how many ask at the first word, so that a mesh of many more is no flood to
	// one that is alive. The others ask after askLate, when most of the false ones were refuted.
	askersMax = 512
	askLate   = 1200 * time.Millisecond
)

// inquiry is this peer's own asking of one that it holds suspect.
type inquiry struct {
	seq     uint32    // of what it is asked; 0: there is no inquiry
	asked   int       // times since it answered
	since   time.Time // of the first of those
	next    time.Time // when to ask
	lapses  time.Time // when it was asked often enough, and waited for
	calling bool      // a stream is under way
	verdict bool      // memberlist holds it dead
	told    time.Time // when memberlist was told of accused; it may have dropped the word
	accused uint64    // highest incarnation that it is said to be suspect or dead at
}

// unanswered is whether it was asked often enough, without an answer.
func (q *inquiry) unanswered(now time.Time) bool {
	return q.asked >= askTimes && !now.Before(q.lapses)
}

// inquire begins an inquiry, or takes note of a further accusation. The caller holds mu.
func (g *Gossip) inquire(p *peer, incarnation uint64, verdict bool) {
	q := &p.inquiry
	if q.seq == 0 {
		for q.seq == 0 || g.asking[q.seq] != nil {
			q.seq = rand.Uint32() // nobody can answer who was not asked
		}
		g.asking[q.seq] = p
		q.next = time.Now().Add(g.late.doubt(time.Now()))
		if n := len(g.peers); n > askersMax && !verdict && rand.IntN(n) >= askersMax {
			q.next = q.next.Add(askLate)
		}
	}
	if verdict && !q.verdict {
		q.verdict, q.next = true, earlier(q.next, time.Now())
	}
	if incarnation > q.accused {
		q.accused, q.told = incarnation, time.Time{}
	}
	poke(g.toAsk)
}

// endInquiry is for when it is no longer suspect. The caller holds mu.
func (g *Gossip) endInquiry(p *peer) {
	delete(g.asking, p.inquiry.seq)
	p.inquiry = inquiry{}
}

// answered begins the asking anew: who answers is not dead. The caller holds mu.
func (g *Gossip) answered(p *peer) {
	if q := &p.inquiry; q.seq != 0 {
		if now := time.Now(); q.asked > 0 {
			g.late.answered(now, now.Sub(q.since))
		}
		if q.verdict && q.asked > 0 {
			g.stats.Disbelieved++
		}
		q.asked, q.next = 0, time.Now().Add(askAgain)
	}
}

// sawAnswer takes the number of something that was answered.
func (g *Gossip) sawAnswer(seq uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.asking[seq]; p != nil {
		g.answered(p)
	}
	if seq == g.watched {
		g.watching = nil
	}
}

// question is what is to be sent for an inquiry.
type question struct {
	peer    string
	seq     uint32
	accused uint32
	relays  []string
	accuse  bool // tell it what it is accused of
	call    bool // over a stream, too
}

// askSuspects goes on with all inquiries.
func (g *Gossip) askSuspects(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	calls := make(chan struct{}, callsMax)
	last, turn := time.Now(), time.Duration(0)
	for {
		var questions, deaths []question
		now := time.Now()
		late := now.Sub(last) - turn
		if turn == 0 {
			late = 0 // it waited for something to do
		}
		questions, deaths, turn = g.inquiries(now, late, calls)
		last = now
		for _, q := range questions {
			g.ask(q)
			if q.call {
				wg.Go(func() {
					g.call(ctx, q)
					<-calls
				})
			}
		}
		for _, d := range deaths {
			g.net.inject(memberlistWord(deadMsg, d.peer, g.cfg.Self, d.accused))
		}
		if turn == 0 {
			select {
			case <-g.toAsk:
			case <-ctx.Done():
				return
			}
		} else if !pause(ctx, turn) {
			return
		}
	}
}

// inquiries settles what can be, and says what is to be asked now, whom
// memberlist is to hold dead, and when the next turn is: zero if nobody is suspect. For
// each call it takes a place among the calls.
func (g *Gossip) inquiries(now time.Time, late time.Duration, calls chan struct{}) (questions, deaths []question, turn time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.late.note(now, late)
	wait, limit := g.late.wait(now), g.late.asks(now)
	var due []*peer
	for _, p := range g.asking {
		q := &p.inquiry
		if late > askLag {
			q.lapses = now.Add(wait)
		}
		switch {
		case q.unanswered(now) && q.verdict:
			g.believe(p)
			continue
		case q.unanswered(now) && now.Sub(q.told) >= askAgain:
			q.told = now
			deaths = append(deaths, question{peer: p.id, accused: uint32(q.accused)})
		}
		if !now.Before(q.next) {
			due = append(due, p)
		}
	}
	// Who was silent so far comes first: most others answer, or refute by themselves.
	slices.SortFunc(due, func(a, b *peer) int { return b.inquiry.asked - a.inquiry.asked })
	for _, p := range due[:min(len(due), limit)] {
		q := &p.inquiry
		if q.asked++; q.asked == 1 {
			q.since = now
		}
		q.next = now.Add(askEvery)
		if q.asked == askTimes {
			q.lapses = now.Add(wait)
		}
		ask := question{peer: p.id, seq: q.seq, accuse: true, accused: uint32(q.accused)}
		if q.asked > 1 { // most answer at once
			ask.relays = g.relays(p, indirectChecks)
			if !q.calling && len(calls) < limit {
				select {
				case calls <- struct{}{}:
					q.calling, ask.call = true, true
				default:
				}
			}
		}
		questions = append(questions, ask)
	}
	g.stats.Asks += uint64(len(questions))
	if len(g.asking) > 0 {
		turn = g.late.turn(now)
	}
	return questions, deaths, turn
}

// believe holds a peer for dead. The caller holds mu.
func (g *Gossip) believe(p *peer) {
	if p.meta.Leaving { // its word of that came after its death
		g.setState(p, StateLeft)
	} else {
		g.setState(p, StateDead)
	}
	// The first tries come soon: a false verdict is over at once.
	p.joinAt = time.Now().Add(g.jitter(joinFirst))
	poke(g.toJoin)
}

// relays picks peers to ask another by. The caller holds mu.
func (g *Gossip) relays(to *peer, n int) (ids []string) {
	for _, p := range g.sample(n, func(p *peer) bool { return p.state == StateAlive && p != to }) {
		ids = append(ids, p.id)
	}
	return ids
}

// ask sends what memberlist answers: pings, and the accusation, to be refuted.
func (g *Gossip) ask(q question) {
	send := func(to string, b []byte) {
		_, _ = g.net.WriteToAddress(b, memberlist.Address{Addr: placeholderAddr, Name: to}) // never fails
	}
	word := pingWord(pingMsg, q.seq, q.peer, g.cfg.Self)
	if q.accuse {
		word = compound(word, memberlistWord(suspectMsg, q.peer, g.cfg.Self, q.accused))
	}
	send(q.peer, word)
	for _, r := range q.relays {
		send(r, pingWord(indirectPingMsg, q.seq, q.peer, g.cfg.Self))
	}
}

// call asks over a stream, which sends again what is lost.
func (g *Gossip) call(ctx context.Context, q question) {
	if g.callPeer(ctx, q) {
		g.sawAnswer(q.seq)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if p := g.asking[q.seq]; p != nil {
		p.inquiry.calling = false
	}
}

func (g *Gossip) callPeer(ctx context.Context, q question) (answered bool) {
	c, err := g.net.DialAddressTimeout(memberlist.Address{Addr: placeholderAddr, Name: q.peer}, callPatience)
	if err != nil {
		return false
	}
	defer c.Close() // nothing is lost with it
	stop := context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Now()) })
	defer stop()
	if err := c.SetReadDeadline(time.Now().Add(callPatience)); err != nil {
		return false
	}
	if _, err := c.Write(pingWord(pingMsg, q.seq, q.peer, g.cfg.Self)); err != nil {
		return false
	}
	var kind [1]byte
	_, err = io.ReadFull(c, kind[:])
	return err == nil && kind[0] == ackMsg
}

// packedText appends a name and a text as memberlist writes them.
func packedText(b []byte, name, text string) []byte {
	b = append(append(b, 0xa0|byte(len(name))), name...)
	return append(append(b, 0xda, byte(len(text)>>8), byte(len(text))), text...)
}

func packedNumber(b []byte, name string, n uint32) []byte {
	b = append(append(b, 0xa0|byte(len(name))), name...)
	return binary.BigEndian.AppendUint32(append(b, 0xce), n)
}

// memberlistWord is a suspicion or a death.
func memberlistWord(kind byte, node, from string, incarnation uint32) []byte {
	return packedNumber(packedText(packedText([]byte{kind, 0x83}, "Node", node), "From", from), "Incarnation", incarnation)
}

// pingWord is a ping, or one by way of another. All are at one address, see network.go.
func pingWord(kind byte, seq uint32, node, from string) []byte {
	b := packedText(packedText(packedNumber([]byte{kind, 0x85}, "SeqNo", seq), "Node", node), "SourceNode", from)
	b = packedNumber(packedText(b, "SourceAddr", string(placeholderIP)), "SourcePort", placeholderPort)
	if kind == indirectPingMsg {
		b[1] = 0x87
		b = packedNumber(packedText(b, "Target", string(placeholderIP)), "Port", placeholderPort)
	}
	return b
}

// compound is two messages in a packet.
func compound(a, b []byte) []byte {
	out := binary.BigEndian.AppendUint16([]byte{compoundMsg, 2}, uint16(len(a)))
	out = binary.BigEndian.AppendUint16(out, uint16(len(b)))
	return append(append(out, a...), b...)
}
