package sim

// open is seeds that show something which is not put right yet, and what. They
// are left out of TestSim, and replayed with -sim.seed; the list is to be empty.
var open = map[uint64]string{
	2570: "a host runs more than it has: 1700m of 1500m",
	2968: "a slot runs nowhere after all has healed",
}
