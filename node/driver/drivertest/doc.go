// Package drivertest is what "a driver" means: the conformance suite that
// every runtime passes, the fake one included.
//
// # Usage
//
// A driver's own test gives a Harness, which knows how to open a driver over
// the same machine state again and again (as a daemon's restarts do) and how
// to write a task that does one of a few simple things:
//
//	func TestConformance(t *testing.T) { drivertest.Run(t, harness) }
//
// Programs of the suite are Guest's verbs; a harness for real processes
// re-executes its test binary, which calls GuestMain first thing in TestMain.
// What can't apply to a runtime is said in Harness.Cannot, by test name with
// a reason, and shows as skipped. Eventually and LogText are for the tests that
// a driver has beside the suite.
package drivertest
