// Package docker runs containers by means of a Docker Engine or Podman on this
// machine, through their HTTP API.
//
// # Usage
//
//	d, err := docker.New(docker.Config{Dir: dir, Scope: mesh + "/" + peer, Events: onEvent})
//	go d.Run(ctx)
//
// The engine is found where DOCKER_HOST says, or else at the usual sockets; it
// must run on this machine, since folders are mounted into its containers. It
// may be absent, come later, die and come back: Probe says how things stand,
// and what an engine that died did meanwhile is found when it is back.
//
// # How a container is kept
//
//	       events, lists, logs
//	daemon ◀────────────────── engine ── owns ──▶ container hansa-<scope>-<task>-<start>
//	   │ task.json, logs/, files/                 labels: scope, task, and all that
//	   └── tasks/<id>/                            a daemon needs to adopt it
//
// Each start makes a new container, so that files, environment and ports are
// what the task says; the one before is removed once the new one runs. A
// container that ended stays until Stop. Restarting is the daemon's, never the
// engine's, and the image's own health check is switched off: the mesh checks.
//
// The labels are the truth of what runs; task.json remembers a container that
// somebody removed, so that it is reported as failed and not forgotten. Only
// containers with this driver's scope are listed or touched: two daemons at one
// engine don't see each other's.
//
// # Output
//
// The engine stamps each line and keeps a bounded log; the driver copies it into
// logs of its own (package logs), which are kept after Stop within a budget.
// After a restart of daemon or engine the copy goes on shortly before where it
// ended, and leaves out what it has. What a container writes in the absence of
// the daemon is kept up to twice Task.LogMax.
//
// # Images
//
// An image of the mesh (Container.Digest) is pulled by its digest from this very
// peer, unless one with that digest is present, wherever it came from. Any other
// image that is present is used as it is; else it is pulled, with the task's
// credentials if it has some. A pull goes on when the Start that began it is
// given up, and the next Start waits for the same one; it fails when the
// registry says nothing for a while. The id of the image that runs is noted, and
// a restart in place uses it again while it is present: a tag that moved
// meanwhile changes nothing.
//
// What was pulled from this peer is listed (images.json), and removed again when
// PruneImages is told to and no container uses it, whoever's; nothing else is ever
// removed, and of an image that has got another name only the one that it was pulled
// by.
//
// # Files, volumes, networks
//
// Files are bind-mounted, read-only. Secret ones lie on a tmpfs of the host
// (Config.SecretsDir, /dev/shm/hansa-…), in a folder that only the daemon's user
// can enter, and go with the task. Volumes are bind mounts. Tasks that name the
// same network share a bridge of the engine, on which each is known by its
// alias; it is made with the first and removed with the last of them.
//
// # Fences
//
// An engine can't end a container at a deadline without the daemon's help, so
// Probe says Fence: false, and exclusive work does not come here.
//
// # Concurrency
//
// Nothing waits for the network while a lock is held, apart from the lock of the
// one task that is being started or stopped, and that of an image that is being
// removed. Pulls hold none.
package docker
