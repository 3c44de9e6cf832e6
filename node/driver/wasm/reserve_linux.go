package wasm

import "golang.org/x/sys/unix"

// noReserve lets address space be taken that the machine could not back at
// once: a call gets what its grant could grow to, and touches little of it.
const noReserve = unix.MAP_NORESERVE
