package driver

import "sync"

// Locks has a lock for each task's ID, for drivers that must not start and stop
// one task at the same time. It holds only those that are in use; the zero value
// is ready.
type Locks struct {
	mu   sync.Mutex // guards each
	each map[string]*idLock
}

type idLock struct {
	sync.Mutex
	users int // who hold it or wait for it; guarded by Locks.mu
}

// Lock waits for the lock of an ID and returns what gives it back.
func (l *Locks) Lock(id string) (unlock func()) {
	l.mu.Lock()
	if l.each == nil {
		l.each = map[string]*idLock{}
	}
	one := l.each[id]
	if one == nil {
		one = &idLock{}
		l.each[id] = one
	}
	one.users++
	l.mu.Unlock()
	one.Lock()
	return func() {
		one.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if one.users--; one.users == 0 {
			delete(l.each, id)
		}
	}
}
