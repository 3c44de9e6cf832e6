package placement

// NewAsk is the message with which a steward asks for slots, for tools and
// benchmarks that speak to a core directly. The asker has no open ask below
// floor.
func NewAsk(id AskID, intent Signed, uid UID, term Term, component string, slots Slots, floor uint64) []byte {
	return Encode(message{V: messageVersion, Ask: &askMsg{
		ID: id, Floor: floor, UID: uid, Term: term, Intent: intent, Component: component, Slots: slots,
		Keepers: []PeerID{id.Asker},
	}})
}
