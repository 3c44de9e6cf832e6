// Package driver defines what runs work: a small interface that every runtime
// (wasm, process, docker, qemu, kubernetes, fake) implements, and the nouns
// that cross it.
//
// # Usage
//
// A driver is made by its package's New(Config), which starts nothing. Run
// owns the driver's goroutines and blocks until its context ends. Start, Stop,
// List and Logs may be called at any time after New, but exits are noticed
// and reported only while Run runs.
//
//	d, err := process.New(process.Config{Dir: dir, Events: onEvent})
//	go d.Run(ctx)
//	left, err := d.List(ctx)        // what an earlier daemon left running
//	st, err := d.Start(ctx, task)   // idempotent for one Task.ID
//	err = d.Stop(ctx, task.ID, 0)   // 0 is the task's own grace
//
// What an implementation must do is the suite in package drivertest, which
// every driver passes; where a driver can't (a function has no exit code) its
// harness says so and the test shows as skipped.
//
// # Life of a task
//
//	Start ─▶ starting ─▶ running ──────────▶ exited (ended by itself, or by a signal)
//	             │          │ Stop              ▲
//	             │          ▼                   │ after grace: kill
//	             │       stopping ──────────────┘
//	             └▶ failed (never ran, or the runtime lost it)
//
// A task that exited or failed by itself stays in List, with its exit code,
// until Stop acknowledges it: a daemon that was away learns of the end from
// the first List after its return. Start of an ID that ended starts it once
// more in the same place (a restart; Status.Starts counts them). After Stop
// has returned nil the ID is no longer listed; its logs stay readable within
// the driver's budget for what has ended. Halt, where there is one, ends a task
// as if by itself, for a restart that finds again what the task had.
//
// # Fences
//
// A task with a Fence ends at a deadline whatever happens to the daemon: not
// for want of being told to run on, but because somebody who needs nothing of
// the daemon ends it, begins early enough to be done in time (FenceMargin), and
// dies only together with the task. Extend moves the deadline. A task that it
// ended is StateExited, and Fenced says so. What can't be kept is that a
// machine which resumes from suspend after the deadline runs the task until the
// kill has been carried out (FenceResume); Overrun then says for how long.
//
// # Environment
//
// The node sets these in Task.Env for every task; drivers add no names of
// their own apart from HANSA_PORT_<NAME> and HANSA_FENCE, which Environment
// derives from Task.Ports and Task.Fence:
//
//	HANSA_MESH        id of the mesh
//	HANSA_SITE        name of the site
//	HANSA_PEER        name of the peer
//	HANSA_NAMESPACE   namespace of the app
//	HANSA_APP         name of the app
//	HANSA_COMPONENT   name of the component
//	HANSA_SLOT        number of the slot, decimal
//	HANSA_ALLOCATION  id of the allocation (claim and slot)
//	HANSA_PORT_<NAME> number of the port to listen on, for each named port;
//	                  the name in upper case, what is not A-Z or 0-9 as "_"
//	HANSA_FENCE       number of the right to run, for exclusive work: it rises
//	                  with each grant, for stores that refuse lower ones
//
// A task never sees the daemon's own environment.
//
// # Concurrency
//
// All methods are safe for concurrent use. Events are delivered in order for
// one task, from a goroutine of the driver that holds no lock, so a receiver
// may call the driver back; it should return quickly, since it delays the
// next event. They are level-triggered: each carries the whole Status, states
// that a slow receiver missed are skipped, and when Run begins it first
// reports the state of every task that there is.
//
// # Invariants
//
//   - One ID is at most one running task, whatever is called how often, in
//     whatever order, and across restarts of the daemon.
//   - Stop returns nil only when nothing of the task runs any more.
//   - A driver touches only what carries its own marks: it never adopts or
//     kills by name or by a bare process id.
package driver
