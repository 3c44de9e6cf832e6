// Package links is how good the ways between sites are, and the packets that
// are on them: a matrix of delays, losses and cuts, and one queue by due time.
// The relay and the namespaces' switch carry packets by it.
package links
