// Package sweep decides which files by digest a peer lets go, and makes sure that
// the mesh loses none that it needs.
//
// Usage: Choose says, from what is known of each file, what goes and in which
// order. A Guard stands between that and the disk: it holds what peers promise
// each other, what was used just now, and does the deleting.
//
// What goes, in this order:
//  1. what nothing in the mesh needs, once nobody has used it for the grace time;
//  2. when there is too little room: what the mesh needs but this peer need not
//     hold, the longest unused first, and of that only what enough other peers
//     have promised to hold;
//  3. and then what nothing needs and nobody has used for the short grace time.
//
// A promise binds for PromiseFor from when it is given: who promised lets the file
// not go until then, and who was promised lets its own go well before. So of two
// peers that want to let go at once at most one does, and a last copy of something
// that is needed stays, whoever dies or is cut off at any moment.
//
// Whoever asks for promises gets a bounded number, and none that it can prolong for
// ever: it can't fill this peer's disk by holding it to its word.
//
// Concurrency: Choose is a function. A Guard may be used from any goroutine.
package sweep
