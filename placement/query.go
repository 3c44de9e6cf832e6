package placement

// Tables are the names of the tables that Persist writes and Load reads.
func (p *Peer) Tables() []string {
	return []string{tableKeep, tableEnded, tablePast, tableMeta, tableClaims, tablePlaces, tableAskers, tableTerms, tableVolumes, tableCuts, tableLeases, tableLeaseApps}
}

// Candidates are the peers as a plan made now would see them, this one among
// them.
func (p *Peer) Candidates(now Now) []Candidate {
	p.ownDigest(now)
	return p.members.candidates(now.Mono)
}

// RunningAt are the peers where slots of a component run, as far as this peer
// heard, sorted.
func (p *Peer) RunningAt(key AppKey, component string) []PeerID {
	a := p.find(key)
	if a == nil {
		return nil
	}
	running := map[PeerID]bool{}
	for id, sum := range p.catalog.status[a.uid] {
		if sum.count(component, AllocRunning) > 0 {
			running[id] = true
		}
	}
	for id, r := range a.rows {
		for _, c := range r.claims() {
			if c.Component == component && c.Running.Len() > 0 {
				running[id] = true
			}
		}
	}
	return sortedKeys(running)
}

// Siblings are all versions that stand side by side under a name, the winner
// first.
func (p *Peer) Siblings(key AppKey) []Intent {
	win := p.find(key)
	if win == nil {
		return nil
	}
	out := []Intent{win.win.intent}
	for _, uid := range sortedKeys(p.byKey[key]) {
		for _, v := range p.apps[uid].versions {
			if uid != win.uid || v.intent.Version != win.win.intent.Version {
				out = append(out, v.intent)
			}
		}
	}
	return out
}
