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

	m *message
}

// Inspect reads a message that a Send carries.
func Inspect(body []byte) (Inspection, error) {
	m, err := decodeMessage(body)
	if err != nil {
		return Inspection{}, err
	}
	return m.inspect(), nil
}

// Inspect says what a message that leaves a core is about, without reading its
// bytes again.
func (e Send) Inspect() Inspection { return e.m.inspect() }

func (m *message) inspect() Inspection {
	in := Inspection{m: m}
	switch {
	case m.Forward != nil:
		in.Kind, in.UID = "forward", m.Forward.UID
	case m.Forwarded != nil:
		in.Kind, in.UID = "forwarded", m.Forwarded.UID
	case m.Store != nil:
		in.Kind, in.UID, in.Term = "store", m.Store.UID, m.Store.Term
	case m.Stored != nil && m.Stored.Lists != nil:
		in.Kind, in.UID = "lists", m.Stored.UID
	case m.Stored != nil:
		in.Kind, in.UID = "stored", m.Stored.UID
	case m.Drop != nil:
		in.Kind, in.UID = "drop", m.Drop.UID
	case m.Raise != nil:
		in.Kind, in.UID = "raise", m.Raise.UID
	case m.Raised != nil:
		in.Kind, in.UID = "raised", m.Raised.UID
	case m.Hold != nil:
		in.Kind, in.UID, in.Term, in.Deputy = "hold", m.Hold.UID, m.Hold.Term, m.Hold.Deputy
	case m.Held != nil:
		in.Kind, in.UID = "held", m.Held.UID
	case m.Census != nil:
		in.Kind, in.UID = "census", m.Census.UID
	case m.Report != nil:
		in.Kind, in.UID = "report", m.Report.UID
	case m.Ask != nil:
		in.Kind, in.UID, in.Term, in.Deputy, in.Ask = "ask", m.Ask.UID, m.Ask.Term, m.Ask.Deputy, m.Ask.ID
	case m.Offer != nil:
		in.Kind, in.UID, in.Ask, in.Claim, in.Granted = "offer", m.Offer.UID, m.Offer.Ask, m.Offer.Claim, m.Offer.Granted
	case m.Commit != nil:
		in.Kind, in.UID, in.Term, in.Claim = "commit", m.Commit.UID, m.Commit.Term, m.Commit.Claim
	case m.Committed != nil:
		in.Kind, in.UID, in.Claim = "committed", m.Committed.UID, m.Committed.Claim
	case m.Release != nil:
		in.Kind, in.UID, in.Term, in.Deputy, in.Claim = "release", m.Release.UID, m.Release.Term, m.Release.Deputy, m.Release.Claim
	case m.Pin != nil:
		in.Kind, in.UID, in.Term, in.Claim = "pin", m.Pin.UID, m.Pin.Term, m.Pin.Claim
	case m.Pinned != nil:
		in.Kind, in.UID, in.Claim = "pinned", m.Pinned.UID, m.Pinned.Claim
	case m.Chronicle != nil:
		in.Kind, in.UID, in.Term = "chronicle", m.Chronicle.UID, m.Chronicle.Term
	case m.Chronicled != nil:
		in.Kind, in.UID = "chronicled", m.Chronicled.UID
	case m.Lease != nil:
		in.Kind = "lease"
	case m.Leased != nil:
		in.Kind = "leased"
	}
	return in
}

