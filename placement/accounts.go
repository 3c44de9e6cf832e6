package placement

import "strings"

// This file is how a ledger that was lost is made whole. What an earlier life of
// the store granted is known to the drivers alone, from the labels of what runs
// (rebook). Until each driver of the hosts has said once, in this life, what that
// is, nothing is granted on any: it would be granted what other work has. After
// that the ledger knows, and no driver need wait for another.

// keyBooked begins the keys, in tableMeta, of the drivers that have said so; the
// value is the store's incarnation then.
const keyBooked = "booked/"

// loadBooked restores one of them. A store that was restored has those of another
// life.
func (l *Ledger) loadBooked(key string, value []byte) error {
	var then Incarnation
	err := Decode(value, &then)
	l.booked[strings.TrimPrefix(key, keyBooked)] = err == nil && then == l.self.Incarnation
	return err
}

// unbooked is why nothing can be granted yet on any driver, or "".
func (l *Ledger) unbooked() string {
	for _, driver := range sortedKeys(l.drivers) {
		if !l.listed[driver] && !l.booked[driver] {
			return "driver " + driver + " has not yet said what it runs, and this peer's store is too new to know"
		}
	}
	return ""
}

// allListed says whether each driver of the hosts has said what it runs since the
// start.
func (l *Ledger) allListed() bool {
	for driver := range l.drivers {
		if !l.listed[driver] {
			return false
		}
	}
	return l.knownHosts > 0
}

// book writes the claims that were booked again from what a driver listed, and
// with them that it has listed it.
func (p *Peer) book(driver string, claims map[ClaimID]bool) {
	var writes []Write
	for _, c := range p.ledger.sorted() {
		if claims[c.ID] {
			writes = append(writes, p.ledger.writePlaced(c)...)
		}
	}
	if !p.ledger.booked[driver] {
		writes = append(writes, Write{Table: tableMeta, Key: keyBooked + driver, Value: Encode(p.cfg.Self.Incarnation)})
	}
	if len(writes) == 0 {
		return
	}
	p.out.persist(writes, func(failed *PersistFailed) {
		if failed == nil {
			p.ledger.booked[driver] = true
		}
	})
}
