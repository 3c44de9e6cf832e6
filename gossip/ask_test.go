package gossip

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestAsking: an answer is one whichever way it comes.
func TestAsking(t *testing.T) {
	for name, way := range map[string]struct {
		silent, cut, call, relay, want bool
	}{
		"direct":              {want: true},
		"cut off":             {cut: true},
		"cut off, by another": {cut: true, relay: true, want: true},
		"no datagrams":        {silent: true, relay: true},
		"over a stream":       {silent: true, call: true, want: true},
		"over a cut stream":   {cut: true, call: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMesh(t, 100*time.Millisecond, 0)
				nodes := m.startMany(3, false) // too few to look after each other
				asker, suspect := nodes[0], nodes[1]
				m.wire.silent.Store(way.silent)
				if way.cut {
					m.wire.setCut(func(a, b string) bool { return a == asker.id && b == suspect.id })
				}
				q := question{peer: suspect.id, seq: rand.Uint32() | 1}
				if way.relay {
					q.relays = []string{nodes[2].id}
				}
				asker.mu.Lock()
				asker.watching, asker.watched = asker.peers[suspect.id], q.seq
				asker.mu.Unlock()
				if way.call {
					asker.call(t.Context(), q)
				} else {
					asker.ask(q)
				}
				time.Sleep(askWait)
				asker.mu.Lock()
				answered := asker.watching == nil
				asker.mu.Unlock()
				if answered != way.want {
					t.Errorf("answered: %t", answered)
				}
				if name == "direct" {
					q.accuse, q.accused = true, 7
					asker.ask(q)
					m.eventually(2*time.Second, "it refutes", func() bool {
						asker.mu.Lock()
						defer asker.mu.Unlock()
						return asker.peers[suspect.id].incarnation > 7
					})
				}
			})
		})
	}
}

// lies is all that members may say of a live peer so that others hold it for dead.
func lies(victim, liar, honest string, incarnation uint32) (packets [][]byte) {
	for _, from := range []string{liar, honest, victim} {
		s, d := memberlistWord(suspectMsg, victim, from, incarnation), memberlistWord(deadMsg, victim, from, incarnation+1)
		packets = append(packets, s, d, compound(s, d), compound(d, s))
	}
	return append(packets, []byte("\x04\x81\xa5SeqNo\x01"), packedNumber([]byte{ackMsg, 0x81}, "SeqNo", 0))
}

// exchangeOf is an exchange of one member, alive (0), suspect (1), dead (2) or gone (3).
func exchangeOf(peer, meta string, incarnation uint32, state byte) []byte {
	b := []byte("\x06\x83\xa5Nodes\x01\xacUserStateLen\x00\xa4Join\xc2\x87")
	b = packedText(packedText(packedText(b, "Name", peer), "Addr", string(placeholderIP)), "Meta", meta)
	b = packedNumber(packedNumber(b, "Port", placeholderPort), "Incarnation", incarnation)
	b = append(append(b, "\xa5State"...), state)
	return packedText(b, "Vsn", string([]byte{1, 5, protocolVersion, 0, 0, 0}))
}

