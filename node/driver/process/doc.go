// Package process runs programs on the bare machine, as the process runtime of
// a server.
//
// # Usage
//
// Every program has a supervisor of its own: the same binary, executed again.
// So the daemon's main must hand over before anything else:
//
//	if process.IsSupervisor(os.Args) {
//		os.Exit(process.SupervisorMain(os.Args))
//	}
//
// and tests that start programs do the same in TestMain.
//
// # How a program is kept
//
//	daemon ── spawns, signals, watches ──▶ supervisor ── owns ──▶ program and all that it forks
//	   │  spec.json, stop.json ▲               │ logs/, run.json, exit.json
//	   ├───────────── tasks/<id>/ ─────────────┤
//	   └── in memory: what the program gets ───┘
//
// The supervisor is in a session of its own, holds a lock on the task's folder
// (the daemon takes it and passes it on, so that none is ever on its way
// unseen), reads the program's output into rotated logs, adopts its orphans,
// and writes the exit code down when it ends. It needs nothing of the daemon:
// a daemon that dies breaks no pipe and loses no exit code, and the next one
// finds locks that are held (running), exit files (ended), or neither (the
// supervisor was killed, or the machine went down: failed). If the supervisor
// dies the kernel kills the program with it; what the program forked is then
// known by its cgroup, or not at all where the machine has none.
//
// Supervisors are in the daemon's own cgroup. Under systemd the unit therefore
// needs KillMode=process, or a stop of the daemon ends all programs.
//
// A process is known by boot id, process id and start time, and signalled
// through a pidfd, so that a recycled id is never adopted or killed.
//
// The program gets exactly the task's environment (with PATH, HOME and TMPDIR
// unless they are set), /dev/null as input, and a session of its own. Stop sends
// the stop signal to its process group, and after the grace kills the group, the
// cgroup and all adopted orphans. What a program leaves behind when it ends by
// itself is killed too.
//
// Environment and files may be secret, so they are on no disk: the daemon hands
// them to the supervisor in a memfd. The supervisor keeps there how the program
// was launched, without its files, for commands that are run beside it (Exec),
// by whichever daemon there is then.
//
// # What a program has of its own
//
// The launcher, between supervisor and program, makes all this and then becomes
// the program. If the daemon is root:
//
//   - a user without privileges, one for each app (a number from 0x48000000 up,
//     by namespace and app), so that a volume stays readable from one allocation
//     to the next, and apps can't touch each other. It never gains privileges.
//     Process.User names another, which may be root;
//   - a mount namespace: the task's files and volumes appear at their paths, the
//     files in memory (counted against its limit); /tmp is its own, unless the
//     daemon's folder or the program lies in the machine's; the daemon's data is
//     hidden but for the task's own folders. See view for how a file appears in
//     a folder without being written to it;
//   - a System V IPC namespace. The network is the machine's.
//
// If the daemon is not root, programs run as its user, and other users are
// refused; with files or volumes they get a mount namespace by means of a user
// namespace, and commands beside them need nsenter(1) of util-linux, since a Go
// program can't enter one. Where no namespaces can be made, tasks with files or
// volumes are refused, as invalid: it stays so. Probe says which of the three
// holds, as the limit "isolation".
//
// The disk is not limited here: DiskUsed says what a program takes, and the runner
// ends who takes more than its own. A program without one can fill the machine's.
//
// # Fences
//
// An exclusive program (driver.Task.Fence) runs in a process namespace of its
// own, below a warden:
//
//	daemon ──▶ supervisor ──▶ warden (process 1) ──▶ program and all that it forks
//	  └────────── the deadline, one word of memory ───┘
//
// See deadline for how it is shared, and warden for how the work ends with it.
// All three hold it, so any two may be stopped; supervisor and warden die only
// together with the work. Such a program sees other process numbers and a /proc
// of its own, and its mounts are its own. Where no namespaces can be made, Probe
// says that this driver does not fence, and such a task is refused.
//
// # Limits
//
// CPU, memory and the number of processes are limited through cgroups, in
// whichever of the layouts v1, v2 and hybrid the machine has. The files are
// few and written here directly: in a hybrid layout the limits are v1's and
// cgroup.kill is v2's, for one and the same task, and each supervisor is this
// binary once more, so what it links and initialises costs for every program.
// Probe says what is not enforced and why; the task's log says so too.
//
// # Folders
//
//	Dir/tasks/<id>/    a task that runs, or ended and was not acknowledged
//	Dir/stopped/<id>/  logs of tasks that were stopped, the oldest deleted first,
//	                   and what could not be deleted of them, until Collect
//
// Only Linux is supported; elsewhere Probe says so.
package process
