// Package chaos does harm at random to a mesh of real daemons, while people
// deploy, scale and remove apps, and says what became of what they were
// promised.
//
// Two hands do harm at once: one to the ways between sites (cuts of a site, of
// a half, one-way and flapping ones), one to the daemons and their disks
// (kill -9 of a daemon alone, with its supervisors, a power failure, an empty
// disk at the restart, a full disk). What they do follows from the seed; when
// exactly it meets what the mesh is doing does not.
//
// All the time, what really runs at a site is held to what the site has; in the
// end package load judges. A failure leaves a bundle of everything that the
// daemons can tell.
package chaos
