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
// Programs of the suite are Guest's verbs ("exit 3", "hog BYTES", "listen NAME",
// …); a harness for real processes re-executes its test binary, which calls
// GuestMain first thing in TestMain; one for containers or machines packs that
// binary (built with CGO_ENABLED=0 it needs nothing beside it).
//
// What a runtime can't do is said by fields of Machine that stay empty, and
// test by test, with a reason, in Harness.Cannot; it shows as skipped. What a
// machine can't do shows in Probe: a limit that is not enforced is not tested.
// Eventually and LogText are for the tests that a driver has beside the suite.
package drivertest
