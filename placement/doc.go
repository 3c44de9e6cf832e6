// Package placement is the nouns of Hansa and the deciding about them.
//
// It is pure: time, randomness and the view of the world are arguments. It
// starts no goroutine, opens no file and no socket, and imports no sibling.
// What it decides leaves as effects, which the node (or the simulation)
// carries out.
//
// # Usage
//
//	p := placement.New(cfg)
//	p.Load(table, key, value)            // all that Persist effects wrote
//	p.LoadTable(table, key, siblings)    // the replicated tables
//	effects := p.Begin(now)
//	for ev := range events {
//		carryOut(effects) // in order
//		effects = p.Step(now, ev)
//	}
//
// Each Persist is answered by a Persisted or a PersistFailed with its token,
// each Submit and Remove by an Answer with its ticket. The other effects have
// no answer that must come: what was asked for is asked for again until the
// events say that it is so.
//
// # Where things are
//
//	what a person writes     app.go, validate.go, resources.go, selector.go
//	what is signed           record.go; clock.go orders versions
//	between cores            message.go, codec.go; authority.go and limits.go
//	                         say what of it is refused
//	in and out               event.go, effect.go, gate.go; peer.go takes each
//	                         event to its part
//	a person's edit          edit.go, edit_answer.go, storing.go
//	replacing its slots      rollout.go; verdict.go and chronicle.go keep what came of it
//	driving one app          steward.go, then act.go, negotiate.go, plan.go,
//	                         reconcile.go, duplicates.go, release.go
//	when a site is cut off   policy.go; lost.go and sure.go: what is placed anew;
//	                         rollside.go, stopafter.go; outlook.go shows it
//	what the others say      members.go: who lives; catalog.go: the tables
//	keeping an app           keeper.go: intents on disk, terms granted; lists.go,
//	                         epochs.go and force.go: how its keepers change
//	this peer's own promises ledger.go, claim.go, admit.go, holding.go
//	what runs here           work.go, report.go
//	exclusive slots          exclusive.go, lease.go; lease_keep.go and lease_vote.go
//	                         vote, lease_hold.go holds, lease_place.go places
//	what a person is shown   views.go, query.go, inspect.go
//	two tiers of gossip      region.go, region_plan.go: digests folded by region, for
//	                         docs/SCALE.md; no daemon uses them yet
//
// # Concurrency
//
// None: one goroutine at a time calls a Peer, its queries included. The
// functions of Config are called on that goroutine. What queries return may be
// kept, and must not be changed.
//
// # Invariants
//
//   - Nothing leaves that rests on a write that is not on disk (gate.go).
//   - The same events, at the same times and from the same seed, give the same
//     effects: no clock is read, and no map is ranged over where its order could
//     show.
//   - Everything is level-triggered: a message that is lost, repeated or late
//     costs time and nothing else.
//   - What another peer says is held against who may say it, and bounded, before
//     anything is counted with it.
//
// Ledger, Keeper and Steward say what each of them holds to besides.
//
// # Debugging
//
// Dump writes all that a core knows, Inspect says what a message is about, and
// Open names what keeps the mesh from being settled. testbed/sim runs many
// cores in virtual time and replays a seed; Tuning.Break switches one safety
// rule off, to show that the simulation would find it.
package placement
