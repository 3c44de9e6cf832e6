// Package runner turns the core's Start and Stop into calls of drivers, and
// what drivers report into the core's WorkChanged events.
//
// Usage: Start and Stop only note what is wanted and return; one goroutine for
// each allocation carries it out, so a driver that is slow with one allocation
// delays no other. List asks the drivers what they run already, for
// re-adoption, before anything is started.
//
// Concurrency: all methods may be called from any goroutine. Run owns the
// goroutines, the drivers' included.
//
// Invariants: the calls for one allocation never overlap; a Stop that follows
// a Start wins, and a Start that follows a Stop waits until that is done.
package runner
