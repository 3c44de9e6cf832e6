// Package secrets keeps values that only the peers of some sites can read:
// passwords, tokens, keys.
//
// # How
//
// A namespace has a key pair. Its public half stands in a record that every peer
// has, so that any peer can set a secret; its private half stands there too, once
// for each peer that may have it, sealed to that peer's own key (HPKE, RFC 9180:
// X25519, HKDF-SHA256, AES-256-GCM). A secret is a record sealed to the key of
// its namespace, and bound to the namespace, the name and the key, so that none
// can be passed off for another.
//
//	sites/NS          which sites may hold the key; without one, all
//	key/NS/PUBLIC     the key's public half, its number, and a wrap for each peer
//	secret/NS/NAME    the value, sealed to one of the keys
//
// All three are records of one replicated table, signed by the peer that wrote
// them. What is said at the same time on two sides of a cut stands side by side:
// of values the one set last counts, of sites those that are on all lists, of
// wraps all, and of keys the one with the highest number.
//
// # Who does what
//
// [Vault.Set] makes a namespace's first key. Everything after that is done again
// and again by [Vault.Run] of one peer that has the key, the first by id of those
// that are alive; two that both believe to be the first do no harm. A peer that
// came gets a wrap. When one that has a wrap may not have it any more, because it
// was shut out of the mesh or its site was, a key with the next number is made
// without it. What is sealed to an older key is sealed to the newest. Older keys
// stay for a while: a side that is cut off may still be sealing to them.
//
// # What is not promised
//
// A peer that had the key may remember all that it opened: values have to be
// changed, too. Peers are trusted with the table as with every other: one that
// was let in can change a list of sites, as it can deploy an app that prints a
// secret.
//
// # Concurrency
//
// A Vault may be used from any goroutine. Values are in memory for as long as
// their callers keep them; keys of namespaces for as long as the Vault.
//
// # Debugging
//
// No error, log line or record holds a value. [Vault.Describe] is what
// /debug/state shows.
package secrets
