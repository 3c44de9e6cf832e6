// Package clients finds the programs of others that tests run against the registry:
// what a machine has installed, and crane and oras as the module in tools pins them,
// which is apart so that what they need is no part of ours.
package clients
