// Command hansa is a peer of a mesh, and the tool to talk to one. All of it is
// in package cli; main only hands the process over.
package main
