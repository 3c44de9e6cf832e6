package placement

import "cmp"

// messageVersion is the version of the envelope. A peer reads messages of any
// version whose kind it knows; unknown fields are skipped.
const messageVersion = 1

// message is what cores say to each other: one-way, and it may be lost,
// doubled, late or out of order. Exactly one field but V is set.
//
//	person's peer ── forward ──▶ steward          steward ── forwarded ──▶ person's peer
//	acceptor ── store ──▶ keeper                  keeper ── stored ──▶ acceptor
//	steward ── raise ──▶ keeper                   keeper ── raised ──▶ steward
//	steward ── hold ──▶ keeper                    keeper ── held ──▶ steward
//	steward ── census ──▶ holder                  holder ── report ──▶ steward and keepers
//	steward ── ask/commit/release/pin ──▶ ledger  ledger ── offer/committed/pinned ──▶ steward
//	steward ── chronicle ──▶ keeper               keeper ── chronicled ──▶ steward
//	holder of slots ── lease ──▶ keeper           keeper ── leased ──▶ holder of slots
type message struct {
	V         int           `cbor:"v"`
	Forward   *forwardMsg   `cbor:"fw,omitempty"`
	Forwarded *forwardedMsg `cbor:"fd,omitempty"`
	Store     *storeMsg     `cbor:"st,omitempty"`
	Stored    *storedMsg    `cbor:"sd,omitempty"`
	Drop      *dropMsg      `cbor:"dr,omitempty"`
	Raise     *raiseMsg     `cbor:"ra,omitempty"`
	Raised    *raisedMsg    `cbor:"rd,omitempty"`
	Hold      *holdMsg      `cbor:"ho,omitempty"`
	Held      *heldMsg      `cbor:"hd,omitempty"`
	Census    *censusMsg    `cbor:"ce,omitempty"`
	Report    *reportMsg    `cbor:"re,omitempty"`
	Ask       *askMsg       `cbor:"as,omitempty"`
	Offer     *offerMsg     `cbor:"of,omitempty"`
	Commit    *commitMsg    `cbor:"co,omitempty"`
	Committed *committedMsg `cbor:"cd,omitempty"`
	Release   *releaseMsg   `cbor:"rl,omitempty"`
	Pin       *pinMsg       `cbor:"pi,omitempty"`
	Pinned    *pinnedMsg    `cbor:"pd,omitempty"`
	Lease     *leaseMsg     `cbor:"le,omitempty"`
	Leased    *leasedMsg    `cbor:"ld,omitempty"`

	Chronicle  *chronicleMsg  `cbor:"ch,omitempty"`
	Chronicled *chronicledMsg `cbor:"cl,omitempty"`
}

