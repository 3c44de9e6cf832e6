// Package failover measures, on a mesh of real daemons, how long it takes until
// the work of a site that lost its power runs elsewhere, and what that time goes
// into:
//
//	power ──detect──▶ dead ──decide──▶ decision ──place──▶ granted ──start──▶ running
//
// "dead" is the verdict at the peer that decided, which has to take the app over
// first where the lost site drove it; all moments are the daemons' own, from
// what they remember of members, decisions and events, on one machine's clock.
package failover
