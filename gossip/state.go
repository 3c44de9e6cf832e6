package gossip

import (
	"fmt"
	"time"
)

// saved is what outlives a restart: where peers were, how far away they seemed,
// and how often this one was started.
type saved struct {
	Generation uint64      `cbor:"1,keyasint"`
	Sequence   uint64      `cbor:"2,keyasint,omitempty"` // of the digest
	Coord      []byte      `cbor:"3,keyasint,omitempty"`
	Peers      []savedPeer `cbor:"4,keyasint,omitempty"`
}

type savedPeer struct {
	ID     string `cbor:"1,keyasint"`
	Addr   string `cbor:"2,keyasint,omitempty"`
	Sealed []byte `cbor:"3,keyasint,omitempty"` // its metadata, verified again on loading
	Coord  []byte `cbor:"4,keyasint,omitempty"`
}

// load takes what was saved. A state that cannot be decoded is only a loss of
// convenience, and is told.
func (g *Gossip) load() error {
	g.meta.Generation = uint64(max(time.Now().UnixMilli(), 1))
	if g.cfg.Load == nil {
		return nil
	}
	b, err := g.cfg.Load()
	if err != nil {
		return fmt.Errorf("load gossip state: %w", err)
	}
	if b == nil {
		return nil
	}
	var s saved
	if err := decoder.Unmarshal(b, &s); err != nil {
		g.cfg.Logger.Warn("gossip state is not readable, starting without", "error", err)
		return nil
	}
	// A clock that went back must not make this peer older than it was.
	g.meta.Generation = max(g.meta.Generation, s.Generation+1)
	g.own.sequence = s.Sequence
	g.coords.Restore(s.Coord)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, sp := range s.Peers {
		if sp.ID == g.cfg.Self {
			continue
		}
		p, key, err := g.admit(sp.ID)
		if err != nil {
			continue
		}
		p.addr = sp.Addr
		if len(sp.Sealed) > 0 {
			if err := g.learnMeta(p, sp.Sealed, key); err != nil {
				g.cfg.Logger.Debug("saved metadata is not good", "peer", sp.ID, "error", err)
			}
			p.heard = time.Time{}
		}
		if p.addr != "" {
			g.cfg.Learn(p.id, p.addr)
		}
		g.coords.Hearsay(sp.ID, sp.Coord)
	}
	return nil
}

func (g *Gossip) save() error {
	if g.cfg.Save == nil {
		return nil
	}
	coord := g.coords.Own()
	g.mu.Lock()
	s := saved{Generation: g.meta.Generation, Sequence: g.own.sequence, Coord: coord}
	for id, p := range g.peers {
		s.Peers = append(s.Peers, savedPeer{ID: id, Addr: p.addr, Sealed: p.sealed, Coord: g.coords.Of(id)})
	}
	g.unsaved = false
	g.mu.Unlock()
	b, err := encoder.Marshal(s)
	if err == nil {
		err = g.cfg.Save(b)
	}
	if err != nil {
		return fmt.Errorf("save gossip state: %w", err)
	}
	return nil
}