type (
	// forwardMsg carries a person's edit to the steward. (From, Request) names
	// it, so that a repeated one is made once.
	forwardMsg struct {
		Request   requestID  `cbor:"r"`
		App       App        `cbor:"a"`
		Key       AppKey     `cbor:"k"`
		Artifacts []Artifact `cbor:"f,omitempty"`
		Remove    bool       `cbor:"x,omitempty"`
		IfMatch   string     `cbor:"m,omitempty"`
		IfNone    bool       `cbor:"n,omitempty"`
		MinCopies int        `cbor:"c,omitempty"`
		IdemKey   string     `cbor:"i,omitempty"`
		UID       UID        `cbor:"u,omitempty"` // of the app that the edit is for
		Copies    int        `cbor:"y,omitempty"`
	}

	forwardedMsg struct {
		Request requestID `cbor:"r"`
		Kind    string    `cbor:"e,omitempty"` // kind of error, "" for none
		Text    string    `cbor:"t,omitempty"`
		UID     UID       `cbor:"u,omitempty"`
		Version Version   `cbor:"v,omitzero"`
		ETag    string    `cbor:"g,omitempty"`
		Created bool      `cbor:"n,omitempty"`
		Peers   []PeerID  `cbor:"p,omitempty"`
		Quorum  bool      `cbor:"q,omitempty"`
		Notes   []string  `cbor:"o,omitempty"`
		Driver  PeerID    `cbor:"d,omitempty"` // whom to ask instead
	}

	// storeMsg asks a keeper to hold an intent and its bytes. Term is zero for
	// an edit accepted below a majority.
	storeMsg struct {
		UID     UID      `cbor:"u"`
		Term    Term     `cbor:"t,omitzero"`
		Intents []Signed `cbor:"i"`
		Keepers Signed   `cbor:"k"`
		Holders []PeerID `cbor:"h,omitempty"`
		From    []PeerID `cbor:"f,omitempty"` // who has the artifacts
		Next    Signed   `cbor:"x,omitzero"`  // the keepers that are to follow
	}

	storedMsg struct {
		UID      UID       `cbor:"u"`
		Versions []Version `cbor:"v"` // held on disk, with their artifacts
		Refused  Term      `cbor:"t,omitzero"`
		Gone     bool      `cbor:"g,omitempty"` // the app has ended, as this keeper knows

		Life  Incarnation `cbor:"l,omitempty"` // of this keeper's store
		Epoch uint64      `cbor:"e,omitempty"` // of its list on disk
		Next  Term        `cbor:"x,omitzero"`  // that the list on disk that is to follow was proposed under
		Lists *listsMsg   `cbor:"k,omitempty"` // for whoever follows an older list
	}

	// listsMsg is the lists that a keeper knows of.
	listsMsg struct {
		Now  Signed `cbor:"n"`
		Next Signed `cbor:"x,omitzero"`
	}

	// dropMsg takes back a store whose intent its acceptor could not write.
	dropMsg struct {
		UID     UID     `cbor:"u"`
		Version Version `cbor:"v"`
	}

	// raiseMsg asks a keeper for its vote on a term.
	raiseMsg struct {
		UID   UID   `cbor:"u"`
		Term  Term  `cbor:"t"`
		Asked int64 `cbor:"a,omitempty"` // when, on the asker's own clock: the answer repeats it
	}

	raisedMsg struct {
		UID     UID      `cbor:"u"`
		Term    Term     `cbor:"t"` // asked for
		Granted bool     `cbor:"g,omitempty"`
		Highest Term     `cbor:"m,omitzero"` // granted by this keeper so far
		Known   bool     `cbor:"n,omitempty"`
		Heard   Term     `cbor:"e,omitzero"` // the highest that somebody acts under, as far as it knows
		Holders []PeerID `cbor:"h,omitempty"`
		Intents []Signed `cbor:"i,omitempty"`

		Life  Incarnation `cbor:"l,omitempty"` // of this keeper's store
		Lists *listsMsg   `cbor:"k,omitempty"`
		Asked int64       `cbor:"a,omitempty"` // of what it answers
		Past  *chronicle  `cbor:"p,omitempty"` // of a vote that was granted
	}

	// holdMsg records at a keeper who was, or is about to be, asked.
	holdMsg struct {
		UID     UID      `cbor:"u"`
		Term    Term     `cbor:"t"`
		Holders []PeerID `cbor:"h"`
		Number  uint64   `cbor:"n"`
		Deputy  bool     `cbor:"d,omitempty"` // sent without a majority
	}

	heldMsg struct {
		UID    UID    `cbor:"u"`
		Number uint64 `cbor:"n"`
	}

	censusMsg struct {
		UID    UID    `cbor:"u"`
		Term   Term   `cbor:"t"`
		Deputy bool   `cbor:"d,omitempty"`
		Nonce  uint64 `cbor:"n"`
	}

	// reportMsg is everything that a peer holds of one app: a state, not a
	// delta, so that a lost or late one does no harm.
	reportMsg struct {
		UID    UID              `cbor:"u"`
		Peer   PeerRef          `cbor:"p"`
		Order  order            `cbor:"o"`
		Term   Term             `cbor:"t,omitzero"`  // the highest that its ledger has seen
		Nonce  uint64           `cbor:"n,omitempty"` // answers a census
		Claims []claimStatus    `cbor:"c,omitempty"`
		Failed map[string]Slots `cbor:"f,omitempty"` // given back after too many restarts, lately
		Why    string           `cbor:"w,omitempty"`
		Kept   map[string]Slots `cbor:"k,omitempty"` // by component: whose volumes lie here

		FailedSpecs map[string]uint64 `cbor:"h,omitempty"` // SpecHash of what of Failed failed last
		FailedWhy   map[string]string `cbor:"y,omitempty"` // why each of Failed did; without it Why is of all
		FailedFinal map[string]bool   `cbor:"z,omitempty"` // those of Failed that would fail there again
	}

	// claimStatus is one claim as others see it.
	claimStatus struct {
		ID           ClaimID  `cbor:"i"`
		Component    string   `cbor:"c"`
		Version      Version  `cbor:"v"`
		Spec         uint64   `cbor:"h"` // SpecHash of the component that runs
		Slots        Slots    `cbor:"s,omitzero"`
		Running      Slots    `cbor:"r,omitzero"`
		Fresh        Slots    `cbor:"q,omitzero"` // of Running: not for min_healthy yet, by the clock of its peer
		Stopping     Slots    `cbor:"x,omitzero"`
		Reserved     bool     `cbor:"w,omitempty"` // not committed yet
		Replaces     *ClaimID `cbor:"o,omitempty"`
		FirstRunning int64    `cbor:"f,omitempty"` // Unix milliseconds, 0 until it ran
		// What reconcile may go by, as in claim; peers of an older release leave it out.
		Again map[Slot]int64 `cbor:"y,omitempty"`
		Score *float64       `cbor:"z,omitempty"`
		// Unlisted: neither the version nor a later one is known to the claim's
		// peer. An older release does not say so, and its claims are waited for.
		Unlisted bool `cbor:"u,omitempty"`
		// Unhealthy slots run, and their checks fail.
		Unhealthy Slots `cbor:"b,omitzero"`
		// Of an exclusive claim: Ready waits for nothing but its lease.
		Exclusive bool  `cbor:"e,omitempty"`
		Ready     Slots `cbor:"l,omitzero"`
		// Why is what the first slot that does not run says of that.
		Why string `cbor:"k,omitempty"`
		// Unsure: its driver has not said yet what runs, as after a restart, so that
		// slots which are not among Running may do so.
		Unsure bool `cbor:"g,omitempty"`
	}

	// askMsg asks a ledger for slots. The intent's bytes come along, since the
	// catalog may be slower than the ask.
	askMsg struct {
		ID        AskID    `cbor:"i"`
		Floor     uint64   `cbor:"f"` // the asker has no open ask below this
		UID       UID      `cbor:"u"`
		Term      Term     `cbor:"t"`
		Deputy    bool     `cbor:"d,omitempty"`
		Intent    Signed   `cbor:"n"`
		Component string   `cbor:"c"`
		Slots     Slots    `cbor:"s"`
		Later     bool     `cbor:"l,omitempty"` // commit=later: reserve only
		Replaces  *ClaimID `cbor:"o,omitempty"`
		Keepers   []PeerID `cbor:"k"`
		Score     *float64 `cbor:"z,omitempty"` // of this peer in the plan that the ask is from
		// As is an earlier version of the app that the component is to run as, since
		// a roll-out was reverted; that of Intent if it has no body.
		As Signed `cbor:"b,omitzero"`
	}

	offerMsg struct {
		Ask       AskID   `cbor:"i"`
		UID       UID     `cbor:"u"`
		Claim     ClaimID `cbor:"c,omitzero"`
		Granted   Slots   `cbor:"g,omitzero"`
		Refused   Slots   `cbor:"r,omitzero"`
		Reason    string  `cbor:"w,omitempty"`
		Fence     Term    `cbor:"t,omitzero"` // the higher term that refused it
		Price     float64 `cbor:"p,omitempty"`
		ExpiresIn int64   `cbor:"e,omitempty"` // milliseconds, of a reservation
		Digest    Digest  `cbor:"d"`
		Order     order   `cbor:"o"` // reports after this one list the claim
	}

	commitMsg struct {
		UID   UID     `cbor:"u"`
		Term  Term    `cbor:"t"`
		Claim ClaimID `cbor:"c"`
	}

	// committedMsg says that a reservation is work now, on disk; or why it never
	// will be: it expired, or this life of the store never knew it.
	committedMsg struct {
		UID   UID     `cbor:"u"`
		Term  Term    `cbor:"t"`
		Claim ClaimID `cbor:"c"`
		Not   string  `cbor:"n,omitempty"` // "", commitExpired or commitUnknown
	}

	// releaseMsg gives a claim back, or the part of it in Slots.
	releaseMsg struct {
		UID     UID     `cbor:"u"`
		Term    Term    `cbor:"t"`
		Version Version `cbor:"v"` // of the intent that the order is made from
		Claim   ClaimID `cbor:"c"`
		Slots   Slots   `cbor:"s,omitzero"` // empty: all
		Reason  string  `cbor:"w,omitempty"`
		Order   uint64  `cbor:"o"` // rises with each order of one steward under one term
		// Deputy: for a newer version that was accepted on this side of a cut; the
		// claim's peer sees for itself whether that is so.
		Deputy bool `cbor:"d,omitempty"`
		// Behind: the slots run elsewhere and have their volumes there.
		Behind bool `cbor:"b,omitempty"`
	}

	// pinMsg asks the survivor of a duplicate to confirm that it is healthy
	// and to refuse its own release for a while.
	pinMsg struct {
		UID   UID     `cbor:"u"`
		Term  Term    `cbor:"t"`
		Claim ClaimID `cbor:"c"`
		Slots Slots   `cbor:"s"`
		Order uint64  `cbor:"o"` // rises with each order of one steward under one term
	}

	pinnedMsg struct {
		UID   UID     `cbor:"u"`
		Term  Term    `cbor:"t"`
		Claim ClaimID `cbor:"c"`
		Slots Slots   `cbor:"s,omitzero"` // those that run and are pinned now
	}
)

// order orders what one peer says of itself, over restarts and empty disks.
type order struct {
	Incarnation Incarnation `cbor:"i"`
	Boot        uint64      `cbor:"b"`
	Seq         uint64      `cbor:"s"`
}

func (o order) compare(p order) int {
	return cmp.Or(cmp.Compare(o.Incarnation, p.Incarnation), cmp.Compare(o.Boot, p.Boot), cmp.Compare(o.Seq, p.Seq))
}

// requestID names a forwarded edit: its counter at the peer that a person
// asked, in that life of its store.
type requestID struct {
	Peer        PeerID      `cbor:"p"`
	Incarnation Incarnation `cbor:"i"`
	Count       uint64      `cbor:"c"`
}

// decodeMessage reads a message of another peer and holds it against the
// bounds.
func decodeMessage(data []byte) (message, error) {
	var m message
	if err := Decode(data, &m); err != nil {
		return m, err
	}
	return m, m.check(len(data))
}
