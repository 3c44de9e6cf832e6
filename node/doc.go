// Package node is the daemon: it wires placement, gossip, transport and store.
package node