// lieOnStream exchanges members, of which one is the victim.
func lieOnStream(t *testing.T, liar, to, victim *node, incarnation uint32, state byte) {
	t.Helper()
	victim.mu.Lock()
	meta := victim.sealed
	victim.mu.Unlock()
	c, err := liar.port.dial(t.Context(), to.id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(exchangeOf(victim.id, string(meta), incarnation, state)); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(time.Second, func() { _ = c.Close() })
}

// TestLiarsKillNobody: some members that say of a live peer whatever they can, all at
// once and for minutes, have nobody honest hold it for dead. That it dies they can't
// hide that way either.
func TestLiarsKillNobody(t *testing.T) {
	for _, liars := range []int{3, 10} {
		t.Run(fmt.Sprint(liars), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMesh(t, 100*time.Millisecond, 0.01)
				nodes := m.startMany(20, false)
				bad, victim, honest := nodes[:liars], nodes[liars], nodes[liars+1:]
				tell := func(incarnation uint32) {
					for _, l := range bad {
						for _, h := range honest {
							for _, b := range lies(victim.id, l.id, honest[0].id, incarnation) {
								if _, err := l.port.WriteTo(b, peerAddr(h.id)); err != nil {
									t.Fatal(err)
								}
							}
						}
						lieOnStream(t, l, honest[rand.IntN(len(honest))], victim, incarnation, byte(1+rand.IntN(3)))
					}
				}
				highest := func() (i uint64) {
					for _, h := range honest {
						h.mu.Lock()
						i = max(i, h.peers[victim.id].incarnation)
						h.mu.Unlock()
					}
					return i
				}
				for i := range 60 {
					tell(uint32(highest()) + uint32(i%4))
					time.Sleep(time.Duration(rand.IntN(800)) * time.Millisecond)
				}
				tell(incarnationMax)
				time.Sleep(10 * time.Second)
				suspected := m.count(EventSuspect, victim.id)
				if n := m.count(EventDead, victim.id) + m.count(EventLeft, victim.id); n > 0 || suspected < 5*len(honest) {
					t.Errorf("%d times it was held for dead, %d times suspect", n, suspected)
				}
				m.eventually(time.Minute, "all are alive", func() bool { return allAlive(nodes, nodes) })
				s := honest[0].Stats()
				t.Logf("suspected %d times; a peer asked %d times, and sent %d packets", suspected, s.Asks, s.PacketsOut)
				if s.Disbelieved == 0 {
					t.Error("no lie was put to the test")
				}
				// What can't be refuted, on streams.
				for _, h := range honest {
					lieOnStream(t, bad[0], h, victim, math.MaxUint32, 2)
				}
				time.Sleep(time.Minute)
				if n := m.count(EventDead, victim.id) + m.count(EventLeft, victim.id); n > 0 {
					t.Errorf("%d times it was held for dead", n)
				}
				m.eventually(time.Minute, "all are alive", func() bool { return allAlive(nodes, nodes) })
				m.kill(victim)
				m.eventually(8*time.Second, "its real death is known", func() bool {
					for _, h := range honest {
						if stateOf(h, victim.id) != StateDead {
							return false
						}
					}
					return true
				})
			})
		})
	}
}

// TestPushedUp: a peer that one member had refute words of the highest incarnation that
// is taken, or above, is believed as before: it comes back after a cut and after a
// restart, and its real death is known as soon.
func TestPushedUp(t *testing.T) {
	for name, push := range map[string]func(liar *node, victim *node, others []*node) []byte{
		"suspect": func(liar, victim *node, _ []*node) []byte {
			return memberlistWord(suspectMsg, victim.id, liar.id, incarnationMax)
		},
		"alive": func(liar, victim *node, _ []*node) []byte {
			liar.mu.Lock()
			defer liar.mu.Unlock()
			return aliveWord(victim.id, 2*incarnationMax, liar.peers[victim.id].sealed)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMesh(t, 40*time.Millisecond, 0)
				nodes := m.startMany(12, false)
				liar, victim, honest := nodes[0], nodes[1], nodes[2:]
				send := func(to *node, b []byte) {
					if _, err := liar.port.WriteTo(b, peerAddr(to.id)); err != nil {
						t.Fatal(err)
					}
				}
				send(victim, push(liar, victim, honest))
				time.Sleep(5 * time.Second)
				for i, h := range honest {
					send(h, memberlistWord(deadMsg, victim.id, liar.id, uint32(i+3)))
				}
				m.eventually(time.Minute, "all are alive after the lies", func() bool { return allAlive(nodes, nodes) })
				if n := m.count(EventDead, victim.id); n > 0 {
					t.Errorf("%d times it was held for dead", n)
				}
				m.wire.setCut(func(a, b string) bool { return (a == victim.id) != (b == victim.id) })
				time.Sleep(15 * time.Second)
				m.wire.setCut(func(string, string) bool { return false })
				m.eventually(time.Minute, "all are alive after a cut", func() bool { return allAlive(nodes, nodes) })
				m.kill(victim)
				dead := func() bool {
					for _, h := range honest {
						if stateOf(h, victim.id) != StateDead {
							return false
						}
					}
					return true
				}
				m.eventually(8*time.Second, "its real death is known", dead)
				nodes[1] = m.start(victim.id, nil, honest[0].id)
				m.eventually(time.Minute, "all are alive after its restart", func() bool { return allAlive(nodes, nodes) })
			})
		})
	}
}

