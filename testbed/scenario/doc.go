// Package scenario is the story that Hansa must live up to, run against any
// mesh of three sites: deploy once at any peer, lose a site, cut a site off,
// heal. The demo tells it with a dev mesh; a test runs it with real daemons
// that are killed with SIGKILL behind a relay that cuts.
//
// It speaks to the mesh as a person would, by the hansa command, and checks
// what it sees by the HTTP API.
package scenario
