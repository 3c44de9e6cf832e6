package gossip

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"slices"
	"time"
)

// Each peer tells a hash of all its tables whenever it has been the same for a
// moment, so that everybody knows who is equal without asking:
//
//	type 1 | owner 16 | generation 8 | counter 4 | hash 8
const (
	hashBytes   = 8
	hashMsgSize = 1 + 16 + 8 + 4 + hashBytes
)

// Every change of a table makes every peer tell another hash, so that they are most of
// what gossip carries in a mesh of hundreds. There each peer takes its time to tell, so
// that what changes meanwhile is told together, and in fewer copies; whom none reaches
// finds out by an exchange that the tables are equal.
const (
	hashesFew     = 50 // peers up to which hashes are told at once
	hashSpreadPer = 20 * time.Millisecond
	hashSpreadMax = 30 * time.Second
)

// hashSpread is how long after a change peers tell of it.
func hashSpread(peers int) time.Duration {
	if peers <= hashesFew {
		return 0
	}
	return min(time.Duration(peers)*hashSpreadPer, hashSpreadMax)
}

// hashNodes is what the queue of hashes takes for the size of the mesh: it makes twice
// as many copies in a small one.
func hashNodes(peers int) int {
	if peers <= hashesFew {
		return peers * peers
	}
	return peers
}

// tableState is what a peer told of its tables last.
type tableState struct {
	known      bool   // told, or found out by an exchange
	message    []byte // as told
	generation uint64
	counter    uint32
	hash       [hashBytes]byte
	at         time.Time
}

// hash covers all tables.
func (g *Gossip) hash() [hashBytes]byte {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(g.tables)) {
		sum := g.tables[name].replica.Hash()
		h.Write([]byte(name))
		h.Write([]byte{0})
		h.Write(sum[:])
	}
	return [hashBytes]byte(h.Sum(nil))
}

// announceHash tells the own hash if it changed and has come to rest, and says
// whether it is told. The caller holds mu.
func (g *Gossip) announceHash(hash [hashBytes]byte, now time.Time) bool {
	rested := hash == g.lastHash
	g.lastHash = hash
	a := &g.announced
	if !rested && !g.hashDue.After(a.at) { // once for each that is told, or it would never be due while tables change
		g.hashDue = now.Add(rand.N(hashSpread(int(g.size.Load())) + 1))
	}
	told := a.message != nil && a.generation == g.meta.Generation && a.hash == hash
	// Under constant change some state is told all the same, now and then.
	if len(g.tables) == 0 || told {
		return true
	}
	if !rested && now.Sub(a.at) < 2*time.Second || now.Before(g.hashDue) {
		return false
	}
	a.generation, a.counter, a.hash, a.at = g.meta.Generation, a.counter+1, hash, now
	o := ownerOf(g.cfg.Self)
	m := append(make([]byte, 0, hashMsgSize), hashMsg)
	m = append(m, o[:]...)
	m = binary.BigEndian.AppendUint64(m, a.generation)
	m = binary.BigEndian.AppendUint32(m, a.counter)
	a.message = append(m, hash[:]...)
	g.enqueue(g.hashes, "h/"+g.cfg.Self, a.message)
	return true
}

// tellAgain sends hash and digest once more, unchanged, after somebody came.
// Those who know them pass nothing on. The caller holds mu.
func (g *Gossip) tellAgain(now time.Time) {
	if !g.retell || now.Sub(g.retoldAt) < retellEvery {
		return
	}
	g.retell, g.retoldAt = false, now
	if g.announced.message != nil {
		g.enqueue(g.hashes, "h/"+g.cfg.Self, g.announced.message)
	}
	if g.own.message != nil {
		g.enqueue(g.notices, "d/"+g.cfg.Self, g.own.message)
	}
}

const retellEvery = 2 * time.Second

func (g *Gossip) takeHash(m []byte) {
	if len(m) != hashMsgSize || m[0] != hashMsg {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	id, ok := g.owners[owner(m[1:17])]
	p, known := g.peers[id]
	if !ok || !known {
		return
	}
	t := tableState{generation: binary.BigEndian.Uint64(m[17:]), counter: binary.BigEndian.Uint32(m[25:]),
		hash: [hashBytes]byte(m[29:]), at: time.Now()}
	old := &p.tables
	if t.generation < p.meta.Generation || t.generation < old.generation ||
		(t.generation == old.generation && t.counter <= old.counter && old.message != nil) {
		return
	}
	t.message, t.known = bytes.Clone(m), true
	p.tables = t
	poke(g.toSync)
	g.enqueue(g.hashes, "h/"+id, t.message)
}

// SettledView says why the mesh is settled or not, as this peer sees it.
type SettledView struct {
	Suspect []string // alive for all that is known, and not answering
	Differ  []string // their tables differ from this peer's
	Unknown []string // alive, and did not tell of their tables yet
	Unheard []string // dead or left: what they know is not known here
}

// Settled reports whether no peer is suspect and all live ones have the same
// tables. Peers that are unheard do not count, but are named.
func (g *Gossip) Settled() (bool, SettledView) {
	hash := g.hash()
	g.mu.Lock()
	defer g.mu.Unlock()
	var v SettledView
	for _, id := range slices.Sorted(maps.Keys(g.peers)) {
		p := g.peers[id]
		switch {
		case !p.reachable():
			v.Unheard = append(v.Unheard, id)
		case p.state == StateSuspect:
			v.Suspect = append(v.Suspect, id)
		case len(g.tables) == 0:
		case !p.tables.known:
			v.Unknown = append(v.Unknown, id)
		case p.tables.hash != hash:
			v.Differ = append(v.Differ, id)
		}
	}
	return len(v.Suspect)+len(v.Differ)+len(v.Unknown) == 0, v
}
