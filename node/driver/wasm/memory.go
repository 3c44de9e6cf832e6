package wasm

import (
	"sync"

	"github.com/tetratelabs/wazero/experimental"
)

// account is the memory of one instance: what it reserved, and its linear memory,
// which grows out of the task's limiter. It is its own allocator.
type account struct {
	limiter *limiter

	mu       sync.Mutex // guards what follows
	reserved int64
	size     int64 // of the linear memory now
	denied   bool  // a growth was refused
	space    []byte
	mapped   bool
}

var (
	_ experimental.MemoryAllocator = (*account)(nil)
	_ experimental.LinearMemory    = (*account)(nil)
)

// Allocate implements experimental.MemoryAllocator: address space for all that
// could be had is taken at once, so that growth never moves or copies, and
// pages become real when the guest touches them.
func (a *account) Allocate(_, limit uint64) experimental.LinearMemory {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.space, a.mapped = reserveSpace(min(limit, uint64(a.limiter.total)))
	return a
}

// Reallocate implements experimental.LinearMemory; nil refuses the growth.
func (a *account) Reallocate(size uint64) []byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	if size > uint64(len(a.space)) {
		a.denied = true
		return nil
	}
	if over := int64(size) - a.reserved; over > 0 {
		if !a.limiter.grow(over) {
			a.denied = true
			return nil
		}
		a.reserved += over
	}
	a.limiter.real.Add(int64(size) - a.size)
	a.size = int64(size)
	return a.space[:size:size]
}

// Free implements experimental.LinearMemory. It does nothing: wazero may call
// it while the guest is still being unwound; release frees.
func (a *account) Free() {}

// release gives everything back, once nothing of the guest runs any more. It
// returns the largest size that there was (memory never shrinks).
func (a *account) release() (peak int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.mapped {
		releaseSpace(a.space)
	}
	a.space = nil
	a.limiter.real.Add(-a.size)
	a.limiter.release(a.reserved)
	return a.size
}

// begin forgets what was denied to earlier calls.
func (a *account) begin() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.denied = false
}

// settle makes the reservation that of an instance between two calls: what it
// has, and at least what is usual, which its next call may need. It reports
// whether that was to be had.
func (a *account) settle(usual int64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	want := max(a.size, min(usual, a.limiter.total))
	if more := want - a.reserved; more < 0 {
		a.limiter.shrink(-more)
	} else if more > 0 && !a.limiter.spare(more) {
		return false
	}
	a.reserved = want
	return true
}

func (a *account) used() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.size
}

func (a *account) wasDenied() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.denied
}