// TestOneLinkIsCut: a peer that some do not reach, but by way of others, is not dead to
// them, whoever is told that it is.
func TestOneLinkIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 100*time.Millisecond, 0.01)
		nodes := m.startMany(20, false)
		victim, liar := nodes[0], nodes[19]
		apart := map[string]bool{}
		for _, n := range nodes[1:6] {
			apart[n.id] = true
		}
		m.wire.setCut(func(a, b string) bool { return a == victim.id && apart[b] || b == victim.id && apart[a] })
		for i := range uint32(60) {
			for _, n := range nodes[1:19] {
				if _, err := liar.port.WriteTo(memberlistWord(suspectMsg, victim.id, liar.id, 10*i), peerAddr(n.id)); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(5 * time.Second)
		}
		if n := m.count(EventSuspect, victim.id); n < 5*60 {
			t.Errorf("it was suspected %d times: that proves nothing", n)
		}
		// Had it no way to refute, there is what they hear by way of others.
		for _, n := range nodes[1:6] {
			n.net.inject(memberlistWord(deadMsg, victim.id, liar.id, math.MaxUint32))
		}
		time.Sleep(time.Minute)
		if n := m.count(EventDead, victim.id); n > 0 {
			t.Errorf("%d times it was held for dead", n)
		}
	})
}

// TestSample: any three of eight are picked as often as any others.
func TestSample(t *testing.T) {
	g := &Gossip{peers: map[string]*peer{}}
	for i := range 10 {
		id := string(rune('a' + i))
		g.peers[id] = &peer{id: id, state: StateAlive}
	}
	g.peers["c"].state, g.peers["g"].state = StateSuspect, StateDead
	const sets = 56 // 8 over 3
	seen := map[string]int{}
	for range 100 * sets {
		ids := g.relays(&peer{}, 3)
		slices.Sort(ids)
		seen[strings.Join(ids, "")]++
	}
	if len(seen) != sets {
		t.Errorf("%d sets were picked, want %d", len(seen), sets)
	}
	for set, n := range seen {
		if n < 40 || n > 200 || strings.ContainsAny(set, "cg") {
			t.Errorf("%s was picked %d times, want about 100", set, n)
		}
	}
	if all := g.sample(20, isAlive); len(all) != 8 {
		t.Errorf("%d of 8 when asked for 20", len(all))
	}
}

// TestNoDatagrams: peers that reach each other over streams alone suspect nobody.
func TestNoDatagrams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 100*time.Millisecond, 0)
		nodes := m.startMany(10, false)
		m.wire.silent.Store(true)
		time.Sleep(time.Minute)
		m.wire.silent.Store(false)
		if n := m.count(EventSuspect, ""); n > 0 || !allAlive(nodes, nodes) {
			t.Errorf("%d times somebody was suspect", n)
		}
	})
}

// TestHeavyLoss: nobody alive is called dead where one packet in five is lost.
func TestHeavyLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 200*time.Millisecond, 0.01)
		nodes := m.startMany(25, false)
		m.wire.setLoss(0.2)
		time.Sleep(2 * time.Minute)
		m.wire.setLoss(0.01)
		suspected := m.count(EventSuspect, "")
		t.Logf("%d suspicions seen", suspected)
		if n := m.count(EventDead, ""); n > 0 || suspected < 1000 {
			t.Errorf("%d times somebody alive was called dead, %d times suspect", n, suspected)
		}
		m.eventually(time.Minute, "all are alive", func() bool { return allAlive(nodes, nodes) })
	})
}

