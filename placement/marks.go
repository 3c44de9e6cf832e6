package placement

// Mark names a rare branch of the core. A simulation shows which it reached, so
// that one which no test goes through is known by its name.
type Mark string

// mark tells whoever wants to know that a branch was reached.
func (t *Tuning) mark(m Mark) {
	if t.Reached != nil {
		t.Reached(m)
	}
}

// The marks, each where its name is used in the core.
const (
	MarkAborted            Mark = "aborted"              // a grant that the disk did not take
	MarkAskFenced          Mark = "ask-fenced"           // an ask under a lower term
	MarkAskGivenUp         Mark = "ask-given-up"         // an ask without an answer
	MarkAskOfClockAhead    Mark = "ask-of-clock-ahead"   // an ask of a clock far ahead
	MarkAskOfEarlierLife   Mark = "ask-of-earlier-life"  // an ask of an earlier life of the asker
	MarkAskOfNewer         Mark = "ask-of-newer"         // an ask of an app of a newer release
	MarkAskOfOlderVersion  Mark = "ask-of-older-version" // an ask from an older version
	MarkAskOfRemoved       Mark = "ask-of-removed"       // an ask of a removed app
	MarkAskRepeated        Mark = "ask-repeated"         // an ask that was granted came again
	MarkAskSpent           Mark = "ask-spent"            // an ask whose claim is gone came again
	MarkAskWhileCordoned   Mark = "ask-while-cordoned"   // an ask at a cordoned host
	MarkAskedUnsure        Mark = "asked-unsure"         // a report that cannot be built on
	MarkBackWithin         Mark = "back-within"          // a peer is away as it announced
	MarkBegunAnew          Mark = "begun-anew"           // a person's restart
	MarkBookedAgain        Mark = "booked-again"         // work whose claim was lost
	MarkBudgetUsedUp       Mark = "budget-used-up"       // a slot ended once too often
	MarkCensusWaitedOut    Mark = "census-waited-out"    // holders did not answer in time
	MarkClaimsOutlast      Mark = "claims-outlast"       // claims of a version that came to nothing
	MarkClockAhead         Mark = "clock-ahead"          // a version of a clock far ahead
	MarkCommitExpired      Mark = "commit-expired"       // a commit that came too late
	MarkCommitUnknown      Mark = "commit-unknown"       // a commit of another life
	MarkCounterNotWritten  Mark = "counter-not-written"  // numbers ran into a full disk
	MarkDeposed            Mark = "deposed"              // a steward ended for a higher term
	MarkDropTooLate        Mark = "drop-too-late"        // a version stands that was to be taken back
	MarkDuplicateEnded     Mark = "duplicate-ended"      // the other of two copies was released
	MarkEditLostMajority   Mark = "edit-lost-majority"   // an edit under a term became one made alone
	MarkEditNotWritten     Mark = "edit-not-written"     // an edit that the disk did not take
	MarkEditOfNewer        Mark = "edit-of-newer"        // an edit of an app of a newer release
	MarkEditRefused        Mark = "edit-refused"         // an edit lost to a higher term
	MarkEditRetried        Mark = "edit-retried"         // a retry got the recorded answer
	MarkEditSentOn         Mark = "edit-sent-on"         // one refused, which named no version, went on to who holds that term
	MarkEditedAlone        Mark = "edited-alone"         // an edit below a majority
	MarkForwardUnanswered  Mark = "forward-unanswered"   // the steward never answered
	MarkFoundGivenBack     Mark = "found-given-back"     // work whose claim was given back
	MarkGivenBackHost      Mark = "given-back-host"      // a slot whose host is gone, and which goes to no other
	MarkHandedBack         Mark = "handed-back"          // the first keeper leads again after calm
	MarkLearned            Mark = "learned"              // a version came with a vote
	MarkLeftOver           Mark = "left-over"            // a keeper forgot what ended elsewhere
	MarkLetGo              Mark = "let-go"               // booked again, and it ended
	MarkListedTooLate      Mark = "listed-too-late"      // a table lists what ended before
	MarkMadeRoom           Mark = "made-room"            // an old slot made room for a new one
	MarkMassLossOver       Mark = "mass-loss-over"       // what was lost at once came back
	MarkMassLossWaits      Mark = "mass-loss-waits"      // replacing waits, too much was lost at once
	MarkMovedHost          Mark = "moved-host"           // a slot whose host is gone went to another
	MarkNeverConfirmed     Mark = "never-confirmed"      // a claim whose intent never came
	MarkOutlivedRemoval    Mark = "outlived-removal"     // an edit outlived a removal
	MarkPastRefused        Mark = "past-refused"         // a chronicle under a lower term
	MarkPinOfNothing       Mark = "pin-of-nothing"       // a pin of a claim that is not there
	MarkReleaseNotWritten  Mark = "release-not-written"  // a release that the disk did not take
	MarkReleaseOutdated    Mark = "release-outdated"     // a release from an older version
	MarkReleasePinned      Mark = "release-pinned"       // a release that a pin held off
	MarkReservationExpired Mark = "reservation-expired"  // a reservation that nobody committed
	MarkRestated           Mark = "restated"             // what stands was written anew
	MarkReverted           Mark = "reverted"             // a roll-out came to nothing, and was undone
	MarkStalled            Mark = "stalled"              // a roll-out came to nothing, and stopped
	MarkStoreRefused       Mark = "store-refused"        // a store under a lower term
	MarkStoredTooLate      Mark = "stored-too-late"      // a store of an app that has ended
	MarkTakenBackAgain     Mark = "taken-back-again"     // a version that was taken back came again
	MarkTermDoubted        Mark = "term-doubted"         // a ledger said that a term is over
	MarkTooFewCopies       Mark = "too-few-copies"       // MinCopies was not in reach
	MarkVolumeBack         Mark = "volume-back"          // a parked volume whose app was not removed after all
	MarkVolumeDropped      Mark = "volume-dropped"       // a volume that is over
	MarkVolumeFound        Mark = "volume-found"         // a volume on disk that the store does not know
	MarkVolumeLeft         Mark = "volume-left"          // a slot that starts anew without its volume
	MarkVolumeShared       Mark = "volume-shared"        // a slot that waits for the copy before it
	MarkVoteRefused        Mark = "vote-refused"         // a keeper refused its vote
)

