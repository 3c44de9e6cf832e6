// Package health finds out whether work works: it asks one allocation after
// another by HTTP, TCP, or a command run inside, and says when the answer
// changes.
//
// Usage: a Prober serves all allocations of a peer. Watch asks one of them until
// its context ends or it is to be restarted, and reports each change:
//
//	prober := health.NewProber()
//	prober.Watch(ctx, health.Subject{Check: spec.Health, …}, func(r health.Report) {…})
//
// What a check means is the drawing on placement.Health; Tracker is that drawing
// as a plain struct, without a clock.
//
// Concurrency: one goroutine for each Watch, and one for each check under way, of
// which there are at most netChecksMax and execChecksMax. A check that never
// answers costs its timeout, and no other check more than that.
//
// Invariants: at most one check of an allocation is under way; reports of one
// Watch come in order, from its own goroutine, and of one state after the first
// two at most one each reasonEvery. What a checked server answers is read up to a
// bound, and no proxy, cookie or redirect is followed.
package health
