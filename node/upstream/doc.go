// Package upstream brings images from registries that are outside of the mesh.
//
// # Usage
//
//	ref, err := upstream.Parse("nginx:1.29")          // docker.io/library/nginx
//	repo, err := registries.Open(ctx, ref, credentials)
//	digest, err := repo.Resolve(ctx)                   // what the tag stands for now
//	err = repo.Pull(ctx, store, digest, []string{"amd64"})
//
// # What is believed
//
// Nothing but digests: what a registry says that a tag stands for is taken, as
// there is nobody else to ask; every byte under that digest is verified before
// the store shows it. What a registry sends is bounded in size, and what it does
// not send in time. A blob that broke off goes on where it ended, now or at the
// next try.
//
// Plain HTTP is spoken to loopback only, and no registry elsewhere can have this
// peer ask one on loopback. Credentials go to the registry that they are for, and
// whom it names to get a token; they are in no error.
//
// # Errors
//
// ErrNotFound and ErrDenied are what a registry said; ErrLies is one that sent
// other bytes than those of a digest. Every other error is one that does not
// answer, or not now.
//
// Concurrency: everything may be used by several goroutines at once.
package upstream
