package placement

import "fmt"

// Inspection is what a message is about, for traces and for checkers.
type Inspection struct {
	Kind    string
	UID     UID
	Term    Term // the term that an order is given under; zero when it has none
	Deputy  bool
	Ask     AskID
	Claim   ClaimID
	Granted Slots
	Detail  string
}

// Inspect reads a message that a Send carries.
func Inspect(body []byte) (Inspection, error) {
	m, err := decodeMessage(body)
	if err != nil {
		return Inspection{}, err
	}
	switch {
	case m.Forward != nil:
		return Inspection{Kind: "forward", Detail: m.Forward.Key.String()}, nil
	case m.Forwarded != nil:
		return Inspection{Kind: "forwarded", UID: m.Forwarded.UID, Detail: m.Forwarded.Kind}, nil
	case m.Store != nil:
		return Inspection{Kind: "store", UID: m.Store.UID, Term: m.Store.Term}, nil
	case m.Stored != nil:
		return Inspection{Kind: "stored", UID: m.Stored.UID, Detail: fmt.Sprintf("%d versions", len(m.Stored.Versions))}, nil
	case m.Drop != nil:
		return Inspection{Kind: "drop", UID: m.Drop.UID}, nil
	case m.Raise != nil:
		return Inspection{Kind: "raise", UID: m.Raise.UID, Detail: fmt.Sprintf("term %d", m.Raise.Term.Number)}, nil
	case m.Raised != nil:
		return Inspection{Kind: "raised", UID: m.Raised.UID,
			Detail: fmt.Sprintf("term %d granted %t highest %d", m.Raised.Term.Number, m.Raised.Granted, m.Raised.Highest.Number)}, nil
	case m.Hold != nil:
		return Inspection{Kind: "hold", UID: m.Hold.UID, Term: m.Hold.Term, Deputy: m.Hold.Deputy, Detail: fmt.Sprint(m.Hold.Holders)}, nil
	case m.Held != nil:
		return Inspection{Kind: "held", UID: m.Held.UID}, nil
	case m.Census != nil:
		return Inspection{Kind: "census", UID: m.Census.UID}, nil
	case m.Report != nil:
		in := Inspection{Kind: "report", UID: m.Report.UID}
		for _, c := range m.Report.Claims {
			in.Detail += fmt.Sprintf("%s:%s/%s ", c.Component, c.Slots, c.Running)
		}
		return in, nil
	case m.Ask != nil:
		return Inspection{Kind: "ask", UID: m.Ask.UID, Term: m.Ask.Term, Deputy: m.Ask.Deputy, Ask: m.Ask.ID,
			Detail: fmt.Sprintf("%s slots %s", m.Ask.Component, m.Ask.Slots)}, nil
	case m.Offer != nil:
		return Inspection{Kind: "offer", UID: m.Offer.UID, Ask: m.Offer.Ask, Claim: m.Offer.Claim, Granted: m.Offer.Granted,
			Detail: fmt.Sprintf("granted %s refused %s %s", m.Offer.Granted, m.Offer.Refused, m.Offer.Reason)}, nil
	case m.Commit != nil:
		return Inspection{Kind: "commit", UID: m.Commit.UID, Term: m.Commit.Term, Claim: m.Commit.Claim}, nil
	case m.Release != nil:
		return Inspection{Kind: "release", UID: m.Release.UID, Term: m.Release.Term, Claim: m.Release.Claim,
			Detail: fmt.Sprintf("%s %s", m.Release.Slots, m.Release.Reason)}, nil
	case m.Pin != nil:
		return Inspection{Kind: "pin", UID: m.Pin.UID, Term: m.Pin.Term, Claim: m.Pin.Claim, Detail: m.Pin.Slots.String()}, nil
	case m.Committed != nil:
		return Inspection{Kind: "committed", UID: m.Committed.UID, Claim: m.Committed.Claim, Detail: m.Committed.Not}, nil
	default:
		return Inspection{Kind: "pinned", UID: m.Pinned.UID, Claim: m.Pinned.Claim, Detail: m.Pinned.Slots.String()}, nil
	}
}

// Kept is what a record in the keepers' own table holds.
type Kept struct {
	UID      UID
	Key      AppKey
	Versions []Version
	Alone    []Version // of Versions, those accepted below a majority
	Removed  bool
	Keepers  Keepers
	Term     Term
}

// ReadKept reads the value of a Write to a keeper's table (TableKeep), for
// tools and checkers.
func ReadKept(value []byte) (Kept, error) {
	var r keepRecord
	if err := Decode(value, &r); err != nil {
		return Kept{}, err
	}
	k := Kept{UID: r.UID, Key: r.Key, Term: r.Term}
	if len(r.Keepers.Body) > 0 {
		if err := Decode(r.Keepers.Body, &k.Keepers); err != nil {
			return Kept{}, err
		}
	}
	for _, s := range r.Intents {
		var i Intent
		if err := Decode(s.Body, &i); err != nil {
			return Kept{}, err
		}
		k.Versions = append(k.Versions, i.Version)
		k.Removed = k.Removed || i.Removed
		if i.Alone {
			k.Alone = append(k.Alone, i.Version)
		}
	}
	return k, nil
}

// Local tables, as Persist names them.
const (
	TableKeep   = tableKeep
	TableClaims = tableClaims
	TableTerms  = tableTerms
)

// Used is what the ledger has granted, and what the host has.
func (p *Peer) Used() (used, capacity Resources) { return p.ledger.used, p.ledger.host.Capacity }

// ClaimTerm reads the app, and the term of the grant, from the value of a
// Write to TableClaims.
func ClaimTerm(value []byte) (uid UID, t Term, deputy bool) {
	var c claim
	if Decode(value, &c) != nil {
		return "", Term{}, false
	}
	return c.UID, c.Term, c.Deputy
}
