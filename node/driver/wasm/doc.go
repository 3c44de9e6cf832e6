// Package wasm runs functions: WASI preview 1 modules in wazero, called with HTTP
// as CGI programs are (RFC 3875).
//
// # Usage
//
// A function is a module built with, for instance,
//
//	GOOS=wasip1 GOARCH=wasm go build -o f.wasm .
//
// For every request a fresh instance of it is made, its _start is called, and
// the instance is thrown away. The request comes as meta-variables in the
// environment (REQUEST_METHOD, SCRIPT_NAME, PATH_INFO, QUERY_STRING,
// CONTENT_TYPE, CONTENT_LENGTH, SERVER_*, REMOTE_*, HTTP_*) beside the task's
// own variables, and the body on standard input; the answer is headers (an
// optional "Status: 404 Not Found" among them), a blank line and the body on
// standard output. Standard error goes to the task's log. The function has no
// files, no sockets and no arguments. It never sees Authorization, Cookie or
// Proxy headers.
//
// A task with a handler is a module that stays in memory (a reactor): the handler
// is called for each request, in an instance that answers one at a time. The
// meta-variables, which can't be in its environment, come before the body on
// standard input, as SCGI has them (scgi.go). An instance is used again only after
// a call that went well, so that nothing has to be guessed about its state.
// docs/FUNCTIONS.md is for those who write guests.
//
// CheckModule says early, and in words, why a file can't be run.
//
// # Limits
//
// The memory that a task was granted is shared by the instances that run at
// one time: each call reserves what calls of this module usually need, growth
// takes from what is left, and a growth beyond it fails inside the guest, as
// it would on a small machine (answer 507 if that ends it). So concurrency
// follows from memory. Instances that stay hold what they grew to until they end;
// idle ones end when one at work wants to grow, and after a while, but for the
// last (limiter.go). Calls that find neither memory nor an instance wait in a
// bounded queue, then get 503 with Retry-After. A call that runs past its timeout is killed wherever it
// is (504), also while its reader is slow. There is no limit on CPU but those:
// wazero has no fuel. Not counted as memory are a guest's call stack, which
// wazero bounds (50 MB), and its tables, which are bounded here (16 MiB).
//
// A request's body up to 64 KiB is read before the instance is made, so that a
// slow client holds no memory; a larger one is streamed. A client that takes
// longer over that than the function's timeout gets 408. A body whose length
// the client did not say gets CONTENT_LENGTH if it was at most that long, and
// is streamed without it otherwise.
//
// An answer needs a Content-Type, a Status or a Location. A Location alone is
// a 302 to the client, also where RFC 3875 (6.2.2) would have the server ask
// itself; a type that is not said is not guessed.
//
// # Concurrency
//
// Compiled code is shared by all allocations of one digest, and kept on disk
// for the next start. Functions can't outlive the daemon: when Run returns all
// calls were ended, and a new driver lists nothing.
//
// Exclusive functions are ended at their deadline, as driver.Fencer says: see
// fence.go for what holds it. Such a function stays listed, as one that exited,
// until Stop.
//
// # Debugging
//
// Stats counts calls by their end, Requests by component and with the time they
// took, Usage by task. What a trap printed is in the task's log,
// under the stream "hansa".
package wasm