// TestShortCutIsNoDeath: a peer that nobody reaches for two seconds, again and again, is
// not dead.
func TestShortCutIsNoDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMesh(t, 100*time.Millisecond, 0.01)
		nodes := m.startMany(30, false)
		victim := nodes[0].id
		for range 20 {
			m.wire.setCut(func(a, b string) bool { return a == victim || b == victim })
			time.Sleep(2 * time.Second)
			m.wire.setCut(func(string, string) bool { return false })
			time.Sleep(10 * time.Second)
		}
		if n := m.count(EventSuspect, victim); n < 20 {
			t.Errorf("it was suspected %d times: that proves nothing", n)
		}
		if n := m.count(EventDead, victim); n > 0 {
			t.Errorf("it was called dead %d times", n)
		}
	})
}

// TestLatePeer: a peer whose own turns come late gives others more time for their
// answers, asks fewer of them and later, and accuses nobody, up to a limit and until its
// turns come in time again.
func TestLatePeer(t *testing.T) {
	var own lateness
	now := time.Now()
	check := func(what string, wait, doubt time.Duration, asks int, accuses bool) {
		t.Helper()
		if own.wait(now) != wait || own.doubt(now) != doubt || own.asks(now) != asks || own.accuses(now) != accuses {
			t.Errorf("%s, it waits %v, asks %d after %v, and accuses is %v", what, own.wait(now), own.asks(now), own.doubt(now), own.accuses(now))
		}
	}
	own.note(now, -time.Millisecond)
	check("in time", askWait, 0, asksMax, true)
	own.note(now, 75*time.Millisecond)
	check("75 ms late", askWait+lagHands*75*time.Millisecond, lagHands*75*time.Millisecond, 1, false)
	own.note(now, time.Hour)
	check("an hour late", askWait+lagHands*lagMost, askLate, 1, false)
	now = now.Add(lagMost * lagFades / 2)
	own.note(now, 0)
	check("a second after", askWait+lagHands*lagMost/2, askLate, 1, false)
	now = now.Add(lagMost * lagFades / 2)
	own.note(now, 0)
	check("in time again", askWait, 0, asksMax, true)
	for range 25 {
		own.falseAlarm(now)
	}
	check("25 false alarms", askWait+lagHands*25*alarmLag, lagHands*25*alarmLag, 2, false)
	for range 1000 {
		own.falseAlarm(now)
	}
	check("a thousand", askWait+lagHands*alarmsMost*alarmLag, askLate, 1, false)
	now = now.Add(40 * alarmFades)
	check("long after", askWait, 0, asksMax, true)
	for range 100 {
		own.answered(now, 3*time.Second)
	}
	if wait := own.wait(now); wait < 3*time.Second || wait > 4*time.Second {
		t.Errorf("of answers that take 3 s it waits %v for the last", wait)
	}
	for range 100 {
		own.answered(now, time.Hour)
	}
	check("answers that take an hour", waitMost, 0, asksMax, true)
	for range 100 {
		own.answered(now, 200*time.Millisecond)
	}
	check("answers in time", askWait, 0, asksMax, true)
	own.answered(now, time.Hour)
	now = now.Add(answersFade + time.Second)
	check("an answer of long ago", askWait, 0, asksMax, true)
}

// aliveWord is a life sign of a peer, with the words about itself that it signed.
func aliveWord(peer string, incarnation uint32, sealed []byte) []byte {
	b := packedText(packedText([]byte{aliveMsg, 0x86}, "Node", peer), "Addr", string(placeholderIP))
	b = packedNumber(packedNumber(packedText(b, "Meta", string(sealed)), "Port", placeholderPort), "Incarnation", incarnation)
	return packedText(b, "Vsn", string([]byte{1, 5, protocolVersion, 0, 0, 0}))
}
