// Package api is the HTTP admin API of a peer, the same at every peer, with
// its Go client: handlers, types and client in one package, so that they can't
// drift apart.
//
// # Usage
//
// The node implements Backend in terms of the types here and hands it to New:
//
//	srv, err := api.New(api.Config{Backend: node, Addr: "127.0.0.1:7601"})
//	if err != nil { ... }            // for instance: an open address without TLS and token
//	if err := srv.Listen(); err != nil { ... }
//	err = srv.Run(ctx)               // blocks; ends gracefully with ctx
//
//	c, err := api.NewClient("127.0.0.1:7601", token, api.ClientOptions{})
//	apps, err := c.Apps(ctx, api.AppQuery{})
//
// # Concurrency
//
// A Server calls its Backend from many goroutines at once. A Client may be
// used from many goroutines.
//
// # Invariants
//
//   - Every error leaves as application/problem+json (Problem); kinds.go alone
//     says which error is which status and which exit code.
//   - A request never ends the process: a panic is contained, logged and
//     answered with 500.
//   - What is not on loopback needs TLS and a token; what is on loopback is
//     guarded against other origins and rebound names (guard.go).
//   - Times are RFC 3339 in UTC, sets of slots are "0-5,8", and every list says
//     how old each peer's part of it is.
//
// # Debugging
//
// Every answer carries Hansa-Request-Id, which is also in the access log (level
// debug) and in the log line of a panic. /debug/pprof and /debug/state are
// behind the same guard as everything else.
package api
