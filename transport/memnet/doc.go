// Package memnet is a packet network in memory, with latency, jitter, loss,
// cuts and capped links: for tests in virtual time (it owns no goroutine, and
// waits only on timers and channels, so that a synctest bubble sees it at
// rest), and for the WAN that 'hansa dev' simulates in real time.
//
// Usage: New, Listen at addresses such as "10.0.1.1:7600", then SetLink, SetCap,
// Cut, Partition and Heal by address.
//
// Concurrency: all methods may be called from any goroutine.
package memnet
