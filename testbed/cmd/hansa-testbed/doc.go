// Command hansa-testbed makes things happen to meshes: the demo tells, on a
// mesh that it starts, what Hansa is for.
package main
