//go:build unix

package wasm

import "golang.org/x/sys/unix"

// reserveSpace maps size bytes that cost nothing until they are touched.
// Unlike memory of the Go heap they are given back at once, and the garbage
// collector does not have to know them. A machine that has no room for them
// gives none: the call fails, and not the daemon.
func reserveSpace(size uint64) (space []byte, mapped bool) {
	if size == 0 {
		return nil, false
	}
	space, err := unix.Mmap(-1, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|noReserve)
	return space, err == nil
}

func releaseSpace(space []byte) {
	if err := unix.Munmap(space); err != nil {
		panic("wasm: unmap what was mapped: " + err.Error()) // a broken invariant
	}
}
