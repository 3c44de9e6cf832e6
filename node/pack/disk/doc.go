// Package disk cuts the disk of a virtual machine into chunks, and puts it
// together again.
//
// A disk that was changed a little is to travel a little: it is cut where its
// content says so, so that what stays the same is cut into the same chunks even
// where it has moved, as the clusters of a qcow2 file do. Each chunk is
// compressed with zstd and is a layer of an OCI artifact; the artifact's config
// is the index: how long the disk is, its digest, and which chunks it is made
// of. What is all zeros is in the index alone.
//
// # Usage
//
//	index, layers, err := disk.Cut(ctx, file, size, keep) // keep stores a layer
//	index, err := disk.Parse(config, manifest.Layers)
//	err := index.Join(ctx, open, file)
//
// # Invariants
//
// Join believes nobody: a chunk ends where the index says, the chunks are as
// long as the disk, the disk is no longer than SizeMax, and the whole has the
// digest that the index names, or nothing is kept. Memory is a few chunks'
// windows, whatever the size.
//
// Cut is deterministic: the same disk gives the same layers on every machine, as
// long as the compressor stays what it is.
//
// Concurrency: functions only. Cut compresses on several goroutines, which have
// ended when it returns.
package disk
