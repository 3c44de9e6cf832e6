package placement

import "time"

// Tuning holds delays and limits; zero fields are the defaults in brackets.
type Tuning struct {
	SubmitWait    time.Duration // how long a person waits for a quorum of copies [3s]
	Resend        time.Duration // until a message without an answer is sent again [500ms]
	AskGiveUp     time.Duration // until an ask without an answer has an unknown outcome and is planned again [5s]
	CensusWait    time.Duration // how long a new steward waits for holders that are alive [3s]
	MeasureWait   time.Duration // how long a plan waits for distances that it asked for [1s]
	ReserveExpiry time.Duration // of a reservation that is not committed [30s]
	ConfirmExpiry time.Duration // of a claim whose intent is not in the catalog [60s]
	PinExpiry     time.Duration // of the pin on the survivor of a duplicate [30s]
	ReportDelay   time.Duration // batches reports of status to keepers [50ms]
	ReportEvery   time.Duration // repeats reports, in case one was lost [20s]
	SummaryEvery  time.Duration // at most one summary an app in this time [1s]
	RoundMin      time.Duration // back-off of reconcile rounds that place nothing [500ms]
	RoundMax      time.Duration // and its end; also the slow round when all is well [10s]
	Calm          time.Duration // a keeper that came back is given its apps after this [60s]
	KeeperLost    time.Duration // a keeper that is dead for this long is replaced [5m]
	Grace         time.Duration // after a start, before a silent majority makes deputies [10s]
	MassWindow    time.Duration // sites lost within this time count together [10s]
	MassWait      time.Duration // how long a mass loss stops replacing [5m]
	Lease         time.Duration // of an exclusive slot, from when it is asked for [LeaseDefault]
	VolumeKeep    time.Duration // how long the volumes of a removed app are kept [7 days]
	RestartBudget int           // restarts in place of one slot in RestartWindow [5]
	RestartWindow time.Duration // [5m]
	RestartMin    time.Duration // back-off of restarts in place [1s]
	RestartMax    time.Duration // and its end [30s]

	// Reserve makes stewards reserve first and commit what they were offered: a
	// round trip more, for those that would look at the offer in between.
	Reserve bool

	// Schema is the newest schema of intents that this peer understands
	// [Schema]; a simulation of an upgrade gives its peers several.
	Schema int
	// Future adds a field that no release knows to every record that this peer
	// signs and every message that it sends, as a newer release may: nothing may
	// come of it, and nobody may lose it.
	Future bool

	// Reached is told of each rare branch that the core goes through; nil costs
	// nothing.
	Reached func(Mark)

	// Break switches off one safety rule, so that a simulation can show that
	// its checkers see it. Never set in a daemon.
	Break Fault
}

// Fault names a safety rule that a simulation switches off.
type Fault string

// The rules that can be switched off.
const (
	FaultNone     Fault = ""
	FaultSkipGate Fault = "skip-gate" // effects leave before their Persisted
	FaultNoFence  Fault = "no-fence"  // ledgers take orders of any term
	FaultRegrant  Fault = "re-grant"  // a repeated ask is granted again
	FaultOvergive Fault = "over-give" // ledgers do not count what is held but not on disk
	FaultTwoTerms Fault = "two-terms" // keepers grant one term number twice
	// FaultForgetTerm: ledgers answer before the term is on disk.
	FaultForgetTerm Fault = "forget-term"
	FaultNoCompare  Fault = "no-compare" // If-Match is not looked at
	FaultRemake     Fault = "re-make"    // a retried edit is made again
	// FaultKeepForever: what nobody committed or confirmed stays granted.
	FaultKeepForever Fault = "ignore-expiry"
	// FaultOldMajority: while the keepers change, those before decide alone.
	FaultOldMajority Fault = "old-majority"
	// FaultNewProposal: who raises a term does not go on with the list of keepers
	// that was accepted before.
	FaultNewProposal Fault = "new-proposal"
	// FaultTakeMove: a claim that is to replace another is taken for its duplicate.
	FaultTakeMove   Fault = "take-move-for-duplicate"
	FaultCountTwice Fault = "count-slot-twice" // a slot that is held twice counts for two
	// FaultSpendTwice: a roll-out does not count what it has taken on already.
	FaultSpendTwice Fault = "spend-twice"
	// FaultSkipLease: exclusive slots start without a lease.
	FaultSkipLease Fault = "skip-lease"
	// FaultIgnoreExpiry: holders of leases go on for an hour longer.
	FaultIgnoreExpiry Fault = "ignore-lease-expiry"
	// FaultLeaseRestart: a keeper that restarted takes no lease for in force.
	FaultLeaseRestart Fault = "lease-after-restart"
	// FaultShareVolume: a slot starts while an older copy has its volume open.
	FaultShareVolume Fault = "share-volume"
	// FaultSkipBytes: keepers say that they hold what they are still fetching.
	FaultSkipBytes Fault = "skip-bytes"
	// FaultNewVotes: a keeper whose store was lost votes on.
	FaultNewVotes Fault = "new-incarnation-votes"
)

// Faults are the rules that a simulation switches off one by one. Those about
// keepers that change are for TestNoTwoMajoritiesOfKeepers and its like: chance
// seldom brings about what shows them.
func Faults() []Fault {
	return []Fault{FaultSkipGate, FaultNoFence, FaultRegrant, FaultOvergive, FaultTwoTerms, FaultForgetTerm, FaultNoCompare, FaultRemake, FaultKeepForever,
		FaultTakeMove, FaultCountTwice, FaultSpendTwice, FaultSkipLease, FaultIgnoreExpiry, FaultLeaseRestart, FaultNewVotes, FaultShareVolume, FaultSkipBytes}
}

// winWait is how long a term that was granted may take to be acted under.
func (t Tuning) winWait() time.Duration { return 2 * t.CensusWait }

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

func (t Tuning) withDefaults() Tuning {
	for _, d := range []struct {
		v   *time.Duration
		def time.Duration
	}{
		{&t.SubmitWait, 3 * time.Second}, {&t.Resend, 500 * time.Millisecond}, {&t.AskGiveUp, 5 * time.Second},
		{&t.CensusWait, 3 * time.Second}, {&t.ReserveExpiry, 30 * time.Second}, {&t.ConfirmExpiry, time.Minute},
		{&t.MeasureWait, time.Second}, {&t.PinExpiry, 30 * time.Second}, {&t.ReportDelay, 50 * time.Millisecond}, {&t.ReportEvery, 20 * time.Second},
		{&t.SummaryEvery, time.Second}, {&t.RoundMin, 500 * time.Millisecond}, {&t.RoundMax, 10 * time.Second},
		{&t.Calm, time.Minute}, {&t.KeeperLost, 5 * time.Minute}, {&t.Grace, 10 * time.Second}, {&t.MassWindow, 10 * time.Second},
		{&t.MassWait, 5 * time.Minute}, {&t.RestartWindow, 5 * time.Minute},
		{&t.Lease, LeaseDefault}, {&t.VolumeKeep, volumeKeep}, {&t.RestartMin, time.Second}, {&t.RestartMax, 30 * time.Second},
	} {
		orDefault(d.v, d.def)
	}
	orDefault(&t.RestartBudget, 5)
	orDefault(&t.Schema, Schema)
	return t
}
