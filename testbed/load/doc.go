// Package load is people who use a mesh while harm is done to it, and the
// judge who holds the mesh to what it promised them.
//
// # Usage
//
// People deploy, scale and remove apps through Doors (a peer's admin API, or
// its backend in the same process), several of them the same names, with
// conditions and idempotency keys. Each thing that they did is in the Book.
// After the last fault Finish waits until the mesh calls itself settled and
// holds every peer's answers, and the work that was found running, against the
// Book.
//
// # The rule
//
// What was acknowledged is there in the end, or something stands that was not
// wholly before it: a version whose answer came before the question of an
// acknowledged one has no business to survive it. In a conflict, some side must
// pass. Real time suffices for that; which of two overlapping edits won is the
// mesh's affair.
//
// # Concurrency
//
// A Book may be used from many goroutines. Everything works inside a synctest
// bubble, where all times are virtual.
package load
