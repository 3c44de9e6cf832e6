// Package invoke brings an HTTP request to a function: to an instance at this
// peer, or to the nearest peer that runs one, over one transport stream.
//
// Usage: a Router calls (Call) and answers the calls of other peers (Serve);
// Serve only ever calls instances at this peer, so that a request is
// forwarded at most once.
//
// A peer that died a moment ago looks alive until failure detection has its
// verdict. A request that may be repeated (GET, HEAD, OPTIONS) is therefore
// sent to the next nearest peer too when no answer has begun after HedgeAfter
// and the first answer wins; any other is repeated only where it certainly
// was not executed.
//
// Concurrency: all methods may be called from any goroutine.
package invoke
