//go:build !linux

package wasm

import "time"

// measured runs f and returns how long that took: at least what it was on a
// core.
func measured(f func() error) (time.Duration, error) {
	begin := time.Now()
	err := f()
	return time.Since(begin), err
}
