// Package placement is the nouns of Hansa and the deciding about them.
//
// It is pure: time, randomness and the view of the world are arguments. It
// starts no goroutine, opens no file and no socket, and imports no sibling.
// What it decides leaves as effects, which the node (or the simulation)
// carries out.
package placement
