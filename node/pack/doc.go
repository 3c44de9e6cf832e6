// Package pack makes one package of an app in all its forms, and carries packages
// between folders, tar files and registries.
//
// A package is an OCI index, so that whatever copies images copies it:
//
//	index                 application/vnd.hansa.package.v1+json
//	├── the app           its manifest; what it names is in the package: "@sha256:…"
//	├── files             modules, programs, kernels: one layer each, the file itself
//	├── disks             of machines, in chunks (package disk)
//	└── images            of containers, as they were, each architecture
//
// A file is its layer, and so has the digest that apps name files by: what a
// registry of the mesh holds is at once what a peer runs.
//
// # Usage
//
//	root, err := pack.Build(ctx, apps, target, pack.Options{Images: …})
//	err := target.Tag(ctx, root.Descriptor, root.Data, ref)
//	p, err := pack.Read(ctx, source, desc)     // the apps of a package
//	apps, err := p.Apps(ref)                   // … to be deployed from there
//	_, err := pack.Copy(ctx, source, desc, target)
//
// # Invariants
//
// Whatever is read is verified by its digest and length before it is used, and a
// manifest is put where all that it is made of is already. What is there already
// is not sent again, and so what was interrupted goes on.
//
// Concurrency: a Source and a Target may be used by several goroutines at once.
package pack
