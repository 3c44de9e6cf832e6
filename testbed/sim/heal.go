package sim

import "time"

// heal ends all faults: links, disks, clocks and hosts are well again, who is
// down or has not joined comes up, and who runs an older release is upgraded.
func (w *world) heal() {
	w.calm = true
	w.tell(nil, "all heal", "", "")
	clear(w.cut)
	for _, p := range w.peers {
		p.disk.full, p.disk.slow = false, 0
		p.failing = false
		w.thawed = max(w.thawed, p.frozen)
		p.lag, p.frozen, p.skew = 0, min(p.frozen, w.now), p.skewed
		for _, h := range p.hosts {
			p.back(h)
		}
		p.superviseAll() // those of a machine that was to sleep for longer
		clear(p.judged)
		p.absent = false
		if p.old {
			p.old = false
			if p.core != nil {
				p.crash(false)
			}
		}
		p.tellHosts()
		w.after(w.between(0, 2*time.Second), p.boot)
	}
}