// Detail is what else a trace shows of a message.
func (in Inspection) Detail() string {
	switch m := in.m; in.Kind {
	case "forward":
		return m.Forward.Key.String()
	case "forwarded":
		return m.Forwarded.Kind
	case "lists":
		return fmt.Sprintf("epoch %d", m.Stored.Epoch)
	case "stored":
		return fmt.Sprintf("%d versions", len(m.Stored.Versions))
	case "raise":
		return fmt.Sprintf("term %d", m.Raise.Term.Number)
	case "raised":
		return fmt.Sprintf("term %d granted %t highest %d", m.Raised.Term.Number, m.Raised.Granted, m.Raised.Highest.Number)
	case "hold":
		return fmt.Sprint(m.Hold.Holders)
	case "report":
		text := ""
		for _, c := range m.Report.Claims {
			text += fmt.Sprintf("%s:%s/%s ", c.Component, c.Slots, c.Running)
		}
		return text
	case "ask":
		return fmt.Sprintf("%s slots %s", m.Ask.Component, m.Ask.Slots)
	case "offer":
		return fmt.Sprintf("granted %s refused %s %s", m.Offer.Granted, m.Offer.Refused, m.Offer.Reason)
	case "release":
		return fmt.Sprintf("%s %s", m.Release.Slots, m.Release.Reason)
	case "pin":
		return m.Pin.Slots.String()
	case "committed":
		return m.Committed.Not
	case "pinned":
		return m.Pinned.Slots.String()
	case "chronicle":
		text := fmt.Sprintf("number %d, %d revisions", m.Chronicle.Past.Seq, len(m.Chronicle.Past.Past))
		for _, name := range sortedKeys(m.Chronicle.Past.Rolls) {
			r := m.Chronicle.Past.Rolls[name]
			text += fmt.Sprintf("; %s %s %s", name, r.Verdict, r.Why)
		}
		return text
	case "chronicled":
		return fmt.Sprintf("number %d", m.Chronicled.Seq)
	case "lease":
		text := ""
		for _, it := range m.Lease.Items {
			text += fmt.Sprintf("%.6s %s[%d] number %d stands %t over %t; ", it.UID, it.Component, it.Slot, it.Number, it.Stands, it.Over)
		}
		return text
	case "leased":
		text := ""
		for _, it := range m.Leased.Items {
			text += fmt.Sprintf("%s[%d] number %d %s; ", it.Claim, it.Slot, it.Number, it.Not)
		}
		return text
	}
	return ""
}

// LeaseAsked is a lease that a holder asks a keeper for, or frees.
type LeaseAsked struct {
	UID    UID
	ID     AllocationID
	Number uint64
	Over   bool
}

// LeasesGranted is the allocations to which a message of a keeper grants a lease.
func (in Inspection) LeasesGranted() []AllocationID {
	if in.m == nil || in.m.Leased == nil {
		return nil
	}
	var out []AllocationID
	for _, it := range in.m.Leased.Items {
		if it.Not == "" && !it.Over {
			out = append(out, AllocationID{it.Claim, it.Slot})
		}
	}
	return out
}

// Leases is the leases that a message of a holder speaks of.
func (in Inspection) Leases() []LeaseAsked {
	if in.m == nil || in.m.Lease == nil {
		return nil
	}
	var out []LeaseAsked
	for _, it := range in.m.Lease.Items {
		out = append(out, LeaseAsked{it.UID, AllocationID{it.Claim, it.Slot}, it.Number, it.Over})
	}
	return out
}

// Kept is what a record in the keepers' own table holds.
type Kept struct {
	UID      UID
	Key      AppKey
	Versions []Version
	Alone    []Version // of Versions, those accepted below a majority
	Removed  bool
	Keepers  Keepers
	Next     Keepers // those that are to follow
	Term     Term
}

// ReadKept reads the value of a Write to a keeper's table (TableKeep), for
// tools and checkers.
func ReadKept(value []byte) (Kept, error) {
	var r keptRecord
	if err := Decode(value, &r); err != nil {
		return Kept{}, err
	}
	k := Kept{UID: r.UID, Key: r.Key, Term: r.Term}
	if len(r.Keepers.Body) > 0 {
		if err := Decode(r.Keepers.Body, &k.Keepers); err != nil {
			return Kept{}, err
		}
	}
	if len(r.Next.Body) > 0 {
		if err := Decode(r.Next.Body, &k.Next); err != nil {
			return Kept{}, err
		}
	}
	for _, s := range r.Intents {
		var i keptIntent
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

// keptRecord and keptIntent are those fields of a keepRecord and of an Intent
// that Kept shows.
type (
	keptRecord struct {
		UID     UID      `cbor:"u"`
		Key     AppKey   `cbor:"k"`
		Intents []Signed `cbor:"i"`
		Keepers Signed   `cbor:"l"`
		Next    Signed   `cbor:"x,omitzero"`
		Term    Term     `cbor:"t,omitzero"`
	}
	keptIntent struct {
		Version Version `json:"version"`
		Removed bool    `json:"removed"`
		Alone   bool    `json:"alone"`
	}
)

// Local tables, as Persist names them.
const (
	TableKeep   = tableKeep
	TablePast   = tablePast
	TableClaims = tableClaims
	TableTerms  = tableTerms
)

// Used is what the ledger has granted, and what the host has.
func (p *Peer) Used() (used, capacity Resources) { return p.ledger.used, p.ledger.capacity }

// ClaimTerm reads the app, and the term of the grant, from the value of a
// Write to TableClaims.
func ClaimTerm(value []byte) (uid UID, t Term, deputy bool) {
	var c claim
	if Decode(value, &c) != nil {
		return "", Term{}, false
	}
	return c.UID, c.Term, c.Deputy
}
