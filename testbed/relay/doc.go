// Package relay is a wide-area network for real processes on one machine: a
// user-space UDP relay that delays, drops and cuts.
//
// Every peer listens at a real address of its own and advertises an address
// of the relay instead (hansa agent --advertise). What peer a sends to b's
// advertised address arrives at b from a's advertised address, so both ends
// see one stable address for the other, and no packet bypasses the relay.
//
// Concurrency: all methods may be called from any goroutine. Run owns the
// goroutines.
package relay
