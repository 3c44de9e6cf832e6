//go:build !unix

package wasm

func reserveSpace(size uint64) (space []byte, mapped bool) { return make([]byte, size), false }

func releaseSpace([]byte) {}
