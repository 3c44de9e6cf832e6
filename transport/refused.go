package transport

// Refusals are the peers that turned this one away when it called last, and what
// they said.
func (t *Transport) Refusals() map[string]string {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := map[string]string{}
	for id, p := range t.peers {
		if len(p.conns) == 0 && p.failed != nil && KindOf(p.failed) == KindForbidden {
			out[id] = p.failed.Error()
		}
	}
	return out
}
