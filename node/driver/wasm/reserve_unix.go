//go:build unix && !linux

package wasm

// noReserve is the default elsewhere.
const noReserve = 0