// Marks are all of them, sorted.
func Marks() []Mark {
	return []Mark{
		MarkAborted, MarkAskFenced, MarkAskGivenUp, MarkAskOfClockAhead, MarkAskOfEarlierLife, MarkAskOfNewer,
		MarkAskOfOlderVersion, MarkAskRepeated, MarkAskSpent, MarkAskWhileCordoned, MarkAskedUnsure,
		MarkBackWithin, MarkBegunAnew, MarkBookedAgain, MarkBudgetUsedUp, MarkCensusWaitedOut, MarkClaimsOutlast, MarkClockAhead,
		MarkCommitExpired, MarkCommitUnknown, MarkCounterNotWritten, MarkDeposed, MarkDropTooLate, MarkDuplicateEnded,
		MarkEditLostMajority, MarkEditNotWritten, MarkEditOfNewer, MarkEditRefused, MarkEditRetried, MarkEditSentOn, MarkEditedAlone,
		MarkForwardUnanswered, MarkGivenBackHost, MarkHandedBack, MarkLearned, MarkLeftOver, MarkLetGo,
		MarkListedTooLate, MarkMadeRoom, MarkMassLossOver, MarkMassLossWaits, MarkMovedHost, MarkNeverConfirmed, MarkOutlivedRemoval,
		MarkPastRefused, MarkPinOfNothing, MarkReleaseNotWritten, MarkReleaseOutdated, MarkReleasePinned, MarkReservationExpired,
		MarkRestated, MarkReverted, MarkStalled, MarkStoreRefused, MarkStoredTooLate, MarkTakenBackAgain, MarkTermDoubted, MarkTooFewCopies,
		MarkVolumeBack, MarkVolumeDropped, MarkVolumeFound, MarkVolumeLeft, MarkVolumeShared, MarkVoteRefused,
	}
}
