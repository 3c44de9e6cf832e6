// Package registry serves the OCI distribution protocol, version 1.1, at every
// peer: whoever can push to a registry or pull from one can do so at any peer of
// the mesh, and finds the same images everywhere.
//
// It holds nothing itself. Bytes are in the local store (Blobs), and come from
// other peers when they are not (Mesh); names are intents of the mesh (Names),
// so a tag that was pushed here is there at every peer, and when two sides of a
// cut moved one tag the conflict is shown like that of an app.
//
// A name is REPOSITORY:TAG, or REPOSITORY@DIGEST for a manifest that was pushed
// by its digest, and for one that refers to another (a signature, say). What no
// name needs can still be read by its digest until the mesh collects it, which is
// how layers, configs and the manifests of an index come before the name of the
// whole. Blobs belong to no repository: a blob that the mesh has is not pushed
// twice, and may be mounted from anywhere.
//
// # Concurrency
//
// A Registry is safe for many requests at once. It keeps no state but counters.
//
// # Invariants
//
// A name is put only when every blob under it is here, verified; the answer to
// a push leaves after Names.Put, which answers once the copies are there. A blob
// that a name needs is not deleted.
package registry
