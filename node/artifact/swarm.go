package artifact

import (
	"math/rand/v2"
	"time"
)

const (
	// swarmAge is for how long others hear of a peer that asked for a file.
	swarmAge  = 30 * time.Second
	swarmMax  = 256  // peers
	swarmsMax = 256  // files
	sentMax   = 1024 // bytes that are told each time; of a larger file chunks are rarely the same
)

// swarm is who asked this peer for one file of late: they have a part of it, or
// soon will.
type swarm struct {
	peers map[string]time.Time // when they were heard
	heard time.Time
	sent  bitset // the chunks that any of them was sent, in this round
}

// met notes that a peer wants a file.
func (m *Mover) met(digest, peer string) {
	now := time.Now()
	m.mu.Lock()
	s := m.swarms[digest]
	if s == nil {
		if len(m.swarms) >= swarmsMax {
			m.forgetSwarms(now)
		}
		s = &swarm{peers: map[string]time.Time{}}
		m.swarms[digest] = s
	}
	_, known := s.peers[peer]
	if !known && len(s.peers) >= swarmMax {
		for p, heard := range s.peers { // any is as good
			if now.Sub(heard) > swarmAge || len(s.peers) >= swarmMax {
				delete(s.peers, p)
			}
		}
	}
	s.peers[peer], s.heard = now, now
	f := m.underway[digest]
	m.mu.Unlock()
	if f != nil && !known { // who asks for it may have what this peer lacks
		f.found([]string{peer})
	}
}

// forgetSwarms makes room for one. The caller holds mu.
func (m *Mover) forgetSwarms(now time.Time) {
	for digest, s := range m.swarms {
		if now.Sub(s.heard) > swarmAge {
			delete(m.swarms, digest)
		}
	}
	for digest := range m.swarms {
		if len(m.swarms) < swarmsMax {
			return
		}
		delete(m.swarms, digest)
	}
}

// sending notes that a chunk of so many is sent to someone.
func (m *Mover) sending(digest string, i, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.swarms[digest]
	if s == nil {
		return
	}
	if len(s.sent) != (n+7)/8 || s.sent.count() == n { // the first round, or the next
		s.sent = newBitset(n)
	}
	s.sent.set(i)
}

// sent are the chunks that others were sent, so that an asker takes another: it
// has then something to give them.
func (m *Mover) sent(digest string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.swarms[digest]
	if s == nil || len(s.peers) < 2 || len(s.sent) > sentMax {
		return nil
	}
	return append([]byte{}, s.sent...)
}

// peersOf are some of those that a peer should ask for a file.
func (m *Mover) peersOf(digest, asker string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.swarms[digest]
	if s == nil {
		return nil
	}
	var peers []string
	for p, heard := range s.peers {
		if p != asker && time.Since(heard) < swarmAge {
			peers = append(peers, p)
		}
	}
	rand.Shuffle(len(peers), func(i, j int) { peers[i], peers[j] = peers[j], peers[i] })
	return peers[:min(len(peers), peersMax)]
}
