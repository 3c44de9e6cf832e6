// Package process is a mesh of real hansa daemons on one machine, behind a
// relay that delays, drops and cuts: the third tier of tests. Sites are
// killed with SIGKILL, their work with them. In network namespaces each may have a
// Docker Engine of its own.
package process
