package sim

import (
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/hansa-mesh/hansa/placement"
)

// lock is what the leases of one slot are to be: a lock whose holders get rising
// numbers.
type lock struct {
	held bool
	by   grant // who has, or had it last
}

// lockModel says which histories a lock can have (Herlihy and Wing, 1990). An
// input is a leaseOp; an acquire lasts from its first request to when the work
// starts, a release is where the work ends.
var lockModel = porcupine.Model{
	Init: func() any { return lock{} },
	Step: func(state, input, _ any) (bool, any) {
		s, op := state.(lock), input.(leaseOp)
		switch op.what {
		case "acquire":
			// A restart in place is under the same right.
			higher := op.by.number > s.by.number || op.by == s.by
			return !s.held && higher, lock{true, op.by}
		case "renew":
			return s.held && s.by == op.by, s
		}
		return s.held && s.by == op.by, lock{false, op.by}
	},
}

// linearizable says whether the lease of every slot was a lock.
func linearizable(o *leaseOracle) (slots int, broken []slotKey) {
	bySlot := map[slotKey][]porcupine.Operation{}
	for _, op := range o.history {
		bySlot[op.key] = append(bySlot[op.key], porcupine.Operation{Input: op, Call: int64(op.call), Return: int64(op.end)})
	}
	for key, ops := range bySlot {
		if porcupine.CheckOperationsTimeout(lockModel, ops, 20*time.Second) == porcupine.Illegal {
			broken = append(broken, key)
		}
	}
	return len(bySlot), broken
}

// leasePlan is the plan of a seed, with exclusive components.
func leasePlan(seed uint64) Plan {
	p := PlanOf(seed)
	p.Exclusive = true
	return p
}

const (
	leaseSeeds      = 60
	leaseSeedsShort = 15
)

// The histories of all leases, over true time, are those of locks with rising
// numbers.
func TestLeasesAreLocks(t *testing.T) {
	t.Parallel()
	seeds, slots, ops := leaseSeeds, 0, 0
	if testing.Short() {
		seeds = leaseSeedsShort
	}
	for seed := uint64(1); seed <= uint64(seeds); seed++ {
		w := simulate(seed, leasePlan(seed), nil)
		n, broken := linearizable(w.oracle.leases)
		slots, ops = slots+n, ops+len(w.oracle.leases.history)
		for _, key := range broken {
			t.Errorf("seed %d: slot %s[%d] of %s was no lock", seed, key.component, key.slot, key.uid)
		}
	}
	t.Logf("%d slots, %d acquires, renewals and releases", slots, ops)
	if slots == 0 || ops < 10*seeds {
		t.Error("hardly anything ran: this shows nothing")
	}
}

// A checker of histories that finds nothing wrong with broken leases would find
// nothing.
func TestBrokenLeasesAreNoLocks(t *testing.T) {
	for _, fault := range []placement.Fault{placement.FaultSkipLease, placement.FaultIgnoreExpiry} {
		found := false
		for seed := uint64(1); seed <= leaseSeeds && !found; seed++ {
			plan := leasePlan(seed)
			plan.Tune.Break = fault
			_, broken := linearizable(simulate(seed, plan, nil).oracle.leases)
			found = len(broken) > 0
		}
		if !found {
			t.Errorf("%s: every history is one of locks", fault)
		}
	}
}

// TestMutationLeases breaks one rule of leases at a time: each lets a slot run
// twice, or under numbers that do not rise, or is seen where it would.
func TestMutationLeases(t *testing.T) {
	for _, fault := range []placement.Fault{placement.FaultSkipLease, placement.FaultIgnoreExpiry, placement.FaultLeaseRestart, placement.FaultNewVotes} {
		t.Run(string(fault), func(t *testing.T) {
			t.Parallel()
			caught(t, func(seed uint64) []string {
				plan := leasePlan(seed)
				plan.Tune.Break = fault
				failed := Run(seed, plan, nil).Failed
				if len(failed) > 0 && !strings.Contains(failed[0], " starts ") && !strings.Contains(failed[0], "votes on a lease") {
					return nil // it shows something else
				}
				return failed
			})
		})
	}
}
