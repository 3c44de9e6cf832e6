package runner

import (
	"context"
	"fmt"
	"time"

	"github.com/hansa-mesh/hansa/node/driver"
	"github.com/hansa-mesh/hansa/placement"
)

const (
	// diskEvery is how often work is asked for what it takes of its disk.
	diskEvery = 5 * time.Second
	// diskRest is how many times as long as asking took the next asking waits:
	// a million files are not counted all the time.
	diskRest = 20
	// diskMax is how long asking for one allocation may take.
	diskMax = time.Minute
)

// diskUser is a run whose disk is limited.
type diskUser struct {
	id    placement.AllocationID
	task  *task
	life  life
	limit int64
}

// watchDisk ends the work of a driver that takes more disk than was granted to it,
// until ctx ends.
func (r *Runner) watchDisk(ctx context.Context, d driver.Driver, m driver.DiskMeter) {
	rest := diskEvery
	for {
		timer := time.NewTimer(rest)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		began := time.Now()
		for _, u := range r.diskUsers(d.Name()) {
			asking, stop := context.WithTimeout(ctx, diskMax)
			used, err := m.DiskUsed(asking, DriverID(u.id))
			stop()
			if err == nil && used > u.limit { // what can't be said now is asked again
				r.overDisk(u, used)
			}
		}
		rest = max(diskEvery, diskRest*time.Since(began))
	}
}

func (r *Runner) diskUsers(name string) []diskUser {
	r.mu.Lock()
	defer r.mu.Unlock()
	var users []diskUser
	for id, t := range r.tasks {
		limit := int64(t.spec.Spec.Resources.Disk)
		if t.driver == name && limit > 0 && t.run != (life{}) && t.run != t.ended {
			users = append(users, diskUser{id, t, t.run, limit})
		}
	}
	return users
}

// overDisk ends a run as if it had ended by itself: the core counts that, starts it
// again, and after some times elsewhere.
func (r *Runner) overDisk(u diskUser, used int64) {
	t := u.task
	r.mu.Lock()
	s := t.reported
	r.mu.Unlock()
	s.State, s.Reason = placement.AllocUnhealthy, fmt.Sprintf("its files take %d MiB, its disk is %d MiB: raise resources.disk, or have it write less", used>>20, u.limit>>20)
	r.reportIf(u.id, t, s, func() bool {
		if t.want == wantStop || t.want == wantEnd || t.run != u.life || t.run == t.ended {
			return false
		}
		t.want, t.ill = wantEnd, s.Reason
		r.wake(u.id, t)
		return true
	})
}
