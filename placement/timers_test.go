package placement

import (
	"testing"
	"time"
)

// A deadline that is set for the very instant of the one that has just fired
// still wakes the core: nothing else may ever come.
func TestTimerOfTheSameInstant(t *testing.T) {
	timers := newTimers()
	at := 3 * time.Second
	timers.set(timerRoles, "", at)
	if w, ok := timers.wake(0); !ok || w.At != int64(at) {
		t.Fatalf("woken at %v, %t", w.At, ok)
	}
	if _, ok := timers.wake(time.Second); ok {
		t.Error("the same Timer was asked for twice")
	}
	if _, ok := timers.due(at); !ok {
		t.Fatal("nothing is due")
	}
	timers.set(timerStore, "x", at)
	if w, ok := timers.wake(at); !ok || w.At != int64(at) {
		t.Errorf("woken at %v, %t", w.At, ok)
	}
}
